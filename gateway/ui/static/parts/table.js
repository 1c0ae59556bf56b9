// A table of any length: only the rows in sight are in the page. All rows have the same height.
import { classes, html, useEffect, useLayoutEffect, useRef, useState } from "../lib/dom.js";

const ROW = 34; // pixels, as in the style sheet
const EXTRA = 12; // rows beyond the edges

/**
 * columns: [{key, title, hint?, cell(row), number?, width?, hide?: "wide" | "roomy" | "middle" | "small"}]; rows: any, with `id`.
 * `selected`: index or -1; `onOpen(row)`; `onEnd` when the last rows come into sight.
 */
export function RowTable({ columns, rows, selected = -1, onSelect, onOpen, onEnd, label }) {
  const box = useRef(null);
  const [view, setView] = useState({ top: 0, height: 800 });
  const frame = useRef(0);
  const measure = () => {
    cancelAnimationFrame(frame.current);
    frame.current = requestAnimationFrame(() => {
      if (box.current) setView({ top: box.current.scrollTop, height: box.current.clientHeight });
    });
  };
  useLayoutEffect(() => {
    const observer = new ResizeObserver(measure);
    observer.observe(box.current);
    return () => { observer.disconnect(); cancelAnimationFrame(frame.current); };
  }, []);
  const first = Math.max(0, Math.floor(view.top / ROW) - EXTRA);
  const last = Math.min(rows.length, Math.ceil((view.top + view.height) / ROW) + EXTRA);
  useEffect(() => {
    if (onEnd && rows.length && last >= rows.length) onEnd();
  }, [last, rows.length]);
  useEffect(() => {
    if (selected < 0 || !box.current) return;
    const top = selected * ROW, space = box.current;
    if (top < space.scrollTop) space.scrollTop = top;
    else if (top + 2 * ROW > space.scrollTop + space.clientHeight) space.scrollTop = top + 2 * ROW - space.clientHeight;
  }, [selected]);
  const hidden = (column) => classes(column.number && "number", column.hide && `if-${column.hide}`);
  const cell = (column, item) => {
    const content = column.cell(item);
    return html`<td key=${column.key} class=${hidden(column)} title=${column.title && typeof content === "string" ? content : undefined}>${content}</td>`;
  };
  const row = (item, index) => html`
    <tr key=${item.id} class="row" aria-rowindex=${index + 2} aria-selected=${index === selected} onClick=${(event) => { onSelect?.(index); if (!getSelection().toString() && !event.target.closest("a, button, label, input")) onOpen?.(item); }}>
      ${columns.map((column) => cell(column, item))}
    </tr>`;
  return html`
    <div class="table-box row-table" style=${{ "--rows": rows.length }} ref=${box} onScroll=${measure} tabindex="0" role="region" aria-label=${label}>
      <table class="table-fixed" role="grid" aria-rowcount=${rows.length + 1} aria-label=${label}>
        <thead><tr aria-rowindex="1">${columns.map((column) => html`<th key=${column.key} scope="col" class=${hidden(column)} title=${column.hint} style=${column.width ? { width: column.width } : undefined}>${column.title}</th>`)}</tr></thead>
        <tbody>
          ${first > 0 && html`<tr key="above" class="spacer" aria-hidden="true"><td style=${{ height: `${first * ROW}px` }}></td></tr>`}
          ${rows.slice(first, last).map((item, offset) => row(item, first + offset))}
          ${last < rows.length && html`<tr key="below" class="spacer" aria-hidden="true"><td style=${{ height: `${(rows.length - last) * ROW}px` }}></td></tr>`}
        </tbody>
      </table>
    </div>`;
}
