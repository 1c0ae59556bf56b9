import { html } from "../lib/dom.js";

export const MemoriesPage = () => html`<h1>Memories</h1>`;
