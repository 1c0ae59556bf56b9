// What memory did for one answer of the playground: the block as the model got it, its size, and a link to the reasons.
import { html } from "../lib/dom.js";
import { formatMilliseconds, formatNumber } from "../lib/format.js";
import { label, t } from "../lib/i18n.js";
import { Link } from "../lib/router.js";
import { PartsBar } from "./bars.js";
import { Badge, ErrorNote, Note } from "./basic.js";

export const MemoryPanel = ({ answer }) => html`
  <aside class="card chat-panel" aria-label=${t("playground.panel")} tabindex="0">
    <div class="card-head"><h2>${t("playground.panel")}</h2>
      ${answer?.facts?.status && html`<${Badge} value=${answer.facts.status}>${label("memory", answer.facts.status)}<//>`}</div>
    <div class="card-body">${answer ? html`<${Injected} answer=${answer} />` : html`<p class="muted">${t("playground.panel_text")}</p>`}</div>
  </aside>`;

function Injected({ answer }) {
  const { facts, explanation } = answer;
  if (!facts) return html`<p class="muted" role="status">${t(answer.state === "waiting" ? "playground.recalling" : "playground.no_answer")}</p>`;
  const rows = [
    [t("playground.count"), formatNumber(facts.count)],
    [t("playground.tokens"), formatNumber(facts.tokens)],
    [t("turns.upstream"), facts.upstream],
    [t("turns.own_ms"), facts.overheadMs && formatMilliseconds(facts.overheadMs)],
    [t("playground.first"), formatMilliseconds(answer.firstMs)],
  ];
  return html`
    <dl class="facts">${rows.filter(([, value]) => value).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    ${explanation && html`<${Budget} explanation=${explanation} />`}
    ${explanation === null && (answer.explanationError ? html`<${ErrorNote} error=${answer.explanationError} />` : html`<${Note}>${t(facts.status === "off" ? "why.memory_off" : "why.gone")}<//>`)}
    ${facts.id && html`<p><${Link} to=${`/turns/${facts.id}`}>${t("title.turn")}<//></p>`}`;
}

function Budget({ explanation }) {
  const { injected } = explanation;
  const values = { tokens: formatNumber(injected.tokens), budget: formatNumber(explanation.token_budget) };
  const parts = [
    { name: t("why.budget_profile"), value: injected.standing_tokens, series: 4 },
    { name: t("why.budget_memories"), value: injected.tokens - injected.standing_tokens, series: 1 },
    { name: t("why.budget_unused"), value: Math.max(0, explanation.token_budget - injected.tokens), series: 0 },
  ];
  return html`
    <h3>${t("why.budget", values)}</h3>
    <${PartsBar} parts=${parts} label=${t("why.budget", values)} />
    ${injected.text
      ? html`<h3>${t("playground.block")}</h3><pre class="chat-block block">${injected.text}</pre>`
      : html`<p class="muted">${t(injected.count > 0 ? "why.content_off" : "why.no_block")} ${explanation.reason ? label("why.reason", explanation.reason) : ""}</p>`}`;
}
