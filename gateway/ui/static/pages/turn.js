// Why this answer: the prompt as the model got it, how the memories in it were chosen, and the same question again.
import memoriesTexts from "../lang/memories.js";
import turnsTexts from "../lang/turns.js";
import whyTexts from "../lang/why.js";
import { getJson, url } from "../lib/api.js";
import { html, useState } from "../lib/dom.js";
import { formatMilliseconds, formatMoment, formatMoney, formatNumber, formatShare } from "../lib/format.js";
import { addTexts, label, t } from "../lib/i18n.js";
import { useLoad } from "../lib/load.js";
import { latestParameters, Link, parameter, setQuery } from "../lib/router.js";
import { PartsBar } from "../parts/bars.js";
import { Badge, Code, Loaded, Note, Tabs } from "../parts/basic.js";
import { AskAgain } from "../parts/ask_again.js";
import { Candidates } from "../parts/candidates.js";
import { MemoryEditor } from "../parts/memory_actions.js";
import { Prompt } from "../parts/prompt.js";

addTexts(memoriesTexts, turnsTexts, whyTexts);

const TABS = ["prompt", "candidates", "again", "json"];

const orNothing = (error) => {
  if (error.status === 404) return null;
  throw error;
};

export function TurnPage({ id }) {
  const state = useLoad(id, async (signal) => {
    const [turn, explanation] = await Promise.all([
      getJson(url("/v1/turns", { q: id, limit: 10 }), { signal }).then(({ data }) => data.find((entry) => entry.id === id), orNothing),
      getJson(`/v1/memory/explain/${id}`, { signal }).catch(orNothing),
    ]);
    return { turn, explanation };
  });
  const [changes, setChanges] = useState({}); // the explanation is dropped with the first change, so it is not loaded again
  const tab = TABS.includes(parameter("tab")) ? parameter("tab") : "prompt";
  const tabs = TABS.map((name) => [name, t(`why.tab_${name}`)]);
  return html`
    <header class="page-head"><${Link} to="/turns" parameters=${latestParameters("/turns")} class="back">← ${t("title.turns")}<//><h1>${t("title.turn")}</h1>${state.data?.explanation?.request && html`<${Link} class="button" to="/playground" parameters=${{ turn: id }}>${t("why.playground")}<//>`}</header>
    <${Loaded} of=${state}>${({ turn, explanation }) => html`
      ${!turn && !explanation && html`<${Note} kind="warn">${t("why.unknown")}<//>`}
      ${turn && html`<${Facts} turn=${turn} />`}
      ${explanation ? html`<${Choice} explanation=${explanation} />` : turn && html`
        <${Note}>${t(turn.memory === "off" ? "why.memory_off" : "why.gone")}<//>
        <${Code} text=${JSON.stringify(turn, null, 2)} label="JSON" />`}
      ${explanation && html`
        <${Tabs} tabs=${tabs} value=${tab} label=${t("title.turn")} onSelect=${(name) => setQuery({ tab: name })} />
        <div role="tabpanel" class="tab-panel" aria-label=${t(`why.tab_${tab}`)}>
          ${tab === "prompt" && html`<${Prompt} explanation=${explanation} />`}
          ${tab === "candidates" && html`<${Candidates} explanation=${explanation} changes=${changes} onChange=${(fresh) => setChanges((before) => ({ ...before, ...fresh }))} />`}
          ${tab === "again" && html`<${AskAgain} explanation=${explanation} turn=${turn} />`}
          ${tab === "json" && html`<${Code} text=${JSON.stringify({ turn, explanation }, null, 2)} label="JSON" />`}
        </div>`}
    `}<//>
    <${MemoryEditor} />`;
}

function Facts({ turn }) {
  const facts = [
    [t("label.time"), formatMoment(turn.at)],
    [t("turns.user"), turn.user ? html`<${Link} to="/memories" parameters=${{ user: turn.user }}>${turn.user}<//>` : t("label.none")],
    [t("why.session"), turn.session],
    [t("turns.model"), turn.model],
    [t("turns.upstream"), [turn.upstream, turn.upstream_model].filter(Boolean).join(" · ")],
    [t("why.key"), turn.key],
    [t("turns.tokens"), `${turn.is_estimated ? "≈ " : ""}${formatNumber(turn.prompt_tokens)} → ${formatNumber(turn.completion_tokens)}`],
    [t("label.cost"), turn.cost === null ? "" : formatMoney(turn.cost)],
    [t("turns.status"), html`<${Badge} value=${turn.outcome}>${turn.status} ${label("outcome", turn.outcome)}<//>`],
  ];
  const waiting = Math.max(0, (turn.first_byte_ms ?? 0));
  const rest = Math.max(0, turn.ms - (turn.overhead_ms ?? 0) - waiting);
  const times = [
    { name: t("why.time_gateway"), value: turn.overhead_ms ?? 0, series: 1 },
    { name: t("why.time_waiting"), value: waiting, series: 2 },
    { name: t("why.time_answer"), value: rest, series: 7 },
  ];
  return html`
    <section class="card card-body">
      <dl class="facts">${facts.filter(([, value]) => value).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
      ${turn.error ? html`<${Note} kind="bad">${turn.error}<//>` : turn.status >= 400 && html`<${Note} kind="bad">${t("why.upstream_error", { status: turn.status })}<//>`}
      <h2>${t("why.times", { total: formatMilliseconds(turn.ms) })}</h2>
      <${PartsBar} parts=${times} label=${t("why.times", { total: formatMilliseconds(turn.ms) })} />
    </section>`;
}

function Choice({ explanation }) {
  const { injected, need } = explanation;
  const memories = injected.tokens - injected.standing_tokens;
  const budget = [
    { name: t("why.budget_profile"), value: injected.standing_tokens, series: 4 },
    { name: t("why.budget_memories"), value: memories, series: 1 },
    { name: t("why.budget_unused"), value: Math.max(0, explanation.token_budget - injected.tokens), series: 0 },
  ];
  return html`
    <section class="card card-body">
      <div class="buttons"><h2>${t("why.budget", { tokens: formatNumber(injected.tokens), budget: formatNumber(explanation.token_budget) })}</h2>
        <${Badge} value=${explanation.status}>${label("memory", explanation.status)}<//>
        ${explanation.reason && html`<span class="muted">${label("why.reason", explanation.reason)}</span>`}</div>
      <${PartsBar} parts=${budget} label=${t("why.budget", { tokens: injected.tokens, budget: explanation.token_budget })} />
      ${explanation.query && html`<p><span class="muted">${t("why.query")}</span> ${explanation.query}</p>`}
      ${need && html`<${Need} need=${need} />`}
      ${explanation.standing_wishes.length > 0 && html`<details><summary>${t("why.profile", { count: explanation.standing_wishes.length })}</summary><ul class="bullets">${explanation.standing_wishes.map((text) => html`<li>${text}</li>`)}</ul></details>`}
    </section>`;
}

const Need = ({ need }) => html`
  <details>
    <summary>${t(need.probability >= need.threshold ? "why.needed" : "why.not_needed", { share: formatShare(need.probability), threshold: formatShare(need.threshold) })}</summary>
    <table class="plain"><tbody>${Object.entries(need.parts).map(([name, value]) => html`<tr key=${name}><td>${name}</td><td class="number">${value > 0 ? "+" : ""}${formatNumber(value, 2)}</td></tr>`)}</tbody></table>
  </details>`;
