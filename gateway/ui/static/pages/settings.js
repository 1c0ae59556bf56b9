import { html } from "../lib/dom.js";

export const SettingsPage = () => html`<h1>Settings</h1>`;
