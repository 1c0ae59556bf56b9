// Maintenance of the memory: reindexing, export, import in batches, forgetting with purge; with progress.
import { getJson, postJson, send, url } from "../lib/api.js";
import { html, useRef, useState } from "../lib/dom.js";
import { formatNumber } from "../lib/format.js";
import { label, t } from "../lib/i18n.js";
import { useInterval, useLoad } from "../lib/load.js";
import { ActionButton, Button, describeError, Field, Loaded } from "./basic.js";
import { askFirst } from "./dialog.js";
import { downloadExport } from "./download.js";
import { showToast } from "./toast.js";

const LINES_AT_ONCE = 500;
const IMPORT_SECONDS = 300;
const PURGE_SECONDS = 600;

export const Maintenance = () => html`<div class="grid"><${Reindex} /><${Export} /><${Import} /><${Purge} /></div>`;

const Card = ({ title, text, children }) => html`<section class="card"><div class="card-head"><h2>${title}</h2></div><div class="card-body"><p class="muted">${text}</p>${children}</div></section>`;

export const ProgressBar = ({ value, of, label: name }) => html`
  <div class="progress" role="progressbar" aria-label=${name} aria-valuemin="0" aria-valuemax=${of} aria-valuenow=${value}><span style=${{ width: `${of ? (100 * value) / of : 0}%` }}></span></div>`;

function Reindex() {
  const state = useLoad("reindex", (signal) => getJson("/v1/memory/reindex", { signal }));
  useInterval(() => state.data?.state === "running" && state.reload(), 1);
  const start = async () => state.setData(await postJson("/v1/memory/reindex"));
  return html`
    <${Card} title=${t("maintenance.reindex")} text=${t("maintenance.reindex_text")}>
      <${Loaded} of=${state}>${(progress) => html`
        <p role="status">${label("maintenance.state", progress.state)} ${progress.of > 0 && t("maintenance.rows", { rows: formatNumber(progress.rows), of: formatNumber(progress.of) })}</p>
        ${progress.of > 0 && html`<${ProgressBar} value=${progress.rows} of=${progress.of} label=${t("maintenance.reindex")} />`}
        ${progress.reason && html`<p class="note note-warn">${progress.reason}</p>`}
        <div><${ActionButton} action=${start} disabled=${progress.state === "running"}>${t("maintenance.reindex_start")}<//></div>`}<//>
    <//>`;
}

const Export = () => html`
  <${Card} title=${t("maintenance.export")} text=${t("maintenance.export_text")}>
    <div class="buttons"><${ActionButton} action=${() => downloadExport("/v1/memory/export", "memories.jsonl")}>${t("maintenance.export_start")}<//>
      <${ActionButton} action=${() => downloadExport("/v1/memory/export?vectors=true", "memories-vectors.jsonl")}>${t("maintenance.export_vectors")}<//></div>
  <//>`;

/** Reads a file as batches of whole lines, without having all of it in memory. */
async function* readBatches(file) {
  const reader = file.stream().pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", lines = [], size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    const parts = (rest + (value ?? "")).split("\n");
    rest = done ? "" : parts.pop();
    for (const line of parts) {
      if (line.trim()) lines.push(line);
      size += line.length + 1;
      if (lines.length >= LINES_AT_ONCE) {
        yield [lines, size];
        lines = [];
      }
    }
    if (done) break;
  }
  if (lines.length) yield [lines, size];
}

function Import() {
  const input = useRef(null);
  const [state, setState] = useState(null);
  const run = async () => {
    const file = input.current.files[0];
    if (!file) return showToast(t("maintenance.choose_file"), "bad");
    const result = { read: 0, size: file.size, imported: 0, unchanged: 0, error: null, isDone: false };
    try {
      for await (const [lines, size] of readBatches(file)) {
        const response = await send("POST", "/v1/memory/import", { body: lines.join("\n"), headers: { "content-type": "application/x-ndjson" }, seconds: IMPORT_SECONDS });
        const counts = await response.json();
        result.imported += counts.imported;
        result.unchanged += counts.unchanged;
        result.read = Math.min(size, file.size);
        setState({ ...result });
      }
      result.read = file.size;
      result.isDone = true;
    } catch (error) {
      result.error = error;
    }
    setState({ ...result });
  };
  return html`
    <${Card} title=${t("maintenance.import")} text=${t("maintenance.import_text")}>
      <${Field} label=${t("maintenance.file")}><input ref=${input} class="input" type="file" accept=".jsonl,.ndjson,application/x-ndjson" /><//>
      ${state && html`<${ProgressBar} value=${state.read} of=${state.size} label=${t("maintenance.import")} />
        <p role="status">${t(state.isDone ? "maintenance.import_done" : "maintenance.import_counts", { imported: formatNumber(state.imported), unchanged: formatNumber(state.unchanged) })}</p>
        ${state.error && html`<p class="note note-bad" role="alert">${describeError(state.error)}</p>`}`}
      <div><${ActionButton} action=${run}>${t("maintenance.import_start")}<//></div>
    <//>`;
}

function Purge() {
  const user = useRef(null), session = useRef(null);
  const [result, setResult] = useState(null);
  const ask = () => {
    const selection = { user: user.current.value.trim() || undefined, session: session.current.value.trim() || undefined };
    if (!selection.user && !selection.session) return showToast(t("maintenance.purge_needs"), "bad");
    const subject = [selection.user, selection.session].filter(Boolean).join(" · ");
    askFirst(t("maintenance.purge_title"), html`<p>${t("maintenance.purge_ask", { subject })}</p>`, t("maintenance.purge_start"), async () => {
      const response = await send("POST", url("/v1/memory/forget"), { body: { ...selection, purge: true }, seconds: PURGE_SECONDS });
      setResult(await response.json());
    });
    return undefined;
  };
  return html`
    <${Card} title=${t("maintenance.purge")} text=${t("maintenance.purge_text")}>
      <div class="field-row"><${Field} label=${t("users.user")}><input ref=${user} class="input" autocomplete="off" /><//><${Field} label=${t("maintenance.session")}><input ref=${session} class="input" autocomplete="off" /><//></div>
      ${result && html`<p role="status">${t("maintenance.purge_done", { count: formatNumber(result.deleted) })}</p>`}
      <div><${Button} kind="danger" onClick=${ask}>${t("maintenance.purge_start")}<//></div>
    <//>`;
}
