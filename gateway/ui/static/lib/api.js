// The gateway's HTTP API, as any program uses it. The header marks requests of these pages; a session needs it.
import { signal } from "./dom.js";

const HEADERS = { "x-gateway-console": "1" };
const SECONDS = 30;
const ENCODER = new TextEncoder();

/** The holder of the session: the answer of /v1/me; null until it is known; "sign-in" if a key is needed. */
export const me = signal(null);

export class ApiError extends Error {
  constructor(status, body) {
    const error = body?.error ?? {};
    super(error.message ?? `HTTP ${status}`);
    this.status = status;
    this.code = error.code ?? "";
    this.param = error.param ?? "";
  }
}

/** Headers as bytes of UTF-8: a browser refuses other characters than those of Latin-1, which user ids may have. */
const encodeHeaders = (headers) => Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String.fromCharCode(...ENCODER.encode(value))]));

/** Sends a request; returns the response. Throws ApiError. */
export async function send(method, url, { body, headers = {}, signal: stop, seconds = SECONDS } = {}) {
  const limits = [AbortSignal.timeout(seconds * 1000), stop].filter(Boolean);
  const options = { method, headers: { ...HEADERS, accept: "application/json", ...encodeHeaders(headers) }, credentials: "same-origin" };
  if (body !== undefined) {
    options.body = typeof body === "string" || body instanceof Blob ? body : JSON.stringify(body);
    options.headers["content-type"] ??= "application/json";
  }
  const response = await fetch(url, { ...options, signal: limits.length > 1 ? AbortSignal.any(limits) : limits[0] });
  if (!response.ok) {
    const text = await response.text();
    if (response.status === 401 && !url.startsWith("/ui/session")) me.value = "sign-in";
    throw new ApiError(response.status, parse(text));
  }
  return response;
}

const parse = (text) => {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
};

export const getJson = async (url, options) => (await send("GET", url, options)).json();
export const postJson = async (url, body, options) => (await send("POST", url, { ...options, body })).json();
export const patchJson = async (url, body, options) => (await send("PATCH", url, { ...options, body })).json();
export const deleteJson = async (url, options) => (await send("DELETE", url, options)).json();

/** Builds an address of the API; empty parameters are left out. */
export function url(path, parameters = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== "") search.set(name, value);
  }
  const text = search.toString();
  return text ? `${path}?${text}` : path;
}

/** Learns who uses the console; asks for a key if one is needed. */
export async function loadMe() {
  try {
    me.value = await getJson("/v1/me");
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
    me.value = "sign-in";
  }
}

export const signIn = async (key) => {
  await postJson("/ui/session", { key });
  await loadMe();
};

export const signOut = async () => {
  await deleteJson("/ui/session");
  me.value = "sign-in";
};

/** Whether the turns of a user or of the tenant may be read. */
export const mayReadTurns = () => may("admin") || Boolean(me.value?.user && may("memory"));

export const may = (right) => Boolean(me.value?.rights?.includes(right));

/**
 * Reads server-sent events by fetch, which can send headers; calls `onEvent(name, data, id)` for each.
 * Returns when the stream ends. Throws ApiError, or AbortError when `stop` aborts.
 */
export async function readEvents(address, onEvent, { stop, method = "GET", body, headers = {} } = {}) {
  const options = { method, headers: { ...HEADERS, accept: "text/event-stream", ...encodeHeaders(headers) }, signal: stop, credentials: "same-origin" };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  const response = await fetch(address, options);
  if (!response.ok) {
    if (response.status === 401) me.value = "sign-in";
    throw new ApiError(response.status, parse(await response.text()));
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return response;
    buffer += value;
    const blocks = buffer.split(/\r?\n\r?\n/);
    buffer = blocks.pop();
    for (const block of blocks) emitEvent(block, onEvent, response);
  }
}

function emitEvent(block, onEvent, response) {
  let name = "message", id = "";
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    const field = line.slice(0, colon), value = line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") name = value;
    else if (field === "data") data.push(value);
    else if (field === "id") id = value;
  }
  if (data.length) onEvent(name, data.join("\n"), id, response);
}
