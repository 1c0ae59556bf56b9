// A timeline of memories: when each version was valid. The shown span and the moment "as of" are in the address.
import { getJson, url } from "../lib/api.js";
import { classes, html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../lib/dom.js";
import { formatCalendarTick, formatMoment, formatNumber } from "../lib/format.js";
import { t } from "../lib/i18n.js";
import { useKeys } from "../lib/keys.js";
import { useLoad } from "../lib/load.js";
import { Link, navigate, parameter, setQuery } from "../lib/router.js";
import { buildLanes, buildTicks, isValidAt, limitSpan } from "../lib/timeline.js";
import { Badge, Button, Code, Empty, Loaded } from "./basic.js";
import { formatValidity } from "./memory_list.js";
import { AsOf, Overview, readMoment, writeMoment } from "./timeline_controls.js";
import { addByCurl } from "./user_picker.js";

const PAGE_SIZE = 1000;
const MOST_VERSIONS = 20_000;
const NARROW = 640; // pixels; below, the text stands above the bars
const EXTRA = 8; // lanes beyond the edges

export function Timeline({ user, kind, version }) {
  const state = useLoad(`${user}\n${kind}\n${version}`, (signal) => getJson(url("/v1/memory/timeline", { user, kind, limit: PAGE_SIZE }), { signal }));
  useRest(state, user, kind);
  return html`<${Loaded} of=${state}>${(data) => (data.data.length ? html`<${Chart} data=${data} />` : html`
    <${Empty} title=${kind ? t("memories.none_match") : t("memories.none", { user })}><p>${t(kind ? "memories.none_match_text" : "memories.none_text")}</p>${!kind && html`<${Code} text=${addByCurl(user)} />`}<//>`)}<//>`;
}

/** Loads the other pages, one after the other. */
function useRest(state, user, kind) {
  const after = state.data?.data.length < MOST_VERSIONS ? state.data?.next : null;
  useEffect(() => {
    if (!after) return undefined;
    const control = new AbortController();
    getJson(url("/v1/memory/timeline", { user, kind, limit: PAGE_SIZE, after }), { signal: control.signal }).then(
      (more) => state.setData((data) => (data.next === after ? { ...more, data: [...data.data, ...more.data] } : data)),
      () => {}, // what is loaded stays; the number of versions says that some are missing
    );
    return () => control.abort();
  }, [after]);
}

function Chart({ data }) {
  const lanes = useMemo(() => buildLanes(data.data), [data.data]);
  const limits = useMemo(() => {
    const first = Date.parse(data.first), last = Math.max(Date.now(), Date.parse(data.last));
    const margin = Math.max((last - first) * 0.01, 60_000);
    return [first - margin, last + margin];
  }, [data]);
  const [from, to] = limitSpan(readMoment("from", limits[0]), readMoment("to", limits[1]), ...limits);
  const asOf = readMoment("as_of", null);
  const isWhole = from === limits[0] && to === limits[1];
  const show = (begin, end) => {
    const [low, high] = limitSpan(begin, end, ...limits);
    setQuery(low === limits[0] && high === limits[1] ? { from: "", to: "" } : { from: writeMoment(low), to: writeMoment(high) });
  };
  const zoom = (factor) => show((from + to) / 2 - ((to - from) / 2) * factor, (from + to) / 2 + ((to - from) / 2) * factor);
  const pan = (share) => {
    const shift = Math.max(limits[0] - from, Math.min((to - from) * share, limits[1] - to));
    show(from + shift, to + shift);
  };
  const isReversed = parameter("order") === "newest";
  const shown = useMemo(() => {
    const inSpan = lanes.filter((lane) => lane.bars.some((bar) => bar.begin <= to && bar.end >= from));
    return isReversed ? inSpan.sort((a, b) => b.begin - a.begin) : inSpan;
  }, [lanes, from, to, isReversed]);
  useKeys({
    "+": [t("timeline.zoom_in"), () => zoom(0.5)],
    "-": [t("timeline.zoom_out"), () => zoom(2)],
    h: [t("timeline.earlier"), () => pan(-0.4)],
    l: [t("timeline.later"), () => pan(0.4)],
    0: [t("timeline.whole"), () => show(...limits)],
  });
  return html`
    <${AsOf} at=${asOf} limits=${limits} lanes=${lanes} />
    <div class="card timeline">
      <div class="timeline-head">
        <p class="small" role="status">${t("timeline.shown", { shown: formatNumber(shown.length), total: formatNumber(lanes.length), versions: formatNumber(data.data.length) })}${data.data.length < data.total ? ` · ${t("timeline.loading", { total: formatNumber(data.total) })}` : ""}</p>
        <ul class="legend">${["valid", "ended", "profile"].map((name) => html`<li key=${name}><span class=${`swatch span-${name}`}></span>${t(`timeline.${name}`)}</li>`)}</ul>
        <div class="buttons">
          <label class="check small"><input type="checkbox" checked=${isReversed} onChange=${(event) => setQuery({ order: event.target.checked ? "newest" : "", row: "" })} />${t("timeline.newest")}</label>
          ${[["timeline.earlier", "←", () => pan(-0.4)], ["timeline.later", "→", () => pan(0.4)], ["timeline.zoom_in", "+", () => zoom(0.5)], ["timeline.zoom_out", "−", () => zoom(2)]].map(([name, sign, act]) => html`<${Button} key=${name} small aria-label=${t(name)} title=${t(name)} onClick=${act}>${sign}<//>`)}
          <${Button} small disabled=${isWhole} onClick=${() => show(...limits)}>${t("timeline.whole")}<//></div>
      </div>
      <${Overview} lanes=${lanes} limits=${limits} from=${from} to=${to} asOf=${asOf} onSelect=${show} />
      <${Lanes} lanes=${shown} from=${from} to=${to} asOf=${asOf} />
    </div>`;
}

function Lanes({ lanes, from, to, asOf }) {
  const box = useRef(null);
  const [view, setView] = useState({ top: 0, height: 600, width: 900 });
  const frame = useRef(0);
  const measure = () => {
    cancelAnimationFrame(frame.current);
    frame.current = requestAnimationFrame(() => box.current && setView({ top: box.current.scrollTop, height: box.current.clientHeight, width: box.current.clientWidth }));
  };
  useLayoutEffect(() => {
    const observer = new ResizeObserver(measure);
    observer.observe(box.current);
    return () => { observer.disconnect(); cancelAnimationFrame(frame.current); };
  }, []);
  const row = view.width < NARROW ? 46 : 30;
  const current = lanes.findIndex((lane) => lane.id === parameter("row"));
  const move = (index) => lanes.length && setQuery({ row: lanes[Math.max(0, Math.min(index, lanes.length - 1))].id });
  useEffect(() => {
    if (current < 0) return;
    const top = current * row, space = box.current;
    if (top < space.scrollTop) space.scrollTop = top;
    else if (top + 2 * row > space.scrollTop + space.clientHeight) space.scrollTop = top + 2 * row - space.clientHeight;
  }, [current]);
  useKeys({
    j: [t("keys.next"), () => move(current + 1)],
    k: [t("keys.previous"), () => move(current - 1)],
    Enter: [t("keys.open"), () => current >= 0 && navigate(`/memories/${lanes[current].id}`)],
  });
  const place = (at) => (100 * (at - from)) / (to - from);
  const { unit, marks } = buildTicks(from, to, Math.max(2, Math.floor(view.width < NARROW ? view.width / 84 : (view.width * 0.68) / 110)));
  const grid = html`${marks.map((at) => html`<line key=${at} class="grid-line" x1=${`${place(at)}%`} x2=${`${place(at)}%`} y2="100%" />`)}
    ${asOf !== null && asOf >= from && asOf <= to && html`<line class="as-of-line" x1=${`${place(asOf)}%`} x2=${`${place(asOf)}%`} y2="100%" />`}`;
  const first = Math.max(0, Math.floor(view.top / row) - EXTRA);
  const last = Math.min(lanes.length, Math.ceil((view.top + view.height) / row) + EXTRA);
  return html`
    <div class=${classes("lanes", view.width < NARROW && "lanes-narrow")} ref=${box} onScroll=${measure} tabindex="0" role="region" aria-label=${t("memories.view_timeline")}>
      <div class="lane lane-axis" aria-hidden="true"><span></span><svg>${marks.map((at) => html`<text key=${at} x=${`${place(at)}%`} y="15">${formatCalendarTick(at, unit)}</text>`)}${grid}</svg></div>
      ${lanes.length === 0 && html`<p class="card-body muted">${t("timeline.nothing")}</p>`}
      <ol style=${{ paddingTop: `${first * row}px`, paddingBottom: `${(lanes.length - last) * row}px` }}>
        ${lanes.slice(first, last).map((lane, offset) => html`<${Lane} key=${`${lane.id} ${first + offset}`} lane=${lane} grid=${grid} place=${place} asOf=${asOf} isCurrent=${first + offset === current} position=${first + offset + 1} total=${lanes.length} />`)}
      </ol>
    </div>`;
}

function Lane({ lane, grid, place, asOf, isCurrent, position, total }) {
  const valid = asOf === null ? null : lane.bars.find((bar) => isValidAt(bar, asOf));
  const record = valid?.record ?? lane.latest;
  const isFaded = asOf !== null && !valid;
  return html`
    <li class=${classes("lane", isCurrent && "lane-current", isFaded && "lane-faded")} aria-current=${isCurrent} aria-setsize=${total} aria-posinset=${position}>
      <span class="lane-text"><span class="clip">${lane.isContinued && html`<span class="muted" title=${t("timeline.same")}>↳ </span>`}<${Link} to=${`/memories/${record.id}`} class="plain-link" title=${record.text.slice(0, 300)}>${(record.title || record.text).slice(0, 200)}<//></span>
        ${lane.bars.length > 1 && html` <${Badge}>${lane.bars.length}<//>`}<span class="hidden-text">${formatValidity(record)}</span></span>
      <svg aria-hidden="true">${grid}
        ${lane.bars.slice(1).map((bar, index) => lane.bars[index].end < bar.begin && html`<line key=${`gap${index}`} class="link-line" x1=${`${limit(place(lane.bars[index].end))}%`} x2=${`${limit(place(bar.begin))}%`} y1="50%" y2="50%" />`)}
        ${lane.bars.map((bar, index) => html`<${Bar} key=${index} bar=${bar} place=${place} isFaded=${asOf !== null && bar !== valid} hasSuccessor=${index < lane.bars.length - 1} />`)}
      </svg>
    </li>`;
}

const limit = (share) => Math.max(-1, Math.min(101, share));

function Bar({ bar, place, isFaded, hasSuccessor }) {
  const { record } = bar;
  const left = limit(place(bar.begin)), right = limit(bar.end === Infinity ? 101 : place(bar.end));
  if (right < 0 || left > 100) return null;
  const name = bar.end !== Infinity ? "ended" : record.is_standing ? "profile" : "valid";
  const end = bar.end === Infinity ? t("memories.still") : formatMoment(bar.end);
  return html`
    <g class=${classes("span", `span-${name}`, isFaded && "span-faded")} onClick=${() => navigate(`/memories/${record.id}`)}>
      <rect x=${`${left}%`} width=${`${Math.max(right - left, 0.3)}%`} y="28%" height="44%" rx="3" />
      ${hasSuccessor && html`<line class="step" x1=${`${right}%`} x2=${`${right}%`} y1="10%" y2="90%" />`}
      <title>${`${record.text.slice(0, 300)}\n${t("memories.validity", { from: formatMoment(bar.begin), to: end })}`}</title>
    </g>`;
}
