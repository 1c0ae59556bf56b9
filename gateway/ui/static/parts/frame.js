// The frame of all pages: navigation, language, theme, session, help on keys.
import { me, may, mayReadTurns, signOut } from "../lib/api.js";
import { html } from "../lib/dom.js";
import { language, LANGUAGES, setLanguage, t } from "../lib/i18n.js";
import { isHelpOpen, shownKeys, useKeys } from "../lib/keys.js";
import { Link, navigate, path } from "../lib/router.js";
import { theme, THEMES } from "../lib/theme.js";
import { Button } from "./basic.js";
import { Dialog, Question } from "./dialog.js";
import { HealthDot } from "./health_dot.js";
import { Icon } from "./icons.js";
import { Toasts } from "./toast.js";

const SECTIONS = [
  ["turns", "/turns", mayReadTurns],
  ["memories", "/memories"],
  ["playground", "/playground"],
  ["health", "/health"],
  ["users", "/users", () => may("admin")],
  ["settings", "/settings", () => may("admin")],
];

const isShown = ([, , isAllowed]) => !isAllowed || isAllowed();
const isCurrent = (to) => path.value === to || path.value.startsWith(`${to}/`) || (path.value === "/" && to === (mayReadTurns() ? "/turns" : "/memories"));

export function Frame({ children }) {
  const keys = { "?": [t("keys.help"), () => (isHelpOpen.value = true)] };
  SECTIONS.filter(isShown).forEach(([name, to], index) => (keys[String(index + 1)] = [t(`nav.${name}`), () => navigate(to)]));
  useKeys(keys);
  return html`
    <a class="skip" href="#main">${t("nav.skip")}</a>
    <div class="frame">
      <header class="side">
        <${Link} to="/" class="brand"><img src="/ui/icon.svg" alt="" />Memory Gateway<//>
        <nav class="nav" aria-label=${t("nav.label")}>
          ${SECTIONS.filter(isShown).map(([name, to]) => html`
            <${Link} key=${name} to=${to} aria-current=${isCurrent(to) ? "page" : undefined}><${Icon} name=${name} />${t(`nav.${name}`)}<//>`)}
        </nav>
        <${Foot} />
      </header>
      <main id="main" class="page" tabindex="-1">${children}</main>
    </div>
    <${Toasts} /><${Question} />
    ${isHelpOpen.value && html`<${Help} />`}`;
}

const Foot = () => html`
  <div class="side-foot">
    <${HealthDot} />
    <div class="row">
      <select class="input" aria-label=${t("nav.language")} value=${language.value} onChange=${(event) => setLanguage(event.target.value)}>
        ${Object.entries(LANGUAGES).map(([name, text]) => html`<option key=${name} value=${name} selected=${name === language.value}>${text}</option>`)}
      </select>
      <select class="input" aria-label=${t("nav.theme")} value=${theme.value} onChange=${(event) => (theme.value = event.target.value)}>
        ${THEMES.map((name) => html`<option key=${name} value=${name} selected=${name === theme.value}>${t(`theme.${name}`)}</option>`)}
      </select>
    </div>
    <div class="row version">
      <a href="/docs" target="_blank" rel="noreferrer">${t("nav.api")}</a>
      <${Button} kind="quiet" small onClick=${() => (isHelpOpen.value = true)}>${t("keys.title")} <kbd>?</kbd><//>
    </div>
    ${me.value && !me.value.is_open && html`
      <div class="row"><span class="muted clip" title=${me.value.key}>${me.value.key}</span>
        <${Button} small onClick=${signOut}>${t("session.sign_out")}<//></div>`}
  </div>`;

const Help = () => html`
  <${Dialog} title=${t("keys.title")} onClose=${() => (isHelpOpen.value = false)}>
    <dl class="keys">${shownKeys.value.map(([key, text]) => html`<dt key=${key + text}><kbd>${key}</kbd></dt><dd>${text}</dd>`)}</dl>
  <//>`;
