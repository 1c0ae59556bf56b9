// Self-service erasure: the holder of a key deletes everything that is remembered of its user.
import { deleteJson, url } from "../lib/api.js";
import { html, useRef, useState } from "../lib/dom.js";
import { t } from "../lib/i18n.js";
import { Button, describeError, Field } from "./basic.js";
import { Dialog } from "./dialog.js";
import { showToast } from "./toast.js";

const SECONDS = 600;

/** The id of the user must be typed, as the gateway asks for it too. */
export function EraseAll({ user, onDone, onClose }) {
  const field = useRef(null);
  const [error, setError] = useState(null);
  const [isRunning, setRunning] = useState(false);
  const erase = async (event) => {
    event.preventDefault();
    setError(null);
    setRunning(true);
    try {
      const { deleted } = await deleteJson(url("/v1/me", { confirm: field.current.value || " " }), { seconds: SECONDS });
      onClose();
      showToast(t("memories.erased", { count: deleted }));
      onDone();
    } catch (failure) {
      setError(failure);
      setRunning(false);
    }
  };
  const foot = html`<${Button} onClick=${onClose}>${t("action.cancel")}<//><${Button} kind="main danger" disabled=${isRunning} onClick=${erase}>${t("memories.erase")}<//>`;
  return html`
    <${Dialog} title=${t("memories.erase_title", { user })} onClose=${onClose} foot=${foot}>
      <p>${t("memories.erase_text")}</p>
      <form onSubmit=${erase}><${Field} label=${t("memories.erase_confirm", { user })}><input ref=${field} class="input" autocomplete="off" maxlength="256" autofocus /><//></form>
      ${error && html`<p class="note note-bad" role="alert">${describeError(error)}</p>`}
    <//>`;
}
