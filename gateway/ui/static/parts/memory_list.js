// A list of memories with selection, and the bar for what is selected.
import { patchJson } from "../lib/api.js";
import { html } from "../lib/dom.js";
import { formatDate, formatNumber } from "../lib/format.js";
import { label, t } from "../lib/i18n.js";
import { Link } from "../lib/router.js";
import { ActionButton, Badge, Button } from "./basic.js";
import { forgetMany } from "./memory_actions.js";
import { RowTable } from "./table.js";
import { showToast } from "./toast.js";

/** The most memories that can be changed at once. */
export const MOST_SELECTED = 1000;
const SHOWN = 300; // characters of a text

/** `selection`: a Set of ids; `onToggle(id, isRange)`, `onToggleAll()`. `isSearch`: the rows have a relevance. */
export function MemoryTable({ rows, selection, onToggle, onToggleAll, isSearch, ...rest }) {
  const isWhole = rows.length > 0 && selection.size >= Math.min(rows.length, MOST_SELECTED);
  const columns = [
    { key: "check", width: "2.7rem", title: html`<label class="check-cell"><input type="checkbox" checked=${isWhole} aria-label=${t("memories.select_all")} onClick=${onToggleAll} /></label>`, cell: (row) => html`<label class="check-cell"><input type="checkbox" checked=${selection.has(row.id)} aria-label=${t("memories.select", { text: row.text.slice(0, 60) })} onClick=${(event) => onToggle(row.id, event.shiftKey)} /></label>` },
    { key: "text", title: t("memory_actions.text"), cell: (row) => html`<${Link} to=${`/memories/${row.id}`} class=${row.status === "archived" ? "plain-link muted" : "plain-link"}>${row.title && html`<b>${row.title}</b> · `}${row.text.slice(0, SHOWN)}<//>` },
    isSearch && { key: "relevance", title: t("memories.relevance"), width: "9rem", hide: "small", number: true, cell: (row) => html`<${Relevance} value=${row.relativity} />` },
    { key: "kind", title: t("memories.kind"), width: "9.4rem", hide: "middle", cell: (row) => html`<${KindBadge} record=${row} />` },
    { key: "at", title: t("memories.said_at"), width: "10.6rem", hide: "small", cell: (row) => formatDate(row.at) },
    { key: "valid", title: t("memories.valid"), width: "16.4rem", hide: "roomy", cell: (row) => html`<span class="muted">${formatValidity(row)}</span>` },
    { key: "session", title: t("memories.session"), width: "12%", hide: "roomy", cell: (row) => html`<span class="muted" title=${row.session_id}>${row.session_id}</span>` },
  ].filter(Boolean);
  return html`<${RowTable} label=${t("title.memories")} columns=${columns} rows=${rows} ...${rest} />`;
}

export const formatValidity = (record) => t("memories.validity", { from: formatDate(record.valid_from), to: record.valid_to ? formatDate(record.valid_to) : t("memories.still") });

export function KindBadge({ record }) {
  if (record.is_standing) return html`<${Badge} tone="accent">${t("memories.of_profile")}<//>`;
  return html`<${Badge}>${label("kind", record.kind)}<//>`;
}

/** How well a memory matches the query, from 0 to 1. */
export const Relevance = ({ value }) => html`
  <span class="relevance"><svg class="relevance-bar" aria-hidden="true"><rect class="track" width="100%" height="100%" rx="3" /><rect class="f1" width=${`${100 * Math.max(0, Math.min(1, value))}%`} height="100%" rx="3" /></svg>
    <span class="mono">${value}</span></span>`;

/**
 * What can be done with the selected rows; `matching`: a selection of all that match the filters, if that is possible,
 * with their number. `onChange(…records)` gets changed memories, `onDelete` the answer to a deletion.
 */
export function BulkBar({ user, rows, matching, onClear, onChange, onDelete }) {
  const change = (status) => async () => {
    const changed = [];
    try {
      for (const row of rows) if (row.status !== status) changed.push(await patchJson(`/v1/memory/${row.id}`, { status }));
      showToast(t(status === "archived" ? "memories.archived_count" : "memories.restored_count", { count: changed.length }));
    } finally {
      onClear();
      onChange(...changed);
    }
  };
  const isAny = (status) => rows.some((row) => row.status === status);
  return html`
    <div class="bulk" role="group" aria-label=${t("memories.bulk")}>
      <b role="status">${t("memories.selected", { count: formatNumber(rows.length) })}</b>
      ${isAny("activated") && html`<${ActionButton} small action=${change("archived")}>${t("memories.archive")}<//>`}
      ${isAny("archived") && html`<${ActionButton} small action=${change("activated")}>${t("memories.restore")}<//>`}
      <${Button} small kind="danger" onClick=${() => forgetMany({ user, ids: rows.map((row) => row.id) }, onDelete)}>${t("memories.forget_selected")}<//>
      ${matching && html`<${Button} small kind="danger" onClick=${() => forgetMany({ user, filter: matching.filter }, onDelete)}>${t("memories.forget_matching", { count: formatNumber(matching.total) })}<//>`}
      <${Button} small kind="quiet" onClick=${onClear}>${t("memories.clear_selection")}<//>
    </div>`;
}
