// The user whose memories are shown: fixed by the key, or chosen among those of the tenant.
import { getJson, may, me, url } from "../lib/api.js";
import { html, useRef, useState } from "../lib/dom.js";
import { formatDate, formatNumber } from "../lib/format.js";
import { t } from "../lib/i18n.js";
import { useKeys } from "../lib/keys.js";
import { useLoad } from "../lib/load.js";
import { Link, navigate, parameter } from "../lib/router.js";
import { Button, Code, Empty, Loaded } from "./basic.js";
import { curlExample } from "./example.js";
import { Icon } from "./icons.js";
import { RowTable } from "./table.js";

const PAGE_SIZE = 500;
const SUGGESTIONS = 20;
const WAIT = 150; // milliseconds after the last key

/** The user of the page: that of the key, of the address, or the one that the gateway takes if none is named. */
export const shownUser = () => me.value.user || parameter("user") || me.value.default_user || "";

export const isUserFixed = () => Boolean(me.value.user);

const showUser = (user) => navigate("/memories", { user });

const listUsers = (query, limit, after, options) => getJson(url("/v1/memory/users", { query, limit, after }), options);

/** A field to go to another user, with suggestions if the key may list users. */
export function UserField({ user }) {
  const [ids, setIds] = useState([]);
  const timer = useRef(0);
  if (isUserFixed()) return html`<span class="badge badge-accent" title=${t("memories.user_fixed")}><span class="clip">${user}</span></span>`;
  const suggest = (text) => {
    clearTimeout(timer.current);
    if (may("admin")) timer.current = setTimeout(async () => setIds((await listUsers(text, SUGGESTIONS).catch(() => ({ data: [] }))).data.map((item) => item.id)), WAIT);
  };
  const choose = (event) => {
    event.preventDefault();
    const value = event.currentTarget.elements.user.value.trim();
    if (value && value !== user) showUser(value);
  };
  return html`
    <form class="user-field" onSubmit=${choose} role="search" aria-label=${t("memories.user")}>
      <label class="row-field"><span>${t("memories.user")}</span>
        <input key=${user} class="input" name="user" list="user-ids" autocomplete="off" maxlength="256" value=${user} placeholder=${t("memories.user_hint")} onFocus=${(event) => { event.target.select(); suggest(""); }} onInput=${(event) => suggest(event.target.value)} onChange=${(event) => ids.includes(event.target.value) && event.target.form.requestSubmit()} /></label>
      <datalist id="user-ids">${ids.map((id) => html`<option key=${id} value=${id}></option>`)}</datalist>
    </form>`;
}

/** The page before a user is chosen. */
export function ChooseUser() {
  const [text, setText] = useState("");
  const state = useLoad(text, async (signal) => (may("admin") ? listUsers(text, PAGE_SIZE, "", { signal }) : { data: [] }));
  const users = state.data?.data ?? [];
  const [selected, setSelected] = useState(-1);
  const search = useRef(null);
  const move = (index) => setSelected(Math.max(0, Math.min(index, users.length - 1)));
  const find = (words) => {
    setText(words);
    setSelected(-1); // in the same frame: a key that is pressed at once is not lost
  };
  useKeys({
    j: [t("keys.next"), () => move(selected + 1)],
    k: [t("keys.previous"), () => move(selected - 1)],
    Enter: [t("keys.open"), () => users[selected] && showUser(users[selected].id)],
    "/": [t("keys.search"), () => search.current?.focus()],
  });
  if (!may("admin")) return html`<${Empty} title=${t("memories.choose_user")}><p>${t("memories.choose_user_text")}</p><${UserField} user="" /><//>`;
  const more = async () => {
    const next = await listUsers(text, PAGE_SIZE, state.data.next);
    state.setData((data) => ({ ...next, data: [...data.data, ...next.data] }));
  };
  return html`
    <div class="toolbar"><label class="search"><span class="hidden-text">${t("memories.find_user")}</span><${Icon} name="search" />
      <input ref=${search} class="input" type="search" maxlength="256" placeholder=${t("memories.find_user")} value=${text} onInput=${(event) => find(event.target.value)} onKeyDown=${(event) => event.key === "Escape" && event.target.blur()} /></label></div>
    <${Loaded} of=${state}>${(data) => (data.data.length || text ? html`
      <${RowTable} label=${t("memories.users")} columns=${userColumns()} rows=${users} selected=${selected} onSelect=${setSelected} onOpen=${(row) => showUser(row.id)} />
      ${data.has_more && html`<div class="buttons"><${Button} onClick=${more}>${t("memories.more_users")}<//></div>`}` : html`<${NoUsers} />`)}<//>`;
}

const userColumns = () => [
  { key: "id", title: t("memories.user"), cell: (row) => html`<${Link} to="/memories" parameters=${{ user: row.id }}>${row.id}<//>` },
  { key: "memories", title: t("title.memories"), width: "8rem", number: true, cell: (row) => formatNumber(row.memories) },
  { key: "updated", title: t("memories.changed"), width: "10rem", hide: "middle", cell: (row) => formatDate(row.updated_at) },
];

const NoUsers = () => html`
  <${Empty} title=${t("memories.no_users")}><p>${t("memories.no_users_text")}</p><${Code} text=${addByCurl("anna")} /><//>`;

/** A command that adds a memory of a user. */
export const addByCurl = (user) => curlExample("/v1/memory", { user, text: "My cat is called Miso." });
