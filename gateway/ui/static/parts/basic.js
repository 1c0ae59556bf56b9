// Small components: buttons, badges, notes, code to copy, states of loading.
import { ApiError } from "../lib/api.js";
import { classes, html, useState } from "../lib/dom.js";
import { t } from "../lib/i18n.js";
import { showToast } from "./toast.js";

export const Button = ({ kind = "", small, children, ...rest }) => html`
  <button type="button" class=${classes("button", kind && kind.split(" ").map((name) => `button-${name}`).join(" "), small && "button-small")} ...${rest}>${children}</button>`;

const TONES = {
  hit: "good", complete: "good", activated: "good", ready: "good", closed: "good", injected: "good",
  miss: "", off: "", archived: "", not_needed: "",
  degraded: "warn", client_gone: "warn", resolving: "warn", loading: "warn",
  refused: "bad", cut: "bad", error: "bad", open: "bad", deleted: "bad",
};

/** A word with a colour. The colour repeats what the word says. */
export const Badge = ({ value, tone, children }) => {
  const colour = tone ?? TONES[value] ?? "";
  return html`<span class=${classes("badge", colour && `badge-${colour}`)}>${children ?? value}</span>`;
};

export function describeError(error) {
  if (error instanceof ApiError) {
    if (error.status === 403) return t("error.forbidden", { message: error.message });
    return error.message;
  }
  if (error?.name === "TimeoutError") return t("error.timeout");
  return t("error.unreachable");
}

export const ErrorNote = ({ error, retry }) => html`
  <div class="note note-bad" role="alert">
    <span>${describeError(error)}</span>
    ${retry && html`<div class="buttons"><${Button} small onClick=${retry}>${t("action.retry")}<//></div>`}
  </div>`;

export const Note = ({ kind = "info", children }) => html`<div class=${`note note-${kind}`}>${children}</div>`;

export const Loading = () => html`<p class="muted" role="status">${t("state.loading")}</p>`;

/** Shows data with the states before and beside it: loading, failed. */
export function Loaded({ of: state, children }) {
  if (state.data === null && state.error) return html`<${ErrorNote} error=${state.error} retry=${state.reload} />`;
  if (state.data === null) return html`<${Loading} />`;
  return html`${state.error && html`<${ErrorNote} error=${state.error} retry=${state.reload} />`}${children(state.data)}`;
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    showToast(t("state.copied"));
  } catch {
    showToast(t("error.clipboard"), "bad");
  }
}

/** Text to paste elsewhere, with a button that copies it. */
export const Code = ({ text, label }) => html`
  <div class="code" tabindex="0" role="region" aria-label=${label ?? t("label.code")}>
    <span class="code-copy"><${Button} small onClick=${() => copyText(text)}>${t("action.copy")}<//></span>${text}
  </div>`;

/** A state without data that says how to get some. */
export const Empty = ({ title, children }) => html`<div class="empty"><h2>${title}</h2>${children}</div>`;

export function Field({ label, hint, children }) {
  return html`<label class="field"><span>${label}</span>${children}${hint && html`<span>${hint}</span>`}</label>`;
}

/** A button that waits for its action, and shows its failure. */
export function ActionButton({ action, children, ...rest }) {
  const [isRunning, setRunning] = useState(false);
  const run = async () => {
    setRunning(true);
    try {
      await action();
    } catch (error) {
      showToast(describeError(error), "bad");
    } finally {
      setRunning(false);
    }
  };
  return html`<${Button} disabled=${isRunning} aria-busy=${isRunning} onClick=${run} ...${rest}>${children}<//>`;
}

/** Tabs that are addresses: [[value, text], …]. */
export const Tabs = ({ tabs, value, onSelect, label }) => html`
  <div class="tabs" role="tablist" aria-label=${label}>
    ${tabs.map(([name, text]) => html`
      <button key=${name} type="button" role="tab" class="tab" aria-selected=${name === value} tabindex=${name === value ? 0 : -1}
        onKeyDown=${(event) => moveTab(event, tabs, value, onSelect)} onClick=${() => onSelect(name)}>${text}</button>`)}
  </div>`;

function moveTab(event, tabs, value, onSelect) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const names = tabs.map(([name]) => name);
  const next = names[(names.indexOf(value) + step + names.length) % names.length];
  const buttons = event.currentTarget.parentElement.children;
  onSelect(next);
  buttons[names.indexOf(next)].focus();
}
