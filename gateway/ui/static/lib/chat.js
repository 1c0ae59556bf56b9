// The chats of the playground as requests and answers of /v1/chat/completions. Pure.
import { readPrompt } from "./prompt.js";

export const CHAT_PATH = "/v1/chat/completions";
export const MODES = ["on", "read", "write", "off"];
export const MOST_BUDGET = 100_000;

/** The headers that say who asks, and what memory does. Empty settings are left to the gateway. */
export function controlHeaders({ user, mode, budget, selectivity, session }) {
  const headers = { "x-memory-user": user, "x-memory-session": session, "x-memory-mode": mode, "x-memory-budget": budget, "x-memory-selectivity": selectivity };
  return Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== "" && value !== undefined && value !== null));
}

/** The body of a request. Answers that failed or are empty are not part of the conversation. */
export function requestBody({ model, system, messages, isStream }) {
  const history = messages.filter((message) => message.text).map(({ role, text }) => ({ role, content: text }));
  return { model, messages: [...(system ? [{ role: "system", content: system }] : []), ...history], ...(isStream ? { stream: true } : {}) };
}

/** The names of settings that the gateway would refuse. */
export function findInvalid({ budget, selectivity }) {
  const isBudget = budget === "" || (/^\d{1,6}$/.test(budget) && Number(budget) <= MOST_BUDGET);
  const isSelectivity = selectivity === "" || (/^\d*\.?\d+$/.test(selectivity) && Number(selectivity) <= 1);
  return [!isBudget && "budget", !isSelectivity && "selectivity"].filter(Boolean);
}

/** What an event of a streamed answer adds: {text, reasoning, error}; null for one that adds nothing. */
export function readChunk(data) {
  let body;
  try {
    body = JSON.parse(data);
  } catch {
    return null; // the mark of the end
  }
  if (body?.error) return { text: "", reasoning: "", error: body };
  const delta = body?.choices?.[0]?.delta;
  const text = typeof delta?.content === "string" ? delta.content : "";
  const reasoning = delta?.reasoning_content ?? delta?.reasoning ?? "";
  return text || reasoning ? { text, reasoning: typeof reasoning === "string" ? reasoning : "", error: null } : null;
}

/**
 * The conversation of an earlier request, in any format: {model, system, messages, draft, isWhole}. The last words of
 * the user become the draft. `isWhole` false: parts that are no text, such as pictures and calls of tools, are left out.
 */
export function readConversation(body) {
  const messages = [], instructions = [];
  let isWhole = true;
  for (const { role, texts } of readPrompt(body)) {
    const text = texts.filter((part) => part.kind === "text").map((part) => part.text).join("\n\n");
    if (texts.some((part) => part.kind !== "text")) isWhole = false;
    if (role === "system" || role === "developer") instructions.push(text);
    else if ((role === "user" || role === "assistant") && text) messages.push({ role, text });
    else if (role !== "user" && role !== "assistant") isWhole = false;
  }
  const draft = messages.at(-1)?.role === "user" ? messages.pop().text : "";
  const model = typeof body?.model === "string" ? body.model : "";
  return { model, system: instructions.join("\n\n"), messages, draft, isWhole };
}

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A command that sends the same request. `key`: what stands for the caller's key; empty where none is needed. */
export function curlCommand({ origin, headers, body, key }) {
  const all = { ...(key ? { authorization: `Bearer ${key}` } : {}), "content-type": "application/json", ...headers };
  const lines = Object.entries(all).map(([name, value]) => `  -H ${quote(`${name}: ${value}`)}`);
  return [`curl ${quote(origin + CHAT_PATH)}`, ...lines, `  -d ${quote(JSON.stringify(body, null, 2))}`].join(" \\\n");
}
