// How the gateway does: times, recall, upstreams, queues and cost, within a window of time that is in the address.
import healthTexts from "../lang/health.js";
import { html, useMemo, useState } from "../lib/dom.js";
import { formatMilliseconds, formatMoment, formatMoney, formatNumber, formatRate, formatShare, formatTime } from "../lib/format.js";
import { useHealth, useUsage } from "../lib/health.js";
import { addTexts, label, t } from "../lib/i18n.js";
import { useKeys } from "../lib/keys.js";
import { useInterval } from "../lib/load.js";
import { sumOf } from "../lib/metrics.js";
import { parameter, setQuery } from "../lib/router.js";
import { costSeries, costsOfTurns, costsOfUsage, exactQuantile, moveWindow, OTHER, RANGES, readWindow, STATUSES, turnSeries, usageRequests } from "../lib/series.js";
import { Badge, Button, Empty, Loaded, Note } from "../parts/basic.js";
import { TimeChart } from "../parts/chart.js";
import { FirstChat } from "../parts/example.js";
import { Percentiles, rowsOfMetrics, rowsOfTurns } from "../parts/percentiles.js";
import { Queues, Upstreams } from "../parts/upstreams.js";

addTexts(healthTexts);

const SECONDS = 5;
const LONG = 6 * 3600; // windows from here on use recorded usage, which is by hour
const COLOURS = { hit: 1, partial: 2, miss: 7, degraded: 5, ambiguous: 3, off: 0 };
const zoom = (from, to) => setQuery({ from: Math.floor(from), to: Math.ceil(to) }, { replace: false });

export function HealthPage() {
  const state = useHealth();
  const [isPaused, setPaused] = useState(false);
  useInterval(() => isPaused || state.isLoading || state.reload(), SECONDS);
  const range = parameter("range") in RANGES ? parameter("range") : "1h";
  const now = state.data?.at ?? Date.now() / 1000;
  const frame = useMemo(() => readWindow(range, parameter("from"), parameter("to"), now), [range, parameter("from"), parameter("to"), now]);
  const move = (change) => () => {
    const { from, to } = moveWindow(frame, change, now);
    zoom(from, to);
  };
  const reset = () => setQuery({ from: "", to: "" });
  useKeys({
    "+": [t("health.key_in"), move({ factor: 0.5 })],
    "-": [t("health.key_out"), move({ factor: 2 })],
    h: [t("health.key_earlier"), move({ shift: -1 })],
    l: [t("health.key_later"), move({ shift: 1 })],
    r: [t("health.key_reset"), reset],
    p: [t("keys.pause"), () => setPaused(!isPaused)],
  });
  return html`
    <header class="page-head">
      <h1>${t("title.health")}</h1>
      <span class="muted small">${state.data && t(isPaused ? "health.paused_at" : "health.updated_at", { time: formatTime(state.data.at * 1000) })}</span>
      <${Button} aria-pressed=${isPaused} onClick=${() => setPaused(!isPaused)}>${t(isPaused ? "health.resume" : "health.pause")}<//>
    </header>
    <div class="buttons">
      <div class="chips" role="group" aria-label=${t("health.range")}>
        ${Object.keys(RANGES).map((name) => html`<button key=${name} type="button" class="chip" aria-pressed=${!frame.isZoomed && name === range} onClick=${() => setQuery({ range: name, from: "", to: "" }, { replace: false })}>${t(`health.range_${name}`)}</button>`)}
      </div>
      ${frame.isZoomed
        ? html`<span class="small">${formatMoment(frame.from * 1000)} – ${formatMoment(frame.to * 1000)}</span><${Button} small onClick=${reset}>${t("health.reset")}<//>`
        : html`<span class="muted small">${t("health.brush")}</span>`}
    </div>
    <${Loaded} of=${state}>${(data) => html`<${Report} data=${data} frame=${frame} />`}<//>`;
}

function Report({ data, frame }) {
  const isLong = frame.to - frame.from >= LONG;
  const usage = useUsage(frame, isLong);
  const { turns, metrics } = data;
  const known = turns?.list ?? [];
  const shown = useMemo(() => known.filter((turn) => turn.time >= frame.from && turn.time < frame.to), [known, frame]);
  const rows = usage?.data ?? null;
  const sums = sumUp({ shown, rows, turns, frame });
  const isBlank = !known.length && !rows?.length;
  const groups = [[t("health.from_turns", { count: formatNumber(shown.length) }), shown.length ? rowsOfTurns(shown) : []], [t("health.from_metrics"), rowsOfMetrics(metrics)]];
  return html`
    <${Facts} data=${data} sums=${sums} />
    ${turns === null && html`<${Note}>${t("health.no_turns_right")}<//>`}
    ${isBlank ? turns !== null && html`<${NoTurns} />` : html`<${Charts} shown=${shown} rows=${rows} since=${turns?.since ?? Infinity} frame=${frame} sums=${sums} />`}
    ${known.length > 0 && turns.since > frame.from && html`<p class="muted small">${t("health.turns_since", { count: formatNumber(known.length), time: formatMoment(turns.since * 1000) })}</p>`}
    ${usage?.has_more && html`<${Note}>${t("health.usage_cut")}<//>`}
    <section class="section"><h2>${t("health.percentiles")}</h2>
      ${groups.some(([, list]) => list.length) ? html`<${Percentiles} groups=${groups} />` : html`<p class="muted">${t("health.no_times")}</p>`}</section>
    <section class="section"><h2>${t("health.upstreams")}</h2><${Upstreams} upstreams=${data.upstreams} metrics=${metrics} /></section>
    <section class="section"><h2>${t("health.queues")}</h2><${Queues} metrics=${metrics} ready=${data.ready} /></section>`;
}

const SHORTEST = 60; // seconds that a rate is computed over at least

/** The sums of the window: turns, or what was recorded for a long one. */
function sumUp({ shown, rows, turns, frame }) {
  const known = rows ? frame.to - frame.from : frame.to - Math.max(frame.from, turns?.since ?? frame.to);
  const requests = rows ? rows.reduce((sum, row) => sum + row.requests, 0) : shown.length;
  const costs = rows ? costsOfUsage(rows) : costsOfTurns(shown);
  const recalling = shown.filter((turn) => turn.memory !== "off");
  const share = (list, all) => (all.length ? formatShare(list.length / all.length) : "–");
  return {
    requests,
    rate: requests / Math.max(SHORTEST, known),
    recalled: share(recalling.filter((turn) => turn.memory === "hit" || turn.memory === "partial"), recalling),
    failed: share(shown.filter((turn) => turn.status >= 400 || turn.error), shown),
    cost: costs.length ? costs.reduce((sum, item) => sum + item.cost, 0) : null,
  };
}

function Facts({ data: { ready, metrics }, sums }) {
  const state = String(ready.memory ?? "unreachable").split(":")[0];
  const facts = [
    [t("health.memory"), html`<${Badge} value=${state}>${label("health.state", state)}<//>`],
    [t("health.in_flight"), formatNumber(Math.max(0, (sumOf(metrics, "gateway_in_flight_requests") ?? 1) - 1))], // without the request for this number
    [t("health.requests"), formatNumber(sums.requests)],
    [t("health.rate"), formatRate(sums.rate)],
    [t("health.recalled"), sums.recalled],
    [t("health.failed"), sums.failed],
    [t("label.cost"), formatMoney(sums.cost)],
  ];
  return html`<dl class="card card-body facts health-facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Charts({ shown, rows, since, frame, sums }) {
  const ofTurns = useMemo(() => turnSeries(shown, frame, since), [shown, frame, since]);
  const requests = useMemo(() => (rows ? usageRequests(rows, frame) : ofTurns), [rows, frame, ofTurns]);
  const cost = useMemo(() => (rows ? costSeries(costsOfUsage(rows), frame, 3600, 0) : costSeries(costsOfTurns(shown), frame, 1, since)), [rows, shown, frame, since]);
  const plain = useMemo(() => ({
    requests: [{ name: t("health.rate"), series: 2, values: requests.requests }],
    shares: STATUSES.map((status) => ({ name: label("memory", status), series: COLOURS[status], values: ofTurns.shares[status] })).filter(({ values }) => values.some((value) => value > 0)),
    times: Object.entries(ofTurns.gateway).map(([share, values], index) => ({ name: `p${Math.round(100 * share)}`, series: [1, 3, 5][index], values })),
    cost: cost.models.map(({ name, values }, index) => ({ name: name === OTHER ? t("health.other_models") : name, series: name === OTHER ? 7 : (index % 7) + 1, values })),
  }), [requests, ofTurns, cost, t("health.rate")]);
  const source = rows ? t("health.source_usage") : t("health.source_turns");
  const median = exactQuantile(shown.map((turn) => turn.overhead_ms).filter((ms) => typeof ms === "number"), 0.5);
  return html`
    <div class="charts">
      <${TimeChart} onZoom=${zoom} title=${t("health.chart_requests")} text=${t("health.text_requests", { mean: formatRate(sums.rate), most: formatRate(Math.max(0, ...requests.requests)), source })}
        times=${requests.times} step=${requests.step} series=${plain.requests} format=${formatRate} />
      <${TimeChart} onZoom=${zoom} title=${t("health.chart_shares")} text=${t("health.text_shares", { share: sums.recalled })}
        times=${ofTurns.times} step=${ofTurns.step} series=${plain.shares} format=${formatShare} isStacked isBars most=${1} />
      <${TimeChart} onZoom=${zoom} title=${t("health.chart_gateway")} text=${t("health.text_gateway", { median: formatMilliseconds(median) })}
        times=${ofTurns.times} step=${ofTurns.step} series=${plain.times} format=${formatMilliseconds} />
      <${TimeChart} onZoom=${zoom} title=${t("health.chart_cost")} text=${t("health.text_cost", { total: formatMoney(sums.cost), source })} emptyText=${sums.requests ? t("health.no_prices") : undefined}
        times=${cost.times} step=${cost.step} series=${plain.cost} format=${formatMoney} isStacked isBars />
    </div>`;
}

const NoTurns = () => html`<${Empty} title=${t("health.none")}><p>${t("health.none_text")}</p><${FirstChat} /><//>`;
