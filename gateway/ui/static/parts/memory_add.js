// The dialog that adds a memory of a user.
import { postJson } from "../lib/api.js";
import { html, useRef, useState } from "../lib/dom.js";
import { label, t } from "../lib/i18n.js";
import { Button, describeError, Field } from "./basic.js";
import { Dialog } from "./dialog.js";
import { showToast } from "./toast.js";

const KINDS = ["turn", "fact", "preference", "skill"];
const MOST_TAGS = 100;

/** `onDone(records)` gets what was stored; `onClose` when the dialog is to be removed. */
export function AddMemory({ user, session, onDone, onClose }) {
  const form = useRef(null);
  const [error, setError] = useState(null);
  const [isRunning, setRunning] = useState(false);
  const save = async (event) => {
    event.preventDefault();
    setRunning(true);
    try {
      const { data } = await postJson("/v1/memory", readForm(form.current, user));
      onClose();
      showToast(t("memories.added", { count: data.length }));
      onDone(data);
    } catch (failure) {
      setError(failure);
      setRunning(false);
    }
  };
  const foot = html`<${Button} onClick=${onClose}>${t("action.cancel")}<//><${Button} kind="main" disabled=${isRunning} onClick=${() => form.current.requestSubmit()}>${t("memories.add")}<//>`;
  return html`
    <${Dialog} title=${t("memories.add_title", { user })} onClose=${onClose} foot=${foot}>
      <form ref=${form} class="form" onSubmit=${save}>
        <${Field} label=${t("memory_actions.text")} hint=${t("memories.add_hint")}><textarea class="input" name="text" rows="4" required autofocus></textarea><//>
        <div class="field-row">
          <${Field} label=${t("memories.kind")}><select class="input" name="kind">${KINDS.map((kind) => html`<option key=${kind} value=${kind}>${label("kind", kind)}</option>`)}</select><//>
          <${Field} label=${t("memories.said_at")}><input class="input" name="at" type="datetime-local" /><//>
        </div>
        <div class="field-row">
          <${Field} label=${t("memories.session")}><input class="input" name="session" maxlength="256" value=${session} /><//>
          <${Field} label=${t("memories.tags")}><input class="input" name="tags" placeholder=${t("memories.tags_hint")} /><//>
        </div>
      </form>
      ${error && html`<p class="note note-bad" role="alert">${describeError(error)}</p>`}
    <//>`;
}

function readForm(form, user) {
  const { text, kind, at, session, tags } = form.elements;
  const body = { user, text: text.value, kind: kind.value };
  if (at.value) body.at = new Date(at.value).toISOString();
  if (session.value.trim()) body.session = session.value.trim();
  const names = tags.value.split(/[,，、]/).map((name) => name.trim()).filter(Boolean).slice(0, MOST_TAGS);
  if (names.length) body.tags = names;
  return body;
}
