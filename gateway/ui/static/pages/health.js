import { html } from "../lib/dom.js";

export const HealthPage = () => html`<h1>Health</h1>`;
