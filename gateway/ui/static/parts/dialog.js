// Dialogs: the browser's own, which keep the focus inside and close with Escape.
import { html, signal, useEffect, useRef } from "../lib/dom.js";
import { t } from "../lib/i18n.js";
import { Button, describeError } from "./basic.js";

export function Dialog({ title, onClose, children, foot }) {
  const element = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    element.current.showModal();
    return () => before instanceof HTMLElement && before.isConnected && before.focus();
  }, []);
  const closeOutside = (event) => event.target === element.current && event.detail && onClose();
  return html`
    <dialog ref=${element} aria-label=${title} onClose=${onClose} onMouseDown=${closeOutside}>
      <div class="dialog-head"><h2>${title}</h2><${Button} kind="quiet" small aria-label=${t("action.close")} onClick=${onClose}>✕<//></div>
      <div class="dialog-body">${children}</div>
      ${foot && html`<div class="dialog-foot">${foot}</div>`}
    </dialog>`;
}

const question = signal(null);

/** Asks before something that cannot be taken back; `act` runs if the answer is yes. `content`: what it concerns. */
export const askFirst = (title, content, action, act) => (question.value = { title, content, action, act, error: null, isRunning: false });

export function Question() {
  const asked = question.value;
  if (!asked) return null;
  const close = () => (question.value = null);
  const confirm = async () => {
    question.value = { ...asked, isRunning: true, error: null };
    try {
      await asked.act();
      close();
    } catch (error) {
      question.value = { ...asked, isRunning: false, error };
    }
  };
  const foot = html`
    <${Button} onClick=${close} autofocus>${t("action.cancel")}<//>
    <${Button} kind="main danger" disabled=${asked.isRunning} onClick=${confirm}>${asked.action}<//>`;
  return html`
    <${Dialog} title=${asked.title} onClose=${close} foot=${foot}>
      ${asked.content}
      ${asked.error && html`<div class="note note-bad" role="alert">${describeError(asked.error)}</div>`}
    <//>`;
}
