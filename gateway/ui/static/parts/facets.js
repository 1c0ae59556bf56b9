// Filters that list the values there are, with counts.
import { html, useState } from "../lib/dom.js";
import { formatCompact } from "../lib/format.js";
import { t } from "../lib/i18n.js";
import { Button } from "./basic.js";

const SHOWN = 6;

/** One filter. `counts`: {value: count}; `value`: the chosen one or "". `name` turns a value into a text. */
export function Facet({ label, counts, value, onSelect, name = (raw) => raw }) {
  const [isWhole, setWhole] = useState(false);
  const entries = Object.entries(counts ?? {}).sort((a, b) => b[1] - a[1]);
  if (value && !entries.some(([raw]) => raw === value)) entries.unshift([value, 0]);
  const shown = isWhole ? entries : entries.filter(([raw], index) => index < SHOWN || raw === value);
  if (!entries.length) return null;
  return html`
    <div class="chips" role="group" aria-label=${label}>
      <span class="facet-name">${label}</span>
      ${shown.map(([raw, count]) => html`
        <button key=${raw} type="button" class="chip" aria-pressed=${raw === value} title=${raw} onClick=${() => onSelect(raw === value ? "" : raw)}>
          <span class="clip">${name(raw) || t("label.none")}</span><span class="count">${formatCompact(count)}</span>
        </button>`)}
      ${entries.length > shown.length && html`<${Button} kind="quiet" small onClick=${() => setWhole(true)}>${t("action.more", { count: entries.length - shown.length })}<//>`}
    </div>`;
}
