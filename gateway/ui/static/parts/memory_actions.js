// Changing and deleting memories, from any page.
import { deleteJson, getJson, patchJson, postJson } from "../lib/api.js";
import { html, signal, useRef, useState } from "../lib/dom.js";
import { formatNumber } from "../lib/format.js";
import { t } from "../lib/i18n.js";
import { askFirst, Dialog } from "./dialog.js";
import { Button, describeError, Field } from "./basic.js";
import { showToast } from "./toast.js";

const edited = signal(null);

/** Opens the dialog to change a memory; `onDone(record)` gets the new version. */
export const editMemory = (record, onDone) => (edited.value = { record, onDone });

/** The dialog of the memory that is being edited; pages that edit show it once. */
export function MemoryEditor() {
  const task = edited.value;
  return task && html`<${Editor} key=${task.record.id} ...${task} onClose=${() => (edited.value = null)} />`;
}

function Editor({ record, onDone, onClose }) {
  const text = useRef(null);
  const [error, setError] = useState(null);
  const save = async () => {
    try {
      const changed = await patchJson(`/v1/memory/${record.id}`, { text: text.current.value, ...(record.version ? { version: record.version } : {}) });
      onClose();
      showToast(t("memory_actions.saved"), "", [t("memory_actions.undo"), () => undoChange(record.id, onDone)]);
      onDone(changed);
    } catch (failure) {
      setError(failure);
    }
  };
  return html`
    <${Dialog} title=${t("memory_actions.edit_title")} onClose=${onClose} foot=${html`<${Button} onClick=${onClose}>${t("action.cancel")}<//><${Button} kind="main" onClick=${save}>${t("action.save")}<//>`}>
      <${Field} label=${t("memory_actions.text")} hint=${t("memory_actions.edit_hint")}><textarea ref=${text} class="input" rows="5" autofocus>${record.text}</textarea><//>
      ${error && html`<p class="note note-bad" role="alert">${describeError(error)}</p>`}
    <//>`;
}

/** Takes back the last change of a memory; `onDone(record)` gets the memory as it is then. */
export async function undoChange(id, onDone) {
  try {
    const { data } = await postJson(`/v1/memory/undo/${id}`);
    showToast(t("memory_actions.undone"));
    onDone(data.find((record) => record.id === id) ?? data[0]);
  } catch (error) {
    showToast(describeError(error), "bad");
  }
}

/** Archives a memory, or makes an archived one valid again. */
export async function setStatus(record, status, onDone) {
  try {
    onDone(await patchJson(`/v1/memory/${record.id}`, { status }));
    showToast(t(status === "archived" ? "memory_actions.archived" : "memory_actions.restored"), "", [t("memory_actions.undo"), () => undoChange(record.id, onDone)]);
  } catch (error) {
    showToast(describeError(error), "bad");
  }
}

/** Deletes a memory after showing everything that goes with it; `onDone` gets the answer of the API. */
export async function forgetMemory(record, onDone) {
  try {
    const preview = await getDeletion(record.id);
    askFirst(t("memory_actions.forget_title"), html`<${Deletion} preview=${preview} />`, t("memory_actions.forget_count", { count: preview.count }), async () => {
      const deletion = await deleteJson(`/v1/memory/${record.id}`);
      showToast(t("memory_actions.forgotten", { count: deletion.count }));
      onDone(deletion);
    });
  } catch (error) {
    showToast(describeError(error), "bad");
  }
}

const getDeletion = (id) => deleteJson(`/v1/memory/${id}?preview=true`);

/** Deletes several memories after showing everything that goes with them. `selection`: the body of /v1/memory/delete. */
export async function forgetMany(selection, onDone) {
  try {
    const preview = await postJson("/v1/memory/delete", { ...selection, preview: true });
    askFirst(t("memory_actions.forget_title"), html`<${Deletion} preview=${preview} />`, t("memory_actions.forget_count", { count: preview.count }), async () => {
      const deletion = await postJson("/v1/memory/delete", { ...selection, preview: false });
      showToast(t("memory_actions.forgotten", { count: deletion.count }));
      onDone(deletion);
    });
  } catch (error) {
    showToast(describeError(error), "bad");
  }
}

const SHOWN = 50;

function Deletion({ preview }) {
  const list = (title, records) => records?.length > 0 && html`
    <section><h3>${title} (${formatNumber(records.length)})</h3>
      <ul class="deletion">${records.slice(0, SHOWN).map((record) => html`<li key=${record.id}>${record.text || record.id}</li>`)}</ul>
      ${records.length > SHOWN && html`<p class="muted">${t("action.more", { count: records.length - SHOWN })}</p>`}
    </section>`;
  return html`
    <p>${t("memory_actions.forget_text")}</p>
    ${list(t("memory_actions.chosen"), preview.data)}
    ${list(t("memory_actions.derived"), preview.derived)}
    ${list(t("memory_actions.updated"), preview.updated)}
    ${preview.has_more && html`<p class="note note-warn">${t("memory_actions.has_more")}</p>`}`;
}

/** The present version of a memory. */
export const loadMemory = (id, options) => getJson(`/v1/memory/${encodeURIComponent(id)}`, options);
