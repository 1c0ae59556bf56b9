// Short messages about what was done, read out by screen readers.
import { classes, html, signal } from "../lib/dom.js";

const SECONDS = 6;
const toasts = signal([]);
let count = 0;

export function showToast(text, kind = "", action = null) {
  const toast = { id: ++count, text, kind, action };
  toasts.value = [...toasts.value.slice(-3), toast];
  setTimeout(() => hideToast(toast), SECONDS * 1000);
}

const hideToast = (toast) => (toasts.value = toasts.value.filter((other) => other !== toast));

export const Toasts = () => html`
  <div class="toasts" role="status" aria-live="polite">
    ${toasts.value.map((toast) => html`
      <div key=${toast.id} class=${classes("toast fade", toast.kind && `toast-${toast.kind}`)}>
        ${toast.text}
        ${toast.action && html` <button type="button" class="button button-small" onClick=${() => { hideToast(toast); toast.action[1](); }}>${toast.action[0]}</button>`}
      </div>`)}
  </div>`;
