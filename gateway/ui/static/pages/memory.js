import { html } from "../lib/dom.js";

export const MemoryPage = () => html`<h1>Memory</h1>`;
