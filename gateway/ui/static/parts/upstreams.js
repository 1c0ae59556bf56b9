// Upstreams with their state, and the queues of the gateway with what needs attention.
import { html } from "../lib/dom.js";
import { formatBytes, formatMilliseconds, formatNumber } from "../lib/format.js";
import { t } from "../lib/i18n.js";
import { labelValues, quantileOf, readHistogram, sumOf } from "../lib/metrics.js";
import { Badge } from "./basic.js";

const MOST_MODELS = 6;

/** `upstreams`: the answer of /v1/gateway/upstreams; null for a key without the right `admin`. */
export function Upstreams({ upstreams, metrics }) {
  const rows = upstreams ?? labelValues(metrics, "gateway_upstream_open", "upstream").map((name) => ({
    name, kind: null, models: null, is_open: sumOf(metrics, "gateway_upstream_open", { upstream: name }) > 0,
  }));
  if (!rows.length) return html`<p class="muted">${t("health.no_upstreams")}</p>`;
  return html`
    <div class="table-box" tabindex="0" role="region" aria-label=${t("health.upstreams")}>
      <table>
        <thead><tr><th scope="col">${t("health.name")}</th><th scope="col">${t("health.breaker")}</th>
          ${upstreams && html`<th scope="col" class="if-middle">${t("health.kind")}</th><th scope="col" class="if-middle">${t("health.models")}</th>`}
          <th scope="col" class="number">${t("health.failures")}</th><th scope="col" class="number">${t("health.answers")}</th><th scope="col" class="number if-middle">p50</th><th scope="col" class="number if-middle">p95</th></tr></thead>
        <tbody>${rows.map((row) => html`<${Upstream} key=${row.name} row=${row} metrics=${metrics} isWhole=${upstreams !== null} />`)}</tbody>
      </table>
    </div>`;
}

function Upstream({ row, metrics, isWhole }) {
  const labels = { upstream: row.name };
  const times = readHistogram(metrics, "gateway_upstream_first_byte_seconds", labels);
  const failures = sumOf(metrics, "gateway_upstream_failures_total", labels) ?? 0;
  const time = (share) => (times.count ? formatMilliseconds(quantileOf(times, share) * 1000) : "–");
  return html`
    <tr><th scope="row" class="plain-head">${row.name}</th>
      <td><${Badge} tone=${row.is_open ? "bad" : "good"}>${t(row.is_open ? "health.open" : "health.closed")}<//></td>
      ${isWhole && html`<td class="if-middle">${row.kind}</td><td class="if-middle">${listModels(row.models ?? [])}</td>`}
      <td class=${failures ? "number text-bad" : "number"}>${formatNumber(failures)}</td><td class="number">${formatNumber(times.count)}</td>
      <td class="number nowrap if-middle">${time(0.5)}</td><td class="number nowrap if-middle">${time(0.95)}</td></tr>`;
}

const listModels = (models) => models.slice(0, MOST_MODELS).join(", ") + (models.length > MOST_MODELS ? ` … ${t("action.more", { count: models.length - MOST_MODELS })}` : "");

/** Numbers that should be near zero have a text that says what to do when they are not. */
export function Queues({ metrics, ready }) {
  const number = (name) => sumOf(metrics, name) ?? 0;
  const aside = number("gateway_journal_aside_entries"), learningAside = number("gateway_learning_aside_conversations");
  const groups = [
    [t("health.journal"), [
      [t("health.backlog"), formatNumber(number("gateway_journal_backlog_entries"))],
      [t("health.dead"), formatNumber(aside), aside > 0],
      [t("health.stored"), formatNumber(number("gateway_drained_records_total"))],
      [t("health.store_failures"), formatNumber(number("gateway_drain_failures_total")), number("gateway_drain_failures_total") > 0],
    ], aside > 0 && t("health.dead_text")],
    [t("health.extraction"), [
      [t("health.waiting"), formatNumber(number("gateway_learning_waiting_conversations"))],
      [t("health.set_aside"), formatNumber(learningAside), learningAside > 0],
      [t("health.learned"), formatNumber(number("gateway_learned_items_total"))],
      [t("health.failed_requests"), formatNumber(number("gateway_learning_failures_total")), number("gateway_learning_failures_total") > 0],
    ], learningAside > 0 && t("health.set_aside_text")],
    [t("health.working_sets"), [
      [t("health.sets"), formatNumber(number("gateway_working_sets"))],
      [t("health.ram"), formatBytes(number("gateway_working_set_bytes"))],
      [t("health.embedder"), ready.embedder_code],
      [t("health.reindex"), ready.reindex],
    ]],
    [t("health.plugins"), [
      [t("health.plugin_failures"), formatNumber(number("gateway_plugin_failures_total")), number("gateway_plugin_failures_total") > 0],
      [t("health.suspicious"), formatNumber(number("gateway_suspicious_records_total"))],
    ]],
  ];
  return html`<div class="grid queues">${groups.map(([title, facts, note]) => html`
    <section key=${title} class="card card-body"><h3>${title}</h3>
      <dl class="facts">${facts.filter(([, value]) => value).map(([name, value, isBad]) => html`<div key=${name}><dt>${name}</dt><dd class=${isBad ? "text-bad" : ""}>${value}</dd></div>`)}</dl>
      ${note && html`<p class="small">${note}</p>`}
    </section>`)}</div>`;
}
