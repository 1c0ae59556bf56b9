// The users of a tenant with their memories, and the keys of the gateway (without the keys themselves).
import settingsTexts from "../lang/settings.js";
import { getJson, me, url } from "../lib/api.js";
import { html, useRef } from "../lib/dom.js";
import { formatMoment, formatNumber } from "../lib/format.js";
import { addTexts, t } from "../lib/i18n.js";
import { useKeys } from "../lib/keys.js";
import { useLoad } from "../lib/load.js";
import { Link, navigate, parameter, setQuery } from "../lib/router.js";
import { Badge, Empty, ErrorNote, Loaded, Note } from "../parts/basic.js";
import { Icon } from "../parts/icons.js";
import { RowTable } from "../parts/table.js";

addTexts(settingsTexts);

const PAGE_SIZE = 200;

export function UsersPage() {
  const search = useRef(null);
  const text = parameter("q");
  const state = useLoad(text, (signal) => getJson(url("/v1/memory/users", { query: text, limit: PAGE_SIZE }), { signal }));
  const rows = state.data?.data ?? [];
  const selected = rows.findIndex((row) => row.id === parameter("user"));
  const select = (index) => rows.length && setQuery({ user: rows[Math.max(0, Math.min(index, rows.length - 1))].id });
  const open = (row) => navigate("/memories", { user: row.id });
  useKeys({
    j: [t("keys.next"), () => select(selected + 1)],
    k: [t("keys.previous"), () => select(selected - 1)],
    Enter: [t("keys.open"), () => selected >= 0 && open(rows[selected])],
    "/": [t("keys.search"), () => search.current.focus()],
  });
  const loadMore = useMoreUsers(state, text);
  return html`
    <header class="page-head"><h1>${t("title.users")}</h1></header>
    <div class="toolbar"><label class="search"><span class="hidden-text">${t("users.search")}</span><${Icon} name="search" />
      <input ref=${search} class="input" type="search" placeholder=${t("users.search")} value=${text} onInput=${(event) => setQuery({ q: event.target.value })} onKeyDown=${(event) => event.key === "Escape" && event.target.blur()} /></label></div>
    <${Loaded} of=${state}>${() => (rows.length
      ? html`<div class="users-table"><${RowTable} label=${t("users.users")} columns=${userColumns()} rows=${rows} selected=${selected} onSelect=${select} onOpen=${open} onEnd=${loadMore} /></div>`
      : html`<${Empty} title=${t(text ? "users.none_match" : "users.none")}><p>${t("users.none_text")}</p><//>`)}<//>
    <${Keys} />`;
}

function useMoreUsers(state, text) {
  const isRunning = useRef(false);
  return async () => {
    if (!state.data?.has_more || isRunning.current) return;
    isRunning.current = true;
    try {
      const more = await getJson(url("/v1/memory/users", { query: text, limit: PAGE_SIZE, after: state.data.next }));
      state.setData((data) => ({ ...more, data: [...data.data, ...more.data] }));
    } finally {
      isRunning.current = false;
    }
  };
}

const userColumns = () => [
  { key: "id", title: t("users.user"), cell: (row) => html`<${Link} to="/memories" parameters=${{ user: row.id }}>${row.id}<//>` },
  { key: "memories", title: t("users.memories"), width: "8.6rem", number: true, cell: (row) => formatNumber(row.memories) },
  { key: "cubes", title: t("users.cubes"), width: "6.5rem", number: true, hide: "middle", cell: (row) => formatNumber(row.cubes?.length ?? 0) },
  { key: "updated", title: t("users.updated"), width: "15.8rem", hide: "middle", cell: (row) => formatMoment(row.updated_at) },
  { key: "turns", title: t("title.turns"), width: "6.5rem", cell: (row) => html`<${Link} to="/turns" parameters=${{ user: row.id }}>${t("nav.turns")}<//>` },
];

function Keys() {
  const state = useLoad("keys", (signal) => getJson("/v1/gateway/keys", { signal }));
  return html`
    <h2>${t("users.keys")}</h2>
    ${me.value.is_open && html`<${Note}>${t("users.open")}<//>`}
    ${state.error ? html`<${ErrorNote} error=${state.error} retry=${state.reload} />` : html`<${Loaded} of=${state}>${(list) => list.data.length > 0 && html`
      <div class="table-box" tabindex="0" role="region" aria-label=${t("users.keys")}><table>
        <thead><tr><th scope="col">${t("users.key")}</th><th scope="col">${t("users.tenant")}</th><th scope="col">${t("users.pinned")}</th><th scope="col">${t("users.rights")}</th></tr></thead>
        <tbody>${list.data.map((key) => html`<tr key=${key.name}><td>${key.name}</td><td>${key.tenant}</td><td>${key.user ?? html`<span class="muted">${t("users.any")}</span>`}</td>
          <td><span class="chips">${key.rights.map((right) => html`<${Badge} key=${right}>${right}<//>`)}</span></td></tr>`)}</tbody>
      </table></div>`}<//>`}
    <p class="muted small">${t("users.keys_text")}</p>`;
}
