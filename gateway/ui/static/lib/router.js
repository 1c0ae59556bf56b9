// The address as state: every page, filter and selection is in it, so that it can be shared and reloaded.
import { html, signal } from "./dom.js";

export const ROOT = "/ui";

const currentPath = () => location.pathname.slice(ROOT.length).replace(/\/+$/, "") || "/";

export const path = signal(currentPath());
export const query = signal(new URLSearchParams(location.search));

const WAIT = 120; // milliseconds; browsers refuse more than 20 changes of the address a second
let pending = null; // an address that is shown already, and written in a moment
let timer = 0;

const queries = new Map(); // the parameters that each page had last, for the way back

function readAddress() {
  path.value = currentPath();
  query.value = new URLSearchParams(location.search);
}

function writePending() {
  clearTimeout(timer);
  if (pending !== null) history.replaceState(null, "", pending);
  pending = null;
}

export function startRouter() {
  addEventListener("pagehide", writePending);
  addEventListener("popstate", () => {
    clearTimeout(timer);
    pending = null;
    readAddress();
  });
}

/** Builds an address of the console from a path below it and parameters; empty ones are left out. */
export function address(to, parameters = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== "") search.set(name, value);
  }
  const text = search.toString();
  return ROOT + to + (text ? `?${text}` : "");
}

export function navigate(to, parameters, { replace = false } = {}) {
  const target = address(to, parameters);
  if (target === (pending ?? location.pathname + location.search)) return;
  if (replace) {
    clearTimeout(timer);
    pending = target;
    timer = setTimeout(writePending, WAIT);
    path.value = to;
    query.value = new URL(target, location.origin).searchParams;
    return;
  }
  writePending();
  queries.set(path.value, query.value);
  history.pushState(null, "", target);
  readAddress();
  scrollTo(0, 0);
}

/** Changes parameters of the present page; typing replaces the address, choosing adds to the history. */
export function setQuery(changes, { replace = true } = {}) {
  navigate(path.value, { ...Object.fromEntries(query.value), ...changes }, { replace });
}

export const parameter = (name, fallback = "") => query.value.get(name) ?? fallback;

/** The parameters that a page had when it was left; to go back to what was chosen there. */
export const latestParameters = (to) => Object.fromEntries(queries.get(to) ?? []);

/** A link within the console. */
export function Link({ to, parameters, children, ...rest }) {
  const follow = (event) => {
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    navigate(to, parameters);
  };
  return html`<a href=${address(to, parameters)} onClick=${follow} ...${rest}>${children}</a>`;
}
