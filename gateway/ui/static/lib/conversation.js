// The conversation of the playground. It is kept while the console is open, in this page only, and ends with the session.
import { ApiError, getJson, me, readEvents } from "./api.js";
import { CHAT_PATH, controlHeaders, readChunk, readConversation, requestBody } from "./chat.js";
import { batch, effect, signal } from "./dom.js";

let count = 0;
const nextId = () => ++count;

/** A name that no other conversation has. */
const newSession = () => `console-${Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
const emptyConversation = () => ({ session: newSession(), system: "", messages: [], source: "", isWhole: true });

/**
 * {session, system, messages, source, isWhole}; `source`: the turn that it was taken from. A message: {id, role, text};
 * an answer also has {model, state: "waiting" | "running" | "done" | "stopped" | "failed", facts, error, explanation, ms}.
 */
export const conversation = signal(emptyConversation());
/** The text of the message that is being written. */
export const draft = signal("");
/** What has arrived of the answer that is streamed now: {id, text, reasoning}; else null. */
export const arriving = signal(null);

/** The error of an answer whose connection broke. */
export const BROKEN = new Error("the connection broke");

let control = null;

export const stop = () => control?.abort();

export function startConversation() {
  stop();
  batch(() => {
    conversation.value = { ...emptyConversation(), system: conversation.value.system };
    arriving.value = null;
  });
}

effect(() => {
  if (me.value !== "sign-in") return;
  stop();
  conversation.value = emptyConversation();
  draft.value = "";
});

export const setSystem = (system) => (conversation.value = { ...conversation.value, system });

function change(session, id, values) {
  const present = conversation.value;
  if (present.session !== session) return; // an answer to a conversation that was left
  conversation.value = { ...present, messages: present.messages.map((message) => (message.id === id ? { ...message, ...values } : message)) };
}

/** Begins a conversation with the messages of an earlier turn; returns its explanation. Throws ApiError. */
export async function takeOver(turn, signal) {
  const explanation = await getJson(`/v1/memory/explain/${encodeURIComponent(turn)}`, { signal });
  const { system, messages, draft: words, isWhole, model } = readConversation(explanation.request?.body);
  startConversation();
  batch(() => {
    conversation.value = { ...conversation.value, system, isWhole, source: turn, messages: messages.map((message) => ({ ...message, id: nextId(), state: "done" })) };
    draft.value = words;
  });
  return { ...explanation, model };
}

/** Removes the last question with its failed answer; returns the question's text. */
export function takeBack() {
  const { messages } = conversation.value;
  const last = messages.findLastIndex((message) => message.role === "user");
  if (last < 0) return "";
  conversation.value = { ...conversation.value, messages: messages.slice(0, last) };
  return messages[last].text;
}

/** Sends a question, and shows the answer as it arrives. `settings`: model and those of `controlHeaders`. */
export async function ask(text, settings) {
  const { session, system, messages } = conversation.value;
  const answer = { id: nextId(), role: "assistant", text: "", model: settings.model, state: "waiting", facts: null, error: null, explanation: undefined };
  const asked = [...messages, { id: nextId(), role: "user", text }];
  const arrived = { id: answer.id, text: "", reasoning: "" };
  const own = (control = new AbortController());
  const started = performance.now();
  let failure = null, frame = 0;
  batch(() => {
    conversation.value = { ...conversation.value, messages: [...asked, answer] };
    arriving.value = arrived;
  });
  const show = () => {
    frame = 0;
    if (control === own) arriving.value = { ...arrived };
  };
  const onEvent = (name, data, id, response) => {
    if (!answer.facts) {
      answer.facts = readFacts(response);
      change(session, answer.id, { facts: answer.facts, state: "running", firstMs: performance.now() - started });
      loadExplanation(session, answer);
    }
    const chunk = readChunk(data);
    if (chunk?.error) failure = new ApiError(response.status, chunk.error);
    arrived.text += chunk?.text ?? "";
    arrived.reasoning += chunk?.reasoning ?? "";
    frame ||= requestAnimationFrame(show);
  };
  try {
    const body = requestBody({ model: settings.model, system, messages: asked, isStream: true });
    await readEvents(CHAT_PATH, onEvent, { method: "POST", body, headers: controlHeaders({ ...settings, session }), stop: own.signal });
  } catch (error) {
    failure ??= own.signal.aborted ? null : answer.facts ? BROKEN : error; // the gateway's own words say more
  }
  cancelAnimationFrame(frame);
  const state = own.signal.aborted ? "stopped" : failure ? "failed" : "done";
  batch(() => {
    change(session, answer.id, { text: arrived.text, reasoning: arrived.reasoning, state, error: failure, ms: performance.now() - started });
    if (control === own) arriving.value = control = null;
  });
}

/** What the head of a response says of memory. */
function readFacts(response) {
  const read = (name) => response.headers.get(name) ?? "";
  return {
    id: read("x-gateway-request-id"),
    status: read("x-memory-status"),
    count: Number(read("x-memory-count")) || 0,
    tokens: Number(read("x-memory-tokens")) || 0,
    upstream: read("x-gateway-upstream"),
    overheadMs: Number(read("x-gateway-overhead-ms")) || null,
  };
}

/** Loads how the block was built. Kept with the answer, since the gateway explains a turn only until memories change. */
async function loadExplanation(session, { id, facts }) {
  if (!facts.id) return;
  try {
    change(session, id, { explanation: await getJson(`/v1/memory/explain/${facts.id}`) });
  } catch (error) {
    change(session, id, { explanation: null, explanationError: error instanceof ApiError && error.status === 404 ? null : error });
  }
}
