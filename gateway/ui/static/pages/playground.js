import { html } from "../lib/dom.js";

export const PlaygroundPage = () => html`<h1>Playground</h1>`;
