// Percentiles of times by stage: as numbers, and as bars on a logarithmic scale.
import { html } from "../lib/dom.js";
import { formatMilliseconds, formatNumber } from "../lib/format.js";
import { label, t } from "../lib/i18n.js";
import { labelValues, quantileOf, readHistogram } from "../lib/metrics.js";
import { exactQuantile } from "../lib/series.js";

const SHARES = [0.5, 0.95, 0.99];
const STAGES = ["recall", "assemble", "overhead", "remember"];
const CHATS = ["openai", "anthropic", "memos"]; // APIs whose requests are chats
const LEAST = 0.1, LARGEST = 100_000; // milliseconds of the scale
const MARKS = [0.1, 1, 10, 100, 1000, 10_000, 100_000];

const place = (ms) => (100 * Math.log10(Math.min(Math.max(ms, LEAST), LARGEST) / LEAST)) / Math.log10(LARGEST / LEAST);

/** Rows from turns: exact. */
export function rowsOfTurns(turns) {
  const names = ["overhead_ms", "first_byte_ms", "ms"];
  return names.map((name) => {
    const numbers = turns.map((turn) => turn[name]).filter((ms) => typeof ms === "number");
    return { name: t(`health.time_${name}`), count: numbers.length, values: SHARES.map((share) => exactQuantile(numbers, share)) };
  });
}

/** Rows from the histograms since the start of the gateway: interpolated. */
export function rowsOfMetrics(metrics) {
  const row = (name, metric, labels) => {
    const histogram = readHistogram(metrics, metric, labels);
    return { name, count: histogram.count, values: SHARES.map((share) => { const seconds = quantileOf(histogram, share); return seconds === null ? null : seconds * 1000; }) };
  };
  return [
    ...STAGES.map((stage) => row(label("health.stage", stage), "gateway_stage_seconds", { stage })),
    ...labelValues(metrics, "gateway_upstream_first_byte_seconds_count", "upstream").map((upstream) => row(t("health.first_byte", { upstream }), "gateway_upstream_first_byte_seconds", { upstream })),
    ...labelValues(metrics, "gateway_request_duration_seconds_count", "face").filter((face) => CHATS.includes(face)).map((face) => row(t("health.whole", { api: label("health.api", face) }), "gateway_request_duration_seconds", { face })),
  ].filter(({ count }) => count > 0);
}

/** groups: [[title, rows], …]. */
export const Percentiles = ({ groups }) => html`
  <div class="table-box" tabindex="0" role="region" aria-label=${t("health.percentiles")}>
    <table class="percentiles">
      <thead><tr><th scope="col">${t("health.stage_column")}</th><th scope="col" class="number">${t("health.times")}</th>
        <th scope="col" class="number">p50</th><th scope="col" class="number">p95</th><th scope="col" class="number">p99</th>
        <th scope="col" class="stage-lane-head if-middle"><span class="hidden-text">${t("health.scale")}</span><${Scale} /></th></tr></thead>
      ${groups.filter(([, rows]) => rows.length).map(([title, rows]) => html`
        <tbody key=${title}>
          <tr><th scope="rowgroup" colspan="6" class="group-head">${title}</th></tr>
          ${rows.map((row) => html`<${Row} key=${row.name} row=${row} />`)}
        </tbody>`)}
    </table>
  </div>`;

const Scale = () => html`<span class="stage-lane" aria-hidden="true">${MARKS.slice(0, -1).map((mark) => html`<span key=${mark} class="stage-lane-mark" style=${{ left: `${place(mark)}%` }}>${mark < 1000 ? `${mark} ms` : `${mark / 1000} s`}</span>`)}</span>`;

const Row = ({ row: { name, count, values } }) => html`
  <tr><th scope="row" class="plain-head">${name}</th><td class="number muted">${formatNumber(count)}</td>
    ${values.map((value, index) => html`<td key=${SHARES[index]} class="number nowrap">${formatMilliseconds(value)}</td>`)}
    <td class="if-middle"><${Lane} values=${values} /></td></tr>`;

/** From the median to p99, with a darker part up to p95. The numbers are in the row. */
function Lane({ values: [p50, p95, p99] }) {
  if (p50 === null) return null;
  const piece = (from, to, name) => html`<span class=${`stage-lane-piece ${name}`} style=${{ left: `${place(from)}%`, width: `${Math.max(0.6, place(to) - place(from))}%` }}></span>`;
  return html`<span class="stage-lane" aria-hidden="true">${MARKS.slice(1, -1).map((mark) => html`<span key=${mark} class="stage-lane-line" style=${{ left: `${place(mark)}%` }}></span>`)}${piece(p50, p99, "stage-lane-p99")}${piece(p50, p95, "stage-lane-p95")}<span class="stage-lane-median" style=${{ left: `${place(p50)}%` }}></span></span>`;
}
