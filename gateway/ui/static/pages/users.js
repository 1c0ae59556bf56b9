import { html } from "../lib/dom.js";

export const UsersPage = () => html`<h1>Users</h1>`;
