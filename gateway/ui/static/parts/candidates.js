// The memories that were considered for a prompt, grouped by what became of them.
import { html } from "../lib/dom.js";
import { formatDate, formatNumber, formatShare } from "../lib/format.js";
import { label, t } from "../lib/i18n.js";
import { Link } from "../lib/router.js";
import { ScoreBar, scoreScale } from "./bars.js";
import { Badge, Button, describeError, Empty } from "./basic.js";
import { editMemory, forgetMemory, loadMemory } from "./memory_actions.js";
import { showToast } from "./toast.js";

const FATES = ["injected", "over_budget", "over_limit", "too_long", "in_prompt", "duplicate", "covered", "plugin", "not_relevant", "not_needed"];
const SERIES = 9;

/** `changes`: what happened here to memories since the turn, by id: the new text, or null if they are forgotten. */
export function Candidates({ explanation, changes, onChange }) {
  const candidates = explanation?.candidates ?? [];
  if (!candidates.length) return html`<${Empty} title=${t("why.no_candidates")}><p>${t("why.no_candidates_text")}</p><//>`;
  const names = [...new Set(candidates.flatMap((candidate) => Object.keys(candidate.parts)))];
  const scale = scoreScale(candidates.map((candidate) => candidate.parts));
  const groups = [...FATES, ...new Set(candidates.map((candidate) => candidate.fate))].filter((fate, index, all) => all.indexOf(fate) === index);
  return html`
    <ul class="legend" aria-label=${t("why.score")}>${names.map((name, index) => html`<li key=${name}><span class=${`swatch s${(index % SERIES) + 1}`}></span>${name}</li>`)}</ul>
    ${groups.map((fate) => [fate, candidates.filter((candidate) => candidate.fate === fate)]).filter(([, members]) => members.length).map(([fate, members]) => html`
      <section key=${fate} class="card">
        <div class="card-head"><h2>${label("fate", fate)}</h2><span class="muted small">${label("fate_text", fate)}</span><${Badge} value=${fate}>${formatNumber(members.length)}<//></div>
        <ul class="candidates">${members.map((candidate) => html`<${Candidate} key=${candidate.id} ...${{ candidate, names, scale, onChange, change: changes[candidate.id] }} />`)}</ul>
      </section>`)}`;
}

/** What an edit (its record) or a deletion (its report) did, as `changes` has it. */
const describeChange = (id, result) => (result.object === "deletion" ? Object.fromEntries([...result.data, ...result.derived].map((record) => [record.id, null])) : { [id]: result.text });

function Candidate({ candidate, names, scale, change, onChange }) {
  const isForgotten = change === null, isEdited = Boolean(change) && change !== candidate.text;
  const act = (action) => async () => {
    try {
      action(await loadMemory(candidate.id), (result) => onChange(describeChange(candidate.id, result)));
    } catch (error) {
      showToast(describeError(error), "bad");
    }
  };
  return html`
    <li class="candidate">
      <div class="candidate-text">${isForgotten ? html`<del>${candidate.text}</del>` : html`<${Link} to=${`/memories/${candidate.id}`}>${candidate.text}<//>`}
        ${isForgotten && html` <${Badge} value="deleted">${t("why.forgotten")}<//>`}${isEdited && html`<p><${Badge} tone="info">${t("why.edited")}<//> ${change}</p>`}</div>
      <div class="candidate-score"><${ScoreBar} parts=${candidate.parts} names=${names} scale=${scale} />
        <span class="number mono small" title=${t("why.score")}>${candidate.score}</span></div>
      <p class="muted small candidate-facts">
        ${candidate.trust === "plugin" && html`<${Badge} tone="info">${t("why.from_plugin")}<//> `}${label("kind", candidate.kind)} · ${formatDate(candidate.event_time)} · ${t("why.tokens", { count: formatNumber(candidate.tokens) })} · ${t("why.relevance", { value: candidate.relativity })}
        ${candidate.probability !== null && html` · ${t("why.probability", { share: formatShare(candidate.probability) })}`}</p>
      ${!isForgotten && html`<div class="buttons"><${Button} small kind="quiet" onClick=${act(editMemory)}>${t("action.edit")}<//><${Button} small kind="quiet danger" onClick=${act(forgetMemory)}>${t("action.forget")}<//></div>`}
    </li>`;
}
