// Bars of parts: tokens of a budget, parts of a score.
import { html } from "../lib/dom.js";
import { formatNumber } from "../lib/format.js";
import { t } from "../lib/i18n.js";

/** parts: [{name, value, series}], drawn to scale; the legend says the numbers. */
export function PartsBar({ parts, label, hasLegend = true }) {
  const shown = parts.filter((part) => part.value > 0);
  const total = shown.reduce((sum, part) => sum + part.value, 0) || 1;
  return html`
    <figure class="parts-bar">
      <div class="bar" role="img" aria-label=${`${label}: ${shown.map((part) => `${part.name} ${formatNumber(part.value)}`).join(", ")}`}>
        ${shown.map((part) => html`<span key=${part.name} class=${`s${part.series}`} style=${{ width: `${(100 * part.value) / total}%` }} title=${`${part.name}: ${formatNumber(part.value)}`}></span>`)}
      </div>
      ${hasLegend && html`<ul class="legend">${parts.map((part) => html`<li key=${part.name}><span class=${`swatch s${part.series}`}></span>${part.name} <b class="number">${formatNumber(part.value, part.value < 10 ? 1 : 0)}</b></li>`)}</ul>`}
    </figure>`;
}

const SERIES = 9;

/**
 * Parts of a score, which may be negative: to the right of the middle line what speaks for a memory, to the left what
 * speaks against it. `scale`: the largest sum of one side among the compared scores.
 */
export function ScoreBar({ parts, names, scale }) {
  const width = 220, middle = width / 2, height = 16;
  const unit = middle / (scale || 1);
  let right = middle, left = middle;
  const boxes = names.flatMap((name, index) => {
    const value = parts[name] ?? 0;
    if (!value) return [];
    const size = Math.abs(value) * unit;
    const x = value > 0 ? right : left - size;
    if (value > 0) right += size;
    else left -= size;
    return [{ name, value, x, size, series: (index % SERIES) + 1 }];
  });
  const text = boxes.map((box) => `${box.name} ${formatNumber(box.value, 2)}`).join(", ");
  return html`
    <svg class="score-bar" viewBox=${`0 0 ${width} ${height}`} role="img" aria-label=${t("why.score_parts", { parts: text })}>
      ${boxes.map((box) => html`<rect key=${box.name} class=${`f${box.series}`} x=${box.x} y="2" width=${Math.max(box.size, 0.6)} height=${height - 4}><title>${`${box.name}: ${box.value}`}</title></rect>`)}
      <line x1=${middle} x2=${middle} y1="0" y2=${height} class="axis" />
    </svg>`;
}

/** The largest sum of the positive or of the negative parts among several scores. */
export function scoreScale(scores) {
  let largest = 0;
  for (const parts of scores) {
    let up = 0, down = 0;
    for (const value of Object.values(parts)) value > 0 ? (up += value) : (down -= value);
    largest = Math.max(largest, up, down);
  }
  return largest;
}
