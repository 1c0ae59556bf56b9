// The same request again, twice: with other uses of the memory, side by side. Nothing of it is remembered.
import { send } from "../lib/api.js";
import { html, useRef, useState } from "../lib/dom.js";
import { formatMilliseconds } from "../lib/format.js";
import { label, t } from "../lib/i18n.js";
import { readAnswer } from "../lib/prompt.js";
import { Link } from "../lib/router.js";
import { Badge, Button, describeError, Field, Note } from "./basic.js";

const PATHS = ["/v1/chat/completions", "/v1/messages", "/v1/responses"];
const SECONDS = 300;

export function AskAgain({ explanation, turn }) {
  const request = explanation?.request;
  const budget = useRef(null);
  const [runs, setRuns] = useState([]);
  if (!request || !PATHS.includes(request.path)) return html`<${Note}>${t(request ? "why.again_other_api" : explanation?.content === false ? "why.content_off" : "why.no_prompt")}<//>`;
  const ask = async () => {
    const chosen = Math.max(0, Math.min(Number(budget.current.value) || 0, 100_000));
    const variants = [
      { name: t("why.again_without"), headers: { "x-memory-mode": "off" } },
      { name: t("why.again_budget", { budget: chosen }), headers: { "x-memory-mode": "read", "x-memory-budget": String(chosen) } },
    ];
    setRuns(variants.map(({ name }) => ({ name })));
    await Promise.all(variants.map(async ({ name, headers }, index) => {
      const result = await run(request, explanation ?? turn, headers);
      setRuns((before) => before.map((other, place) => (place === index ? { name, ...result } : other)));
    }));
  };
  return html`
    <div class="field-row again-form">
      <${Field} label=${t("why.again_tokens")}><input ref=${budget} class="input" type="number" min="0" max="100000" value=${explanation.token_budget} /><//>
      <${Button} kind="main" onClick=${ask} disabled=${runs.some((result) => !result.isDone)}>${t("why.again_ask")}<//>
    </div>
    <p class="muted small">${t("why.again_text")}</p>
    <div class="grid" aria-live="polite">${runs.map((result, index) => html`<${Result} key=${index} result=${result} />`)}</div>`;
}

async function run(request, { user_id: user, session_id: session }, headers) {
  const started = performance.now();
  try {
    const control = { ...headers, ...(user ? { "x-memory-user": user } : {}), ...(session ? { "x-memory-session": session } : {}) };
    const body = { ...request.body, stream: false };
    delete body.stream_options;
    const response = await sendRequest(request.path, body, control);
    return { ...response, isDone: true, ms: performance.now() - started };
  } catch (error) {
    return { error, isDone: true };
  }
}

async function sendRequest(path, body, headers) {
  const response = await send("POST", path, { body, headers, seconds: SECONDS });
  const answer = readAnswer(await response.json());
  return { answer, memory: response.headers.get("x-memory-status"), id: response.headers.get("x-gateway-request-id") };
}

const Result = ({ result }) => html`
  <section class="card">
    <div class="card-head"><h3>${result.name}</h3>${result.memory && html`<${Badge} value=${result.memory}>${label("memory", result.memory)}<//>`}
      ${result.ms && html`<span class="muted small">${formatMilliseconds(result.ms)}</span>`}</div>
    <div class="card-body">
      ${!result.isDone && html`<p class="muted">${t("state.loading")}</p>`}
      ${result.error && html`<p class="note note-bad">${describeError(result.error)}</p>`}
      ${result.answer !== undefined && html`<pre class="answer">${result.answer}</pre>`}
      ${result.id && html`<p class="small"><${Link} to=${`/turns/${result.id}`}>${t("title.turn")}<//></p>`}
    </div>
  </section>`;
