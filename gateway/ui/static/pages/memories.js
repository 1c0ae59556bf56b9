// The memories of a user: profile, list, search by the real recall, timeline. Everything chosen is in the address.
import memoriesTexts from "../lang/memories.js";
import { getJson, url } from "../lib/api.js";
import { html, useEffect, useRef, useState } from "../lib/dom.js";
import { formatMoment, formatNumber } from "../lib/format.js";
import { addTexts, label, t } from "../lib/i18n.js";
import { useKeys } from "../lib/keys.js";
import { useLoad } from "../lib/load.js";
import { navigate, parameter, setQuery } from "../lib/router.js";
import { ActionButton, Button, Code, Empty, Loaded, Tabs } from "../parts/basic.js";
import { downloadExport } from "../parts/download.js";
import { Icon } from "../parts/icons.js";
import { AddMemory } from "../parts/memory_add.js";
import { EraseAll } from "../parts/memory_erase.js";
import { editMemory, forgetMany, forgetMemory, MemoryEditor, setStatus } from "../parts/memory_actions.js";
import { BulkBar, MemoryTable, MOST_SELECTED } from "../parts/memory_list.js";
import { Profile } from "../parts/profile.js";
import { Timeline } from "../parts/timeline.js";
import { showToast } from "../parts/toast.js";
import { addByCurl, ChooseUser, isUserFixed, shownUser, UserField } from "../parts/user_picker.js";

addTexts(memoriesTexts);

const VIEWS = ["list", "timeline"];
const KINDS = ["turn", "fact", "preference", "profile", "skill", "tool", "document"];
const PAGE_SIZE = 500;
const MATCHES = 200; // of a search
const WAIT = 180; // milliseconds after the last key

export function MemoriesPage() {
  const user = shownUser();
  const view = VIEWS.includes(parameter("view")) ? parameter("view") : "list";
  const [dialog, setDialog] = useState("");
  const [version, setVersion] = useState(0); // of the user's memories, as far as this page changed them
  const renew = () => setVersion((number) => number + 1);
  const show = (name) => setQuery({ view: name === "list" ? "" : name, row: "" }, { replace: false });
  useKeys(user ? {
    n: [t("memories.add"), () => setDialog("add")],
    v: [t("memories.other_view"), () => show(VIEWS[1 - VIEWS.indexOf(view)])],
  } : {});
  if (!user) return html`<header class="page-head"><h1>${t("title.memories")}</h1></header><${ChooseUser} />`;
  return html`
    <header class="page-head">
      <h1>${t("title.memories")}</h1>
      <${UserField} user=${user} />
      <div class="buttons"><${Button} kind="main" onClick=${() => setDialog("add")}>${t("memories.add")}<//>
        <${ActionButton} action=${() => download(user)}>${t("memories.export")}<//>
        ${isUserFixed() && html`<${Button} kind="danger" onClick=${() => setDialog("erase")}>${t("memories.erase")}<//>`}</div>
    </header>
    <${Tabs} tabs=${VIEWS.map((name) => [name, t(`memories.view_${name}`)])} value=${view} label=${t("memories.view")} onSelect=${show} />
    <div role="tabpanel" class="panel" aria-label=${t(`memories.view_${view}`)}>
      ${view === "list" ? html`<${ListView} key=${user} user=${user} version=${version} />` : html`<${TimelineView} key=${user} user=${user} version=${version} />`}
    </div>
    ${dialog === "add" && html`<${AddMemory} user=${user} session=${parameter("session")} onDone=${renew} onClose=${() => setDialog("")} />`}
    ${dialog === "erase" && html`<${EraseAll} user=${user} onDone=${renew} onClose=${() => setDialog("")} />`}
    <${MemoryEditor} />`;
}

/** Saves all memories of a user as a file of JSON lines. */
const download = (user) => downloadExport(url("/v1/memory/user-export", { user }), `memories-${user.replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(0, 60)}.jsonl`);

const filters = () => ({ q: parameter("q"), kind: parameter("kind"), session: parameter("session"), archived: parameter("archived"), as_of: parameter("as_of") });

const pause = (milliseconds, signal) => new Promise((resume, stop) => {
  const timer = setTimeout(resume, milliseconds);
  signal.addEventListener("abort", () => { clearTimeout(timer); stop(signal.reason); }, { once: true });
});

/** The rows of the list, or the matches of a search. */
async function loadRows(user, { q, ...chosen }, signal) {
  if (!q.trim()) return getJson(url("/v1/memory/list", { user, ...chosen, limit: PAGE_SIZE }), { signal });
  await pause(WAIT, signal);
  const { kind, session, archived } = chosen;
  const matches = await getJson(url("/v1/memory/search", { user, query: q, kind, archived, limit: MATCHES }), { signal });
  const data = matches.data.filter((record) => !session || record.session_id === session);
  return { data, total: data.length, has_more: false };
}

function ListView({ user, version }) {
  const chosen = filters();
  const key = JSON.stringify(chosen);
  const state = useLoad(`${user}\n${key}\n${version}`, (signal) => loadRows(user, chosen, signal));
  const rows = state.data?.data ?? [];
  const search = useRef(null);
  const [changes, setChanges] = useState(0); // made on this page, after which the profile is loaded again
  const [selection, toggle, setSelection] = useSelection(rows, key);
  const current = rows.findIndex((row) => row.id === parameter("row"));
  const move = (index) => rows.length && setQuery({ row: rows[Math.max(0, Math.min(index, rows.length - 1))].id });
  const update = (...records) => {
    renewRows(state, new Map(records.map((record) => [record.id, record])), chosen);
    setChanges((number) => number + 1);
  };
  const drop = ({ data, derived, updated }) => {
    dropRows(state, [...data, ...derived]);
    update(...updated);
  };
  const act = (action) => () => current >= 0 && action(rows[current]);
  const selected = rows.filter((row) => selection.has(row.id));
  useKeys({
    j: [t("keys.next"), () => move(current + 1)],
    k: [t("keys.previous"), () => move(current - 1)],
    Enter: [t("keys.open"), act((row) => navigate(`/memories/${row.id}`))],
    "/": [t("keys.search"), () => search.current.focus()],
    x: [t("memories.select_row"), act((row) => toggle(row.id))],
    e: [t("action.edit"), act((row) => editMemory(row, update))],
    a: [t("memories.archive_or_restore"), act((row) => setStatus(row, row.status === "archived" ? "activated" : "archived", update))],
    "#": [t("memories.forget_selected"), () => (selected.length ? forgetMany({ user, ids: selected.map((row) => row.id) }, drop) : act((row) => forgetMemory(row, drop))())],
  });
  const loadMore = useMore(state, user, chosen);
  const isFiltered = Object.values(chosen).some(Boolean);
  return html`
    <${Toolbar} chosen=${chosen} rows=${rows} search=${search} isFiltered=${isFiltered} />
    ${!chosen.q && !chosen.archived && !chosen.as_of && html`<${Profile} user=${user} version=${`${version} ${changes}`} />`}
    <${Loaded} of=${state}>${(data) => html`
      ${selected.length ? html`<${BulkBar} user=${user} rows=${selected} matching=${matchingOf(chosen, data)} onClear=${() => setSelection(new Set())} onChange=${update} onDelete=${drop} />` : html`
        <p class="small list-count" role="status">${t(chosen.q ? "memories.matches" : "memories.shown", { shown: formatNumber(rows.length), total: formatNumber(data.total ?? rows.length) })}</p>`}
      ${rows.length ? html`<${MemoryTable} rows=${rows} selected=${current} selection=${selection} isSearch=${rows[0].relativity !== undefined} onToggle=${toggle} onSelect=${move} onOpen=${(row) => navigate(`/memories/${row.id}`)} onEnd=${loadMore}
        onToggleAll=${() => setSelection(selection.size >= Math.min(rows.length, MOST_SELECTED) ? new Set() : new Set(rows.slice(0, MOST_SELECTED).map((row) => row.id)))} />` : html`<${NoMemories} user=${user} isFiltered=${isFiltered} />`}`}<//>`;
}

/** The selected ids: [set, toggle(id, isRange), replace]. A range goes from the row that was toggled before. */
function useSelection(rows, key) {
  const [selection, setSelection] = useState(new Set());
  const previous = useRef(null);
  useEffect(() => setSelection(new Set()), [key]);
  const toggle = (id, isRange = false) => {
    const next = new Set(selection);
    const [from, to] = [rows.findIndex((row) => row.id === previous.current), rows.findIndex((row) => row.id === id)];
    const ids = isRange && from >= 0 ? rows.slice(Math.min(from, to), Math.max(from, to) + 1).map((row) => row.id) : [id];
    for (const each of ids) selection.has(id) ? next.delete(each) : next.add(each);
    previous.current = id;
    if (next.size <= MOST_SELECTED) setSelection(next);
    else showToast(t("memories.most_selected", { count: formatNumber(MOST_SELECTED) }), "bad");
  };
  return [selection, toggle, setSelection];
}

/** Puts changed memories into the rows; those that the filters leave out are removed. */
function renewRows(state, changed, chosen) {
  const status = chosen.archived ? "archived" : "activated";
  state.setData((data) => data && { ...data, data: data.data.map((row) => ({ ...row, ...changed.get(row.id) })).filter((row) => chosen.as_of || !changed.has(row.id) || row.status === status) });
}

function dropRows(state, records) {
  const ids = new Set(records.map((record) => record.id));
  state.setData((data) => data && { ...data, total: data.total && Math.max(0, data.total - data.data.filter((row) => ids.has(row.id)).length), data: data.data.filter((row) => !ids.has(row.id)) });
}

/** What the filters select, as a deletion understands it; null if it would not be the same. */
function matchingOf({ q, as_of: asOf, kind, session, archived }, { total }) {
  if (q || asOf || !(kind || session || archived)) return null;
  const filter = { archived: Boolean(archived), ...(kind ? { kind } : {}), ...(session ? { session } : {}) };
  return { filter, total };
}

/** A function that loads the next page, once at a time. */
function useMore(state, user, { q, ...chosen }) {
  const running = useRef(null);
  return async () => {
    const after = state.data?.next;
    if (!after || state.isLoading || running.current === after) return;
    running.current = after;
    try {
      const more = await getJson(url("/v1/memory/list", { user, ...chosen, limit: PAGE_SIZE, after }));
      state.setData((data) => (data.next === after ? { ...more, data: [...data.data, ...more.data] } : data));
    } catch {
      running.current = null; // tried again when the end comes into sight
    }
  };
}

function Toolbar({ chosen, rows, search, isFiltered }) {
  const sessions = [...new Set(rows.map((row) => row.session_id))].slice(0, 100);
  return html`
    <div class="toolbar">
      <label class="search"><span class="hidden-text">${t("memories.search")}</span><${Icon} name="search" />
        <input ref=${search} class="input" type="search" maxlength="1000" placeholder=${t("memories.search")} value=${chosen.q} onInput=${(event) => setQuery({ q: event.target.value, row: "" })} onKeyDown=${(event) => event.key === "Escape" && event.target.blur()} /></label>
      <label class="row-field"><span class="hidden-text">${t("memories.session")}</span><input class="input" type="search" list="session-ids" maxlength="256" placeholder=${t("memories.session")} value=${chosen.session} onChange=${(event) => setQuery({ session: event.target.value.trim(), row: "" }, { replace: false })} /></label>
      <datalist id="session-ids">${sessions.map((id) => html`<option key=${id} value=${id}></option>`)}</datalist>
      <label class="check"><input type="checkbox" checked=${Boolean(chosen.archived)} onChange=${(event) => setQuery({ archived: event.target.checked ? "true" : "", as_of: "", row: "" }, { replace: false })} />${t("memories.archived")}</label>
      ${chosen.as_of && html`<${Button} small aria-label=${t("memories.clear_as_of")} onClick=${() => setQuery({ as_of: "" }, { replace: false })}>${t("memories.as_of_at", { time: describeMoment(chosen.as_of) })} ✕<//>`}
      ${isFiltered && html`<${Button} kind="quiet" onClick=${() => navigate("/memories", { user: parameter("user") })}>${t("action.clear_filters")}<//>`}
    </div>
    <${KindFilter} value=${chosen.kind} />`;
}

const describeMoment = (text) => (Number.isNaN(Date.parse(text)) ? text : formatMoment(text));

/** Kinds to show, several at once. */
export function KindFilter({ value }) {
  const kinds = value ? value.split(",") : [];
  const toggle = (kind) => setQuery({ kind: (kinds.includes(kind) ? kinds.filter((other) => other !== kind) : [...kinds, kind]).join(","), row: "" }, { replace: false });
  return html`
    <div class="chips" role="group" aria-label=${t("memories.kind")}><span class="facet-name">${t("memories.kind")}</span>
      ${[...new Set([...KINDS, ...kinds])].map((kind) => html`<button key=${kind} type="button" class="chip" aria-pressed=${kinds.includes(kind)} onClick=${() => toggle(kind)}>${label("kind", kind)}</button>`)}
    </div>`;
}

const NoMemories = ({ user, isFiltered }) => isFiltered ? html`<${Empty} title=${t("memories.none_match")}><p>${t("memories.none_match_text")}</p><//>` : html`
  <${Empty} title=${t("memories.none", { user })}><p>${t("memories.none_text")}</p><${Code} text=${addByCurl(user)} /><//>`;

const TimelineView = ({ user, version }) => html`<${KindFilter} value=${parameter("kind")} /><${Timeline} user=${user} kind=${parameter("kind")} version=${version} />`;
