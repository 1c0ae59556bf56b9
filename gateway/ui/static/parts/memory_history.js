// The versions of a memory, the newest first, each with the words in which it differs from the one before.
import { html, useState } from "../lib/dom.js";
import { diffWords } from "../lib/diff.js";
import { formatMoment } from "../lib/format.js";
import { t } from "../lib/i18n.js";
import { Link } from "../lib/router.js";
import { ActionButton, Badge, Button } from "./basic.js";

const SHOWN = 20;

/** `versions`: oldest first; `undo` takes back the last change. */
export function History({ record, versions, undo }) {
  const [isWhole, setWhole] = useState(false);
  const ordered = versions.length ? [...versions].sort((a, b) => a.valid_from.localeCompare(b.valid_from) || endOf(a).localeCompare(endOf(b))) : [record];
  const entries = ordered.map((version, index) => ({ version, before: ordered[index - 1] })).reverse();
  const shown = isWhole ? entries : entries.slice(0, SHOWN);
  return html`
    <section class="card" aria-label=${t("memory.history")}>
      <div class="card-head"><h2>${t("memory.history")}</h2><span class="muted small">${t("memory.versions", { count: versions.length })}</span>
        <${ActionButton} small action=${undo}>${t("memory.undo")} <kbd>u</kbd><//></div>
      <ol class="history">${shown.map(({ version, before }) => html`
        <li key=${version.id} class=${version.id === record.id ? "history-current" : ""} aria-current=${version.id === record.id}>
          <p class="small"><${Link} to=${`/memories/${version.id}`}>${formatMoment(version.valid_from)} – ${version.valid_to ? formatMoment(version.valid_to) : t("memories.still")}<//>
            ${version.id === record.id && html` <${Badge} tone="accent">${t("memory.this")}<//>`}${version.edit_of && html` <${Badge}>${t("memory.earlier_text")}<//>`}</p>
          <p class="memory-text">${before ? html`<${Difference} before=${before.text} after=${version.text} />` : version.text}</p>
        </li>`)}</ol>
      ${entries.length > shown.length && html`<p class="card-body"><${Button} small onClick=${() => setWhole(true)}>${t("action.more", { count: entries.length - shown.length })}<//></p>`}
    </section>`;
}

const endOf = (version) => version.valid_to ?? "9999";

const TAGS = { removed: "del", added: "ins" };

const Difference = ({ before, after }) => diffWords(before, after).map(({ kind, text }, index) => (TAGS[kind] ? html`<${TAGS[kind]} key=${index}>${text}<//>` : text));
