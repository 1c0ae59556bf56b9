// The messages of a chat, the last one as it arrives.
import { arriving, BROKEN, conversation } from "../lib/conversation.js";
import { classes, html, useEffect, useLayoutEffect, useRef } from "../lib/dom.js";
import { formatMilliseconds } from "../lib/format.js";
import { label, t } from "../lib/i18n.js";
import { Link } from "../lib/router.js";
import { Badge, Button, copyText, describeError } from "./basic.js";

const NEAR = 60; // pixels from the end within which the log follows what arrives

/** `shown`: the answer whose memories are in the panel; `onChoose(id)` shows those of another. */
export function ChatLog({ shown, onChoose, onRetry }) {
  const box = useRef(null);
  const isFollowing = useRef(true);
  const { messages } = conversation.value;
  const follow = () => {
    if (isFollowing.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  };
  useEffect(() => {
    isFollowing.current = true;
    follow();
  }, [messages.length]);
  const note = () => (isFollowing.current = box.current.scrollHeight - box.current.scrollTop - box.current.clientHeight < NEAR);
  const last = messages.at(-1);
  return html`
    <div class="chat-log" ref=${box} onScroll=${note} tabindex="0" role="log" aria-label=${t("playground.conversation")} aria-busy=${arriving.value !== null}><ol>
      ${messages.map((message) => (message.role === "user"
        ? html`<li key=${message.id} class="chat-item chat-user"><div class="message-role">${t("playground.role_user")}</div><p class="chat-text">${message.text}</p></li>`
        : html`<${Answer} key=${message.id} answer=${message} isShown=${message === shown} isLast=${message === last} onChoose=${onChoose} onRetry=${onRetry} onGrow=${follow} />`))}
    </ol></div>`;
}

function Answer({ answer, isShown, isLast, onChoose, onRetry, onGrow }) {
  const live = arriving.value?.id === answer.id ? arriving.value : null;
  const text = live?.text ?? answer.text;
  const reasoning = live?.reasoning ?? answer.reasoning;
  useLayoutEffect(onGrow, [text, reasoning, answer.state, answer.facts]);
  const { facts, state, error } = answer;
  return html`
    <li class=${classes("chat-item chat-answer", isShown && "chat-shown")}>
      <div class="chat-facts"><span class="message-role">${answer.model || t("playground.role_assistant")}</span>
        ${facts?.status && html`<${Badge} value=${facts.status}>${label("memory", facts.status)}${facts.count > 0 && ` · ${facts.count}`}<//>`}
        ${state === "stopped" && html`<${Badge} tone="warn">${t("playground.stopped")}<//>`}
        ${answer.ms > 0 && html`<span class="muted small">${formatMilliseconds(answer.ms)}</span>`}</div>
      ${reasoning && html`<details class="chat-reasoning"><summary>${t("playground.reasoning")}</summary><p class="chat-text">${reasoning}</p></details>`}
      ${live && !text && html`<p class="muted" role="status">${t("playground.waiting")}</p>`}
      ${text && html`<p class=${classes("chat-text", live && "chat-arriving")}>${text}</p>`}
      ${state === "done" && !text && html`<p class="muted">${t("playground.no_text")}</p>`}
      ${error && html`<p class="note note-bad" role="alert">${error === BROKEN ? t("playground.broken") : describeError(error)}</p>`}
      <div class="buttons">
        ${facts && html`<${Button} small kind="quiet" aria-pressed=${isShown} onClick=${() => onChoose(answer.id)}>${t("playground.show_memories")}<//>`}
        ${facts?.id && html`<${Link} class="button button-small button-quiet" to=${`/turns/${facts.id}`}>${t("title.turn")}<//>`}
        ${text && !live && html`<${Button} small kind="quiet" onClick=${() => copyText(text)}>${t("action.copy")}<//>`}
        ${isLast && !live && answer.model && (error || state === "stopped") && html`<${Button} small onClick=${onRetry}>${t("action.retry")}<//>`}
      </div>
    </li>`;
}
