// One memory: its text, where it comes from, what it replaces, its history, and what can be done with it.
import memoriesTexts from "../lang/memories.js";
import { getJson } from "../lib/api.js";
import { html } from "../lib/dom.js";
import { formatDate, formatMoment, formatNumber } from "../lib/format.js";
import { addTexts, label, t } from "../lib/i18n.js";
import { useKeys } from "../lib/keys.js";
import { useLoad } from "../lib/load.js";
import { latestParameters, Link, navigate } from "../lib/router.js";
import { Badge, Button, Code, ErrorNote, Loading, Note } from "../parts/basic.js";
import { editMemory, forgetMemory, loadMemory, MemoryEditor, setStatus, undoChange } from "../parts/memory_actions.js";
import { History } from "../parts/memory_history.js";
import { KindBadge } from "../parts/memory_list.js";

addTexts(memoriesTexts);

const MOST_SOURCES = 8; // that are shown with their text

const ID = /^[0-9a-f]{6,32}$/i; // or the beginning of one

export function MemoryPage({ id }) {
  if (!ID.test(id)) return html`<${Head} /><${Note} kind="warn">${t("memory.no_such_id")}<//>`;
  return html`<${LoadedMemory} id=${id} />`;
}

function LoadedMemory({ id }) {
  const state = useLoad(id, async (signal) => {
    const record = await loadMemory(id, { signal });
    const [history, sources] = await Promise.all([
      getJson(`/v1/memory/history/${record.id}`, { signal }).then(({ data }) => data),
      Promise.all(record.rests_on.slice(0, MOST_SOURCES).map((source) => loadMemory(source, { signal }).catch(() => null))),
    ]);
    return { record, history, sources: sources.filter(Boolean) };
  });
  if (state.data === null) {
    if (state.error) return html`<${Head} /><${ErrorNote} error=${state.error} retry=${state.error.status === 404 ? null : state.reload} />`;
    return html`<${Head} /><${Loading} />`;
  }
  return html`<${Memory} ...${state.data} reload=${state.reload} error=${state.error} />`;
}

/** The list as it was left, if it was that of the same user. */
const wayBack = (user) => {
  const latest = latestParameters("/memories");
  return !user || latest.user === user ? latest : { user };
};

const Head = ({ user, children }) => html`
  <header class="page-head"><${Link} to="/memories" parameters=${wayBack(user)} class="back">← ${t("title.memories")}<//><h1>${t("title.memory")}</h1>${children}</header>`;

function Memory({ record, history, sources, reload, error }) {
  const isArchived = record.status === "archived";
  const show = (changed) => (changed.id === record.id ? reload() : navigate(`/memories/${changed.id}`));
  const actions = {
    e: [t("action.edit"), () => editMemory(record, show)],
    a: [t(isArchived ? "memories.restore" : "memories.archive"), () => setStatus(record, isArchived ? "activated" : "archived", show)],
    u: [t("memory.undo"), () => undoChange(record.id, show)],
    "#": [t("action.forget"), () => forgetMemory(record, () => navigate("/memories", { user: record.user }))],
  };
  useKeys(actions);
  const button = (key, kind = "") => html`<${Button} kind=${kind} onClick=${actions[key][1]}>${actions[key][0]}<//>`;
  return html`
    <${Head} user=${record.user}><div class="buttons">${button("e", "main")}${button("a")}${button("#", "danger")}</div><//>
    ${error && html`<${ErrorNote} error=${error} retry=${reload} />`}
    <div class="memory-grid">
      <div class="column">
        ${record.replaced_by && html`<${Note}><${Replaced} record=${record} successor=${history.find((version) => version.id === record.replaced_by)} /><//>`}
        <article class="card card-body">
          <div class="buttons"><${KindBadge} record=${record} /><${Badge} value=${record.status}>${label("memories.status", record.status)}<//>${record.is_learnt && html`<${Badge}>${t("memory.learnt")}<//>`}</div>
          ${record.title && html`<h2>${record.title}</h2>`}
          <p class="memory-text">${record.text}</p>
        </article>
        <${Source} record=${record} sources=${sources} />
        <${History} record=${history.find((version) => version.id === record.id) ?? record} versions=${history} undo=${actions.u[1]} />
      </div>
      <div class="column">
        <section class="card" aria-label=${t("memory.facts")}><div class="card-head"><h2>${t("memory.facts")}</h2></div><div class="card-body"><${Facts} record=${record} /></div></section>
        <${Relations} record=${record} history=${history} sources=${sources} />
        ${Object.keys(record.metadata).length > 0 && html`<section><h2 class="column-title">${t("memory.metadata")}</h2><${Code} text=${JSON.stringify(record.metadata, null, 2)} label=${t("memory.metadata")} /></section>`}
        <details><summary>JSON</summary><${Code} text=${JSON.stringify(record, null, 2)} label="JSON" /></details>
      </div>
    </div>
    <${MemoryEditor} />`;
}

const Replaced = ({ record, successor }) => html`
  <span>${t("memory.replaced_on", { date: formatDate(record.valid_to) })} <${Link} to=${`/memories/${record.replaced_by}`}>${successor?.text.slice(0, 200) || record.replaced_by}<//></span>`;

/** The message that a memory comes from, if it is still there. */
function Source({ record, sources }) {
  const message = record.message;
  if (!message || message.id === record.id) return null;
  const source = sources.find((other) => other.id === message.id);
  return html`
    <section class="card" aria-label=${t("memory.message")}>
      <div class="card-head"><h2>${t("memory.message")}</h2>${source && html`<span class="muted small">${formatMoment(source.at)}</span>`}<${Link} to=${`/memories/${message.id}`}>${t("memory.show")}<//></div>
      <p class="card-body memory-text quote">${message.text}</p>
    </section>`;
}

function Facts({ record }) {
  const origin = Object.entries(record.origin ?? {}).map(([name, value]) => `${name}: ${Array.isArray(value) ? value.join(", ") : value}`).join(" · ");
  const facts = [
    [t("memories.user"), html`<${Link} to="/memories" parameters=${{ user: record.user }}>${record.user}<//>`],
    [t("memory.cube"), record.cube !== record.user && record.cube],
    [t("memories.session"), record.session_id && html`<${Link} to="/memories" parameters=${{ user: record.user, session: record.session_id }}>${record.session_id}<//>`],
    [t("memories.said_at"), formatMoment(record.at)],
    [t("memory.valid_from"), formatMoment(record.valid_from)],
    [t("memory.valid_to"), record.valid_to ? formatMoment(record.valid_to) : t("memories.still")],
    [t("memory.source"), [label("memory.author", record.source), record.speaker].filter(Boolean).join(" · ")],
    [t("memory.topic"), record.topic && label("topic", record.topic)],
    [t("memories.tags"), record.tags.length > 0 && record.tags.join(", ")],
    [t("memory.confidence"), record.confidence !== 1 && formatNumber(record.confidence, 2)],
    [t("memory.origin"), origin],
    [t("memory.created"), formatMoment(record.created_at)],
    [t("memory.updated"), record.updated_at !== record.created_at && formatMoment(record.updated_at)],
    [t("memory.version"), formatNumber(record.version)],
    ["ID", html`<code>${record.id}</code>`],
  ];
  return html`<dl class="fact-rows">${facts.filter(([, value]) => value).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** Links to other memories, by what they are to this one. */
function Relations({ record, history, sources }) {
  const known = new Map([...history, ...sources].map((other) => [other.id, other]));
  const groups = [
    ["memory.replaced_by", [record.replaced_by]],
    ["memory.replaces", record.replaces],
    ["memory.edit_of", [record.edit_of]],
    ["memory.rests_on", record.rests_on.filter((id) => id !== record.edit_of)],
  ].map(([title, ids]) => [title, ids.filter(Boolean)]).filter(([, ids]) => ids.length);
  if (!groups.length) return null;
  return html`
    <section class="card" aria-label=${t("memory.relations")}>
      <div class="card-head"><h2>${t("memory.relations")}</h2></div>
      <div class="card-body">${groups.map(([title, ids]) => html`
        <section key=${title}><h3 class="muted">${t(title)}</h3><ul class="relations">${ids.map((id) => html`<li key=${id}><${Link} to=${`/memories/${id}`}>${known.has(id) ? known.get(id).text.slice(0, 200) || id : html`<code>${id.slice(0, 12)}</code>`}<//></li>`)}</ul></section>`)}</div>
    </section>`;
}
