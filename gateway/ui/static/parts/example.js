// Requests to paste, which the pages show while they are empty.
import { me } from "../lib/api.js";
import { html } from "../lib/dom.js";
import { t } from "../lib/i18n.js";
import { Link } from "../lib/router.js";
import { Code } from "./basic.js";

/** A command that posts JSON to the gateway; with a place for the key where the gateway asks for keys. */
export function curlExample(path, body) {
  const key = me.value.is_open ? "" : `-H 'Authorization: Bearer ${t("label.key")}' `;
  const text = JSON.stringify(body).replaceAll("'", "'\\''");
  return `curl ${location.origin}${path} \\\n  ${key}-H 'Content-Type: application/json' \\\n  -d '${text}'`;
}

const CHAT = { model: "default", user: "anna", messages: [{ role: "user", content: "My cat is called Miso." }] };

/** A first chat: from a shell, or in the playground. */
export const FirstChat = () => html`
  <${Code} text=${curlExample("/v1/chat/completions", CHAT)} />
  <p>${t("label.try_playground")} <${Link} to="/playground" parameters=${{ user: CHAT.user }}>${t("nav.playground")}<//></p>`;
