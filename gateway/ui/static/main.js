// Starts the console: who uses it, then the page of the address.
import { loadMe, me } from "./lib/api.js";
import { html, render, useEffect, useState } from "./lib/dom.js";
import { language, setLanguage, t } from "./lib/i18n.js";
import { path, query, startRouter } from "./lib/router.js";
import { startTheme } from "./lib/theme.js";
import { ErrorNote, Loading } from "./parts/basic.js";
import { Frame } from "./parts/frame.js";
import { HealthPage } from "./pages/health.js";
import { MemoriesPage } from "./pages/memories.js";
import { MemoryPage } from "./pages/memory.js";
import { NotFoundPage } from "./pages/not_found.js";
import { PlaygroundPage } from "./pages/playground.js";
import { SettingsPage } from "./pages/settings.js";
import { SignIn } from "./pages/sign_in.js";
import { TurnPage } from "./pages/turn.js";
import { TurnsPage } from "./pages/turns.js";
import { UsersPage } from "./pages/users.js";

const PAGES = [
  [/^\/(?:turns)?$/, TurnsPage, "turns"],
  [/^\/turns\/([^/]+)$/, TurnPage, "turn"],
  [/^\/memories$/, MemoriesPage, "memories"],
  [/^\/memories\/([^/]+)$/, MemoryPage, "memory"],
  [/^\/playground$/, PlaygroundPage, "playground"],
  [/^\/health$/, HealthPage, "health"],
  [/^\/users$/, UsersPage, "users"],
  [/^\/settings(?:\/(\w+))?$/, SettingsPage, "settings"],
];

function findPage(place) {
  for (const [pattern, page, name] of PAGES) {
    const match = pattern.exec(place);
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
