// The latest turns, live. Filters, search and selection are in the address.
import turnsTexts from "../lang/turns.js";
import { ApiError, getJson, readEvents, url } from "../lib/api.js";
import { html, useEffect, useMemo, useRef, useState } from "../lib/dom.js";
import { formatMilliseconds, formatMoney, formatNumber, formatTime } from "../lib/format.js";
import { addTexts, label, t } from "../lib/i18n.js";
import { useKeys } from "../lib/keys.js";
import { useLoad } from "../lib/load.js";
import { Link, navigate, parameter, setQuery } from "../lib/router.js";
import { Badge, Button, Empty, ErrorNote, Loaded } from "../parts/basic.js";
import { FirstChat } from "../parts/example.js";
import { Facet } from "../parts/facets.js";
import { Icon } from "../parts/icons.js";
import { RowTable } from "../parts/table.js";

addTexts(turnsTexts);

const FILTERS = ["user", "model", "memory", "upstream"];
const PAGE_SIZE = 500;
const MOST_ROWS = 20_000;
const RETRY_SECONDS = 3;

const filters = () => ({ ...Object.fromEntries(FILTERS.map((name) => [name, parameter(name)])), q: parameter("q") });

export function TurnsPage() {
  const chosen = filters();
  const key = JSON.stringify(chosen);
  const [isPaused, setPaused] = useState(false);
  const [waiting, setWaiting] = useState([]);
  const [fault, setFault] = useState(null);
  const search = useRef(null);
  const state = useLoad(key, (signal) => getJson(url("/v1/turns", { ...chosen, limit: PAGE_SIZE }), { signal }));
  const rows = state.data?.data ?? [];
  useStream(chosen, state, setFault, (turns) => (isPaused ? setWaiting((before) => [...turns.toReversed(), ...before].slice(0, MOST_ROWS)) : state.setData((data) => withTurns(data, turns))));
  useEffect(() => setWaiting([]), [key]);
  const resume = () => {
    state.setData((data) => withTurns(data, waiting.toReversed()));
    setWaiting([]);
    setPaused(false);
  };
  const toggle = () => (isPaused ? resume() : setPaused(true));
  const selected = rows.findIndex((row) => row.id === parameter("turn"));
  const select = (index) => rows.length && setQuery({ turn: rows[Math.max(0, Math.min(index, rows.length - 1))].id });
  const open = (row) => navigate(`/turns/${row.id}`);
  useKeys({
    j: [t("keys.next"), () => select(selected + 1)],
    k: [t("keys.previous"), () => select(selected - 1)],
    Enter: [t("keys.open"), () => selected >= 0 && open(rows[selected])],
    "/": [t("keys.search"), () => search.current.focus()],
    p: [t("keys.pause"), toggle],
  });
  const loadMore = useMore(state, chosen);
  return html`
    <header class="page-head">
      <h1>${t("title.turns")}</h1>
      ${state.data && html`<${Live} isPaused=${isPaused} waiting=${waiting.length} fault=${fault} toggle=${toggle} />`}
    </header>
    ${state.data && fault instanceof ApiError && html`<${ErrorNote} error=${fault} />`}
    <div class="buttons">
      <label class="search"><span class="hidden-text">${t("turns.search")}</span><${Icon} name="search" />
        <input ref=${search} class="input" type="search" placeholder=${t("turns.search")} value=${chosen.q} onInput=${(event) => setQuery({ q: event.target.value, turn: "" })}
          onKeyDown=${(event) => event.key === "Escape" && event.target.blur()} /></label>
      ${(chosen.q || FILTERS.some((name) => chosen[name])) && html`<${Button} kind="quiet" onClick=${() => navigate("/turns")}>${t("action.clear_filters")}<//>`}
    </div>
    <${Facets} counts=${state.data?.counts} chosen=${chosen} />
    <${Loaded} of=${state}>${() => (rows.length ? html`<${TurnTable} rows=${rows} selected=${selected} onSelect=${select} onOpen=${open} onEnd=${loadMore} />` : html`<${NoTurns} isFiltered=${key !== JSON.stringify(emptyFilters())} />`)}<//>`;
}

const emptyFilters = () => ({ ...Object.fromEntries(FILTERS.map((name) => [name, ""])), q: "" });

/** Adds new turns (oldest first) to the list (newest first), with the counts that the filters show. */
function withTurns(data, turns) {
  if (!data) return data;
  const seen = data.latest ?? 0;
  const fresh = turns.filter((turn) => turn.seq > seen);
  if (!fresh.length) return data;
  const counts = structuredClone(data.counts ?? {});
  for (const turn of fresh) {
    for (const name of FILTERS) {
      const value = turn[name] ?? "";
      counts[name] ??= {};
      counts[name][value] = (counts[name][value] ?? 0) + 1;
    }
  }
  return { ...data, counts, latest: fresh.at(-1).seq, data: [...fresh.toReversed(), ...data.data].slice(0, MOST_ROWS) };
}

/** Follows the stream of turns from the newest that is loaded; connects again after a fault. */
function useStream(chosen, state, setFault, onTurns) {
  const latest = useRef(onTurns);
  latest.current = onTurns;
  const isLoaded = state.data !== null && !state.isLoading;
  const position = useRef(0);
  position.current = Math.max(position.current, state.data?.latest ?? 0);
  const key = JSON.stringify(chosen);
  useEffect(() => {
    if (!isLoaded) return undefined;
    const control = new AbortController();
    follow(control.signal, () => url("/v1/turns/stream", { ...chosen, after: position.current }), setFault, (turns) => {
      position.current = Math.max(position.current, turns.at(-1).seq);
      latest.current(turns);
    });
    return () => control.abort();
  }, [key, isLoaded]);
}

async function follow(stop, stream, setFault, onTurns) {
  while (!stop.aborted) {
    try {
      setFault(null);
      await readEvents(stream(), (name, data) => name === "turns" && onTurns(JSON.parse(data)), { stop });
    } catch (error) {
      if (stop.aborted) return;
      setFault(error);
      if (error instanceof ApiError && error.status < 500 && error.status !== 429) return;
    }
    await new Promise((resume) => setTimeout(resume, RETRY_SECONDS * 1000));
  }
}

/** Loads older turns, once at a time. */
function useMore(state, chosen) {
  const isRunning = useRef(false);
  return async () => {
    const oldest = state.data?.data.at(-1);
    if (!state.data?.has_more || !oldest || isRunning.current) return;
    isRunning.current = true;
    try {
      const more = await getJson(url("/v1/turns", { ...chosen, limit: PAGE_SIZE, before: oldest.seq }));
      state.setData((data) => ({ ...data, has_more: more.has_more, data: [...data.data, ...more.data].slice(0, MOST_ROWS) }));
    } finally {
      isRunning.current = false;
    }
  };
}

function Live({ isPaused, waiting, fault, toggle }) {
  const state = fault ? "lost" : isPaused ? "paused" : "live";
  return html`
    <span class="buttons" role="status"><${Badge} tone=${{ live: "good", paused: "warn", lost: "bad" }[state]}><span class=${`dot dot-${{ live: "good", paused: "warn", lost: "bad" }[state]}`}></span>${t(`turns.${state}`)}<//></span>
    <${Button} aria-pressed=${isPaused} onClick=${toggle}>${isPaused ? t(waiting ? "turns.show_new" : "turns.resume", { count: waiting }) : t("turns.pause")}<//>`;
}

const Facets = ({ counts, chosen }) => html`
  <div class="facets">
    ${FILTERS.map((name) => html`<${Facet} key=${name} label=${t(`turns.${name}`)} counts=${counts?.[name]} value=${chosen[name]}
      name=${name === "memory" ? (value) => label("memory", value) : undefined} onSelect=${(value) => setQuery({ [name]: value, turn: "" }, { replace: false })} />`)}
  </div>`;

function TurnTable(props) {
  const columns = useMemo(turnColumns, [t("label.time")]);
  return html`<${RowTable} label=${t("title.turns")} columns=${columns} ...${props} />`;
}

const turnColumns = () => [
  { key: "time", title: t("label.time"), width: "var(--time-width)", cell: (row) => html`<${Link} to=${`/turns/${row.id}`}>${formatTime(row.at)}<//>` },
  { key: "user", title: t("turns.user"), width: "var(--user-width)", cell: (row) => row.user ?? html`<span class="muted">${t("label.none")}</span>` },
  { key: "query", title: t("turns.query"), hide: "small", cell: (row) => row.query ?? html`<span class="muted">${row.path}</span>` },
  { key: "model", title: t("turns.model"), width: "13%", hide: "roomy", cell: (row) => row.model },
  { key: "memory", title: t("turns.memory"), width: "7.5rem", cell: (row) => html`<${Badge} value=${row.memory}>${label("memory", row.memory)}<//>` },
  { key: "memories", title: t("turns.injected"), hint: t("turns.injected_hint"), width: "7rem", number: true, hide: "roomy", cell: (row) => (row.memories ? `${row.memories} · ${formatNumber(row.block_tokens)}` : "") },
  { key: "tokens", title: t("turns.tokens"), hint: t("turns.tokens_hint"), width: "9rem", number: true, hide: "wide", cell: (row) => html`<span title=${row.is_estimated ? t("turns.estimated") : ""}>${row.is_estimated ? "≈ " : ""}${formatNumber(row.prompt_tokens)} → ${formatNumber(row.completion_tokens)}</span>` },
  { key: "own", title: t("turns.own_ms"), hint: t("turns.own_hint"), width: "6.2rem", number: true, hide: "wide", cell: (row) => formatMilliseconds(row.overhead_ms) },
  { key: "ms", title: t("turns.ms"), width: "6.2rem", number: true, hide: "small", cell: (row) => formatMilliseconds(row.ms) },
  { key: "cost", title: t("label.cost"), width: "6rem", number: true, hide: "wide", cell: (row) => formatMoney(row.cost) },
  { key: "status", title: t("turns.status"), width: "6rem", hide: "middle", cell: (row) => (row.error || row.outcome !== "complete" ? html`<${Badge} tone=${row.status >= 400 ? "bad" : "warn"}><span title=${[label("outcome", row.outcome), row.error].filter(Boolean).join(": ")}>${row.status || label("outcome", row.outcome)}</span><//>` : html`<span class="muted">${row.status}</span>`) },
];

function NoTurns({ isFiltered }) {
  if (isFiltered) return html`<${Empty} title=${t("turns.none_match")}><p>${t("turns.none_match_text")}</p><//>`;
  return html`<${Empty} title=${t("turns.none")}><p>${t("turns.none_text")}</p><${FirstChat} /><//>`;
}
