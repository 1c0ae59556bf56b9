// The profile of a user: what is put into every prompt, set apart from the memories that are recalled when they matter.
import { getJson, url } from "../lib/api.js";
import { html } from "../lib/dom.js";
import { formatDate, formatNumber } from "../lib/format.js";
import { label, t } from "../lib/i18n.js";
import { useLoad } from "../lib/load.js";
import { Link } from "../lib/router.js";
import { ErrorNote } from "./basic.js";

const LIMIT = 200;

/** `version` changes when the memories of the user do. */
export function Profile({ user, version }) {
  const { data, error, reload } = useLoad(`${user}\n${version}`, (signal) => getJson(url("/v1/memory/list", { user, standing: true, limit: LIMIT }), { signal }));
  if (error) return html`<${ErrorNote} error=${error} retry=${reload} />`;
  if (!data) return null;
  return html`
    <section class="card profile" aria-label=${t("memories.profile")}>
      <details open>
        <summary class="card-head"><h2>${t("memories.profile")}</h2><span class="muted small">${t("memories.profile_text")}</span><span class="badge badge-accent">${formatNumber(data.total ?? data.data.length)}</span></summary>
        ${data.data.length ? html`<ul class="profile-list">${data.data.map((record) => html`
          <li key=${record.id}><span class="muted small">${label("topic", record.topic ?? "other")}</span>
            <${Link} to=${`/memories/${record.id}`}>${record.text.slice(0, 300)}<//>
            <span class="muted small nowrap">${formatDate(record.valid_from)}</span></li>`)}</ul>` : html`<p class="card-body muted">${t("memories.no_profile")}</p>`}
      </details>
    </section>`;
}
