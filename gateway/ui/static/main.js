// Starts the console: who uses it, then the page of the address.
import { loadMe, mayReadTurns, me } from "./lib/api.js";
import { html, render, useEffect, useState } from "./lib/dom.js";
import { language, setLanguage, t } from "./lib/i18n.js";
import { path, query, startRouter } from "./lib/router.js";
import { startTheme } from "./lib/theme.js";
import { NotFoundPage } from "./pages/not_found.js";
import { SignIn } from "./pages/sign_in.js";
import { ErrorNote, Loading } from "./parts/basic.js";
import { Frame } from "./parts/frame.js";
import { lazy } from "./parts/lazy.js";

const PAGES = [
  [/^\/(?:turns)?$/, "turns", lazy(() => import("./pages/turns.js"), "TurnsPage")],
  [/^\/turns\/([^/]+)$/, "turn", lazy(() => import("./pages/turn.js"), "TurnPage")],
  [/^\/memories$/, "memories", lazy(() => import("./pages/memories.js"), "MemoriesPage")],
  [/^\/memories\/([^/]+)$/, "memory", lazy(() => import("./pages/memory.js"), "MemoryPage")],
  [/^\/playground$/, "playground", lazy(() => import("./pages/playground.js"), "PlaygroundPage")],
  [/^\/health$/, "health", lazy(() => import("./pages/health.js"), "HealthPage")],
  [/^\/users$/, "users", lazy(() => import("./pages/users.js"), "UsersPage")],
  [/^\/settings(?:\/(\w+))?$/, "settings", lazy(() => import("./pages/settings.js"), "SettingsPage")],
];

function findPage(place) {
  const address = place === "/" && !mayReadTurns() ? "/memories" : place; // the first page that the key may see
  for (const [pattern, name, page] of PAGES) {
    const match = pattern.exec(address);
    if (match) return { page, name, id: match[1] };
  }
  return { page: NotFoundPage, name: "not_found" };
}

function App() {
  const [error, setError] = useState(null);
  const start = () => {
    setError(null);
    loadMe().catch(setError);
  };
  useEffect(start, []);
  const { page, name, id } = findPage(path.value);
  useEffect(() => {
    document.title = `${t(`title.${name}`)} · Memory Gateway`;
  }, [name, language.value]);
  if (error) return html`<main class="page"><${ErrorNote} error=${error} retry=${start} /></main>`;
  if (me.value === null) return html`<main class="page"><${Loading} /></main>`;
  if (me.value === "sign-in") return html`<${SignIn} />`;
  return html`<${Frame}><${page} key=${name + (id ?? "")} id=${id} query=${query.value} /><//>`;
}

setLanguage(language.value);
startTheme();
startRouter();
render(html`<${App} />`, document.getElementById("app"));
