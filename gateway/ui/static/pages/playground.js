// The playground: a chat with any model as any user, and beside it the block of memories that each answer got.
import playgroundTexts from "../lang/playground.js";
import turnsTexts from "../lang/turns.js";
import whyTexts from "../lang/why.js";
import { getJson, me, may, url } from "../lib/api.js";
import { controlHeaders, curlCommand, findInvalid, MODES, MOST_BUDGET, requestBody } from "../lib/chat.js";
import { arriving, ask, conversation, draft, setSystem, startConversation, stop, takeBack, takeOver } from "../lib/conversation.js";
import { html, useEffect, useRef, useState } from "../lib/dom.js";
import { addTexts, t } from "../lib/i18n.js";
import { useKeys } from "../lib/keys.js";
import { useLoad } from "../lib/load.js";
import { Link, parameter, setQuery } from "../lib/router.js";
import { Button, Code, copyText, Empty, ErrorNote, Field, Note } from "../parts/basic.js";
import { ChatLog } from "../parts/chat_log.js";
import { MemoryPanel } from "../parts/memory_panel.js";

addTexts(playgroundTexts, turnsTexts, whyTexts);

const MOST_USERS = 100;

export function PlaygroundPage() {
  const models = useLoad("models", async (signal) => (await getJson("/v1/models", { signal })).data.map((model) => model.id));
  const [chosen, choose] = useState(null);
  const [fault, setFault] = useState(null);
  const field = useRef(null);
  const settings = readSettings(models.data);
  const invalid = findInvalid(settings);
  const answers = conversation.value.messages.filter((message) => message.role === "assistant" && message.state !== undefined);
  const shown = answers.find((answer) => answer.id === chosen) ?? answers.findLast((answer) => answer.model);
  const isRunning = arriving.value !== null;
  useTakeOver(setFault);
  const send = () => {
    const text = draft.value.trim();
    if (!text || isRunning || invalid.length || !settings.model) return;
    draft.value = "";
    choose(null);
    ask(text, settings);
  };
  const retry = () => {
    draft.value = takeBack();
    send();
  };
  const begin = () => {
    startConversation();
    choose(null);
    setQuery({ turn: "" });
    field.current?.focus();
  };
  useKeys({
    "/": [t("playground.key_write"), () => field.current.focus()],
    n: [t("playground.new"), begin],
    Escape: [t("playground.stop"), stop],
  });
  const command = () => buildCommand(settings, draft.value.trim());
  return html`
    <header class="page-head">
      <h1>${t("title.playground")}</h1>
      <${Button} onClick=${() => copyText(command())}>${t("playground.curl")}<//>
      <${Button} onClick=${begin}>${t("playground.new")}<//>
    </header>
    <${Settings} settings=${settings} models=${models} invalid=${invalid} />
    ${fault && html`<${ErrorNote} error=${fault} />`}
    <${Origin} />
    <div class="chat">
      <section class="card chat-main" aria-label=${t("playground.conversation")}>
        ${conversation.value.messages.length ? html`<${ChatLog} shown=${shown} onChoose=${choose} onRetry=${retry} />` : html`<${Beginning} command=${command} hasUser=${Boolean(settings.user || me.value.default_user)} />`}
        <${Composer} field=${field} isRunning=${isRunning} canSend=${!invalid.length && settings.model} onSend=${send} />
      </section>
      <${MemoryPanel} answer=${shown} />
    </div>`;
}

/** The settings in the address. A key of one user asks as that user only. */
function readSettings(models) {
  const mode = parameter("mode");
  return {
    model: parameter("model") || models?.[0] || "",
    user: me.value.user ?? parameter("user"),
    mode: MODES.includes(mode) ? mode : "on",
    budget: parameter("budget"),
    selectivity: parameter("selectivity"),
  };
}

function buildCommand(settings, text) {
  const { session, system, messages } = conversation.value;
  const last = messages.findLastIndex((message) => message.role === "user");
  const asked = text || last < 0 ? [...messages, { role: "user", text: text || t("playground.example") }] : messages.slice(0, last + 1);
  const body = requestBody({ model: settings.model, system, messages: asked, isStream: false });
  return curlCommand({ origin: location.origin, headers: controlHeaders({ ...settings, session }), body, key: me.value.is_open ? "" : t("label.key") });
}

/** Takes over the conversation of the turn in the address; nothing of it is remembered again unless one chooses so. */
function useTakeOver(setFault) {
  const turn = parameter("turn");
  useEffect(() => {
    if (!turn || turn === conversation.value.source) return undefined;
    const control = new AbortController();
    setFault(null);
    takeOver(turn, control.signal).then(
      ({ model, user_id: user }) => setQuery({ model: model || parameter("model"), user: user ?? "", mode: "read" }),
      (error) => control.signal.aborted || setFault(error),
    );
    return () => control.abort();
  }, [turn]);
}

function Origin() {
  const { source, messages, isWhole } = conversation.value;
  if (!source) return null;
  const text = !messages.length && !draft.value ? "playground.taken_nothing" : isWhole ? "playground.taken" : "playground.taken_text";
  return html`<${Note}><span>${t(text)} <${Link} to=${`/turns/${source}`}>${t("title.turn")}<//></span><//>`;
}

function Settings({ settings, models, invalid }) {
  const set = (name) => (event) => setQuery({ [name]: event.target.value });
  return html`
    <section class="card card-body" aria-label=${t("playground.settings")}>
      <div class="field-row chat-settings">
        <${ModelField} value=${settings.model} models=${models} onChange=${set("model")} />
        <${UserField} value=${settings.user} onInput=${set("user")} />
        <${Field} label=${t("playground.mode")}>
          <select class="input" value=${settings.mode} onChange=${set("mode")}>
            ${MODES.map((mode) => html`<option key=${mode} value=${mode} selected=${mode === settings.mode}>${t(`playground.mode_${mode}`)}</option>`)}
          </select>
        <//>
        <${NumberField} name="budget" value=${settings.budget} limits=${{ min: 0, max: MOST_BUDGET, step: 1 }} isInvalid=${invalid.includes("budget")} onInput=${set("budget")} />
        <${NumberField} name="selectivity" value=${settings.selectivity} limits=${{ min: 0, max: 1, step: 0.05 }} isInvalid=${invalid.includes("selectivity")} onInput=${set("selectivity")} />
      </div>
      <details open=${Boolean(conversation.value.system) || undefined}>
        <summary>${t("playground.system")}</summary>
        <textarea class="input" rows="3" aria-label=${t("playground.system")} placeholder=${t("playground.system_example")} value=${conversation.value.system} onInput=${(event) => setSystem(event.target.value)}></textarea>
      </details>
    </section>`;
}

function ModelField({ value, models, onChange }) {
  const names = models.data ?? [];
  const all = value && !names.includes(value) ? [value, ...names] : names;
  const input = models.error
    ? html`<input class="input" value=${value} maxlength="200" placeholder=${t("playground.model_unlisted")} onInput=${onChange} />`
    : html`<select class="input" value=${value} onChange=${onChange}>${all.map((name) => html`<option key=${name} value=${name} selected=${name === value}>${name}</option>`)}</select>`;
  return html`<${Field} label=${t("turns.model")}>${input}<//>`;
}

function UserField({ value, onInput }) {
  const users = useLoad("users", async (signal) => (may("admin") ? (await getJson(url("/v1/memory/users", { limit: MOST_USERS }), { signal })).data : []));
  const isFixed = Boolean(me.value.user);
  return html`
    <${Field} label=${t("turns.user")}>
      <input class="input" value=${value} maxlength="256" list="chat-users" autocomplete="off" spellcheck=${false} disabled=${isFixed} placeholder=${me.value.default_user ?? t("playground.no_user")} onInput=${onInput} />
      <datalist id="chat-users">${(users.data ?? []).map(({ id }) => html`<option key=${id} value=${id} />`)}</datalist>
    <//>`;
}

const NumberField = ({ name, value, limits, isInvalid, onInput }) => html`
  <${Field} label=${t(`playground.${name}`)}>
    <input class="input number" type="number" inputmode="decimal" ...${limits} value=${value} placeholder=${t("playground.default")} aria-invalid=${isInvalid} title=${t(`playground.${name}_text`)} onInput=${onInput} />
    ${isInvalid && html`<span class="field-fault" role="alert">${t(`playground.${name}_invalid`)}</span>`}
  <//>`;

const Beginning = ({ command, hasUser }) => html`
  <div class="chat-log">
    <${Empty} title=${t("playground.empty")}>
      <p>${t("playground.empty_text")}</p>
      ${!hasUser && html`<${Note} kind="warn">${t("playground.user_needed")}<//>`}
      <${Code} text=${command()} />
    <//>
  </div>`;

function Composer({ field, isRunning, canSend, onSend }) {
  const onKeyDown = (event) => {
    if (event.key === "Escape") return isRunning ? stop() : field.current.blur();
    // Enter also ends the choice of a Chinese word: then nothing is sent
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return undefined;
    event.preventDefault();
    return onSend();
  };
  const isReady = canSend && draft.value.trim();
  return html`
    <div class="composer">
      <textarea ref=${field} class="input" rows="2" autofocus aria-label=${t("playground.message")} placeholder=${t("playground.message")} value=${draft.value}
        onInput=${(event) => (draft.value = event.target.value)} onKeyDown=${onKeyDown}></textarea>
      <div class="buttons">
        <span class="muted small">${t("playground.hint")}</span>
        ${isRunning ? html`<${Button} onClick=${stop}>${t("playground.stop")}<//>` : html`<${Button} kind="main" disabled=${!isReady} onClick=${onSend}>${t("playground.send")}<//>`}
      </div>
    </div>`;
}
