// The controls of the timeline: the moment "as of", and an overview of the whole span in which a part can be chosen.
import { html, useEffect, useMemo, useRef, useState } from "../lib/dom.js";
import { formatCalendarTick, formatMoment, formatNumber } from "../lib/format.js";
import { t } from "../lib/i18n.js";
import { Link, parameter, query, setQuery } from "../lib/router.js";
import { countBegins, isValidAt } from "../lib/timeline.js";
import { Button } from "./basic.js";

const STEPS = 1000; // of the slider
const BINS = 120;
const LEAST_DRAG = 0.01; // share of the width; less is a click

/** A moment of the address in milliseconds; the fallback if there is none, or none that can be read. */
export function readMoment(name, fallback) {
  const at = Date.parse(parameter(name));
  return Number.isFinite(at) ? at : fallback;
}

export const writeMoment = (at) => new Date(Math.round(at)).toISOString();

/** Chooses a moment, and says how many memories were valid then. */
export function AsOf({ at, limits, lanes }) {
  const [first, last] = limits;
  const valid = useMemo(() => (at === null ? 0 : lanes.filter((lane) => lane.bars.some((bar) => isValidAt(bar, at))).length), [lanes, at]);
  const choose = (moment) => setQuery({ as_of: moment === null ? "" : writeMoment(moment), archived: "" });
  const position = at === null ? STEPS : Math.round((STEPS * (Math.min(Math.max(at, first), last) - first)) / (last - first));
  const chooseDay = (event) => {
    const [year, month, day] = event.target.value.split("-").map(Number);
    if (day) choose(new Date(year, month - 1, day, 23, 59, 59).getTime());
  };
  return html`
    <div class="as-of" role="group" aria-label=${t("timeline.as_of")}>
      <label class="as-of-slider"><span>${t("timeline.as_of")}</span>
        <input type="range" min="0" max=${STEPS} value=${position} aria-valuetext=${at === null ? t("timeline.now") : formatMoment(at)} onInput=${(event) => choose(Number(event.target.value) === STEPS ? null : first + ((last - first) * Number(event.target.value)) / STEPS)} /></label>
      <label class="as-of-day"><span class="hidden-text">${t("timeline.day")}</span><input class="input" type="date" value=${at === null ? "" : localDay(at)} onChange=${chooseDay} /></label>
      <p class="small as-of-text" role="status">${at === null ? html`<span class="muted">${t("timeline.now")}</span>` : t("timeline.valid_at", { time: formatMoment(at), count: formatNumber(valid), total: formatNumber(lanes.length) })}</p>
      ${at !== null && html`<div class="buttons"><${Link} class="button button-small" to="/memories" parameters=${{ ...Object.fromEntries(query.value), view: "", row: "", from: "", to: "" }}>${t("timeline.as_list")}<//>
        <${Button} small kind="quiet" onClick=${() => choose(null)}>${t("timeline.until_now")}<//></div>`}
    </div>`;
}

function localDay(at) {
  const day = new Date(at);
  return `${String(day.getFullYear()).padStart(4, "0")}-${String(day.getMonth() + 1).padStart(2, "0")}-${String(day.getDate()).padStart(2, "0")}`;
}

/** How many versions begin when, over the whole span; dragging chooses the part that is shown. */
export function Overview({ lanes, limits, from, to, asOf, onSelect }) {
  const [first, last] = limits;
  const [drag, setDrag] = useState(null);
  const element = useRef(null);
  const counts = useMemo(() => countBegins(lanes, first, last, BINS), [lanes, first, last]);
  const most = Math.max(...counts, 1);
  const place = (at) => (100 * (at - first)) / (last - first);
  const momentAt = (event) => {
    const { left, width } = element.current.getBoundingClientRect();
    return first + (last - first) * Math.max(0, Math.min(1, (event.clientX - left) / width));
  };
  useEffect(() => {
    if (!drag) return undefined;
    const cancel = (event) => event.key === "Escape" && setDrag(null);
    addEventListener("keydown", cancel);
    return () => removeEventListener("keydown", cancel);
  }, [drag]);
  const begin = (event) => {
    if (event.button) return;
    element.current.setPointerCapture(event.pointerId);
    setDrag([momentAt(event), momentAt(event)]);
  };
  const extend = (event) => drag && setDrag([drag[0], momentAt(event)]);
  const finish = (event) => {
    if (!drag) return;
    const [low, high] = [drag[0], momentAt(event)].sort((a, b) => a - b);
    setDrag(null);
    if (high - low >= (last - first) * LEAST_DRAG) onSelect(low, high);
    else onSelect(low - (to - from) / 2, low + (to - from) / 2);
  };
  const [low, high] = drag ? [...drag].sort((a, b) => a - b) : [from, to];
  return html`
    <svg ref=${element} class="overview" role="img" aria-label=${t("timeline.overview", { from: formatCalendarTick(first, "day"), to: formatCalendarTick(last, "day") })} onPointerDown=${begin} onPointerMove=${extend} onPointerUp=${finish} onPointerCancel=${() => setDrag(null)} onDblClick=${() => onSelect(first, last)}>
      ${counts.map((count, index) => count > 0 && html`<rect key=${index} class="bin" x=${`${(100 * index) / BINS}%`} width=${`${80 / BINS}%`} y=${`${100 - (92 * Math.sqrt(count / most) + 4)}%`} height="100%" />`)}
      ${asOf !== null && html`<line class="as-of-line" x1=${`${place(asOf)}%`} x2=${`${place(asOf)}%`} y2="100%" />`}
      <rect class="outside" width=${`${Math.max(0, place(low))}%`} height="100%" />
      <rect class="outside" x=${`${place(high)}%`} width=${`${Math.max(0, 100 - place(high))}%`} height="100%" />
      <rect class="chosen" x=${`${place(low)}%`} width=${`${Math.max(0.2, place(high) - place(low))}%`} height="100%" />
    </svg>`;
}
