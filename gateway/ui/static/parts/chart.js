// A chart over time, drawn by uPlot, which is loaded with the first chart; a text and a table say the same.
import { classes, html, useEffect, useLayoutEffect, useRef, useState } from "../lib/dom.js";
import { formatMoment, formatClock } from "../lib/format.js";
import { language, t } from "../lib/i18n.js";
import { stack } from "../lib/series.js";
import { theme } from "../lib/theme.js";

const HEIGHT = 190; // pixels
const NARROWEST_BRUSH = 6; // pixels; less is a click
let loading = null;

/** Loads the library. Its script element comes from the page, since trusted types let no script make one. */
function loadPlot() {
  loading ??= new Promise((resolve, reject) => {
    const style = Object.assign(document.createElement("link"), { rel: "stylesheet", href: "/ui/vendor/uplot.css" });
    const script = document.importNode(document.getElementById("plot").content, true).firstElementChild;
    script.addEventListener("load", () => resolve(window.uPlot));
    script.addEventListener("error", () => {
      loading = null;
      reject(new Error("uplot"));
    });
    document.head.append(style, script);
  });
  return loading;
}

/**
 * series: [{name, series (its colour), values}]; `times` in seconds; `format(value)`; `isStacked` draws them on top of
 * each other, `isBars` as bars; `emptyText` if no value is known; `onZoom(from, to)` after brushing.
 */
export function TimeChart({ title, text, emptyText, times, step, series, format, isStacked, isBars, most, onZoom }) {
  const isEmpty = !series.some(({ values }) => values.some((value) => value !== null));
  const [index, setIndex] = useState(null);
  const shown = index !== null && index < times.length ? index : null;
  const value = ({ values }) => values[shown ?? values.findLastIndex((number) => number !== null)] ?? null;
  return html`
    <figure class="card chart">
      <figcaption class="card-head"><h2>${title}</h2><span class="muted small">${shown === null ? "" : formatMoment(times[shown] * 1000)}</span></figcaption>
      <div class="card-body">
        <p class="muted small">${isEmpty ? emptyText ?? t("health.chart_empty") : text}</p>
        ${!isEmpty && html`
          <${Plot} ...${{ title, text, times, step, series, format, isStacked, isBars, most, onZoom, setIndex }} />
          <ul class=${classes("legend", shown !== null && "legend-live")}>${series.map((entry) => html`<li key=${entry.name}><span class=${`swatch c${entry.series}`}></span><span class="clip">${entry.name}</span> <b class="number">${value(entry) === null ? "–" : format(value(entry))}</b></li>`)}</ul>
          <${Values} ...${{ title, times, series, format }} />`}
      </div>
    </figure>`;
}

function Plot({ title, text, times, step, series, format, isStacked, isBars, most, onZoom, setIndex }) {
  const box = useRef(null);
  const plot = useRef(null);
  const [library, setLibrary] = useState(() => null);
  const [isFailed, setFailed] = useState(false);
  const scheme = useScheme();
  const latest = useRef({});
  const range = [times[0], times.at(-1) + step];
  latest.current = { format, range, onZoom, setIndex };
  const lists = series.map(({ values }) => values);
  // the largest sums are drawn first, the smaller ones over them; a bar stands on its interval, a point in its middle
  const data = [times.map((time) => time + step / 2), ...(isStacked ? stack(lists).toReversed() : lists)];
  const kind = JSON.stringify([series.map(({ name, series: colour }) => [name, colour]), isStacked, isBars, most, scheme, language.value]);
  useEffect(() => {
    loadPlot().then((loaded) => setLibrary(() => loaded), () => setFailed(true));
  }, []);
  useLayoutEffect(() => {
    if (!library) return undefined;
    const options = plotOptions({ library, box: box.current, series: isStacked ? series.toReversed() : series, isStacked, isBars, most, latest });
    plot.current = new library(options, data, box.current);
    const observer = new ResizeObserver(([entry]) => plot.current?.setSize({ width: Math.floor(entry.contentRect.width), height: HEIGHT }));
    observer.observe(box.current);
    return () => {
      observer.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [library, kind]);
  useLayoutEffect(() => plot.current?.setData(data), [times, series]);
  if (isFailed) return html`<p class="note note-warn">${t("health.chart_failed")}</p>`;
  return html`<div class="plot" ref=${box} role="img" aria-label=${`${title}. ${text}`}></div>`;
}

/** The colours in use, which change with the theme and with the system. */
function useScheme() {
  const query = matchMedia("(prefers-color-scheme: dark)");
  const [isDark, setDark] = useState(query.matches);
  useEffect(() => {
    const update = () => setDark(query.matches);
    query.addEventListener("change", update);
    return () => query.removeEventListener("change", update);
  }, []);
  return theme.value === "auto" ? isDark : theme.value;
}

function plotOptions({ library, box, series, isStacked, isBars, most, latest }) {
  const colour = colourReader(box);
  const grid = { stroke: colour("var(--line)"), width: 1 };
  const axis = { stroke: colour("var(--muted)"), grid, ticks: { ...grid, size: 4 }, font: `12px ${getComputedStyle(box).fontFamily}` };
  const span = () => latest.current.range[1] - latest.current.range[0];
  const paths = isBars ? library.paths.bars({ size: [0.85, 48], align: 0 }) : undefined;
  const line = ({ name, series: number }, isOnly) => {
    const stroke = colour(number ? `var(--series-${number})` : "var(--line-strong)");
    const fill = isStacked ? stroke : isOnly ? colour(`color-mix(in srgb, var(--series-${number}) 16%, transparent)`) : undefined;
    return { label: name, stroke, fill, width: isStacked ? 0 : 1.6, paths, points: { show: false, filter: isStacked ? null : lonePoints, size: 5 } };
  };
  return {
    width: Math.floor(box.clientWidth) || 300,
    height: HEIGHT,
    padding: [8, 18, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: true, y: false, setScale: false }, points: { show: !isStacked, size: 7 } },
    scales: {
      x: { time: true, range: () => latest.current.range },
      y: { range: (u, least, largest) => [0, most ?? (largest > 0 ? largest * 1.08 : 1)] },
    },
    axes: [
      { ...axis, size: 30, space: 64, values: (u, splits) => splits.map((seconds) => formatClock(seconds, span())) },
      { ...axis, size: (u, texts) => 14 + 7 * Math.max(4, ...(texts ?? []).map((text) => text.length)), space: 34, values: (u, splits) => splits.map((value) => latest.current.format(value)) },
    ],
    series: [{}, ...series.map((entry) => line(entry, series.length === 1))],
    hooks: {
      setCursor: [(u) => latest.current.setIndex(u.cursor.idx ?? null)],
      setSelect: [(u) => {
        const { left, width } = u.select;
        if (width < NARROWEST_BRUSH) return;
        latest.current.onZoom(u.posToVal(left, "x"), u.posToVal(left + width, "x"));
        u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      }],
    },
  };
}

/** The places of values without neighbours, which a line does not show. */
function lonePoints(plot, index) {
  const values = plot.data[index];
  const isGap = (place) => values[place] === null || values[place] === undefined;
  return values.flatMap((value, place) => (!isGap(place) && isGap(place - 1) && isGap(place + 1) ? [place] : []));
}

/** Reads colours of the style sheet in a form that a canvas understands. */
function colourReader(box) {
  return (text) => {
    box.style.color = text;
    const value = getComputedStyle(box).color;
    box.style.color = "";
    return value;
  };
}

/** All values as a table, made when it is opened. */
function Values({ title, times, series, format }) {
  const [isOpen, setOpen] = useState(false);
  return html`
    <details onToggle=${(event) => setOpen(event.currentTarget.open)}>
      <summary class="small">${t("health.table")}</summary>
      ${isOpen && html`
        <div class="table-box chart-table" tabindex="0" role="region" aria-label=${`${title}: ${t("health.table")}`}>
          <table>
            <thead><tr><th scope="col">${t("label.time")}</th>${series.map(({ name }) => html`<th key=${name} scope="col" class="number">${name}</th>`)}</tr></thead>
            <tbody>${times.map((time, row) => html`<tr key=${time}><th scope="row" class="plain-head">${formatMoment(time * 1000)}</th>${series.map(({ name, values }) => html`<td key=${name} class="number">${values[row] === null ? "–" : format(values[row])}</td>`)}</tr>`).toReversed()}</tbody>
          </table>
        </div>`}
    </details>`;
}
