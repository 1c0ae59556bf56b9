// How the gateway is configured (read-only), its plugins and upstreams, and maintenance of the memory.
import settingsTexts from "../lang/settings.js";
import { getJson } from "../lib/api.js";
import { html } from "../lib/dom.js";
import { formatNumber } from "../lib/format.js";
import { addTexts, t } from "../lib/i18n.js";
import { useLoad } from "../lib/load.js";
import { address, navigate, parameter, setQuery } from "../lib/router.js";
import { Badge, Empty, Loaded, Tabs } from "../parts/basic.js";
import { Icon } from "../parts/icons.js";
import { Maintenance } from "../parts/maintenance.js";

addTexts(settingsTexts);

const TABS = ["configuration", "plugins", "upstreams", "maintenance"];

export function SettingsPage({ id }) {
  const tab = TABS.includes(id) ? id : "configuration";
  return html`
    <header class="page-head"><h1>${t("title.settings")}</h1></header>
    <${Tabs} tabs=${TABS.map((name) => [name, t(`settings.${name}`)])} value=${tab} label=${t("title.settings")} onSelect=${(name) => navigate(`/settings/${name}`)} />
    <div role="tabpanel" class="page-text tab-panel" aria-label=${t(`settings.${tab}`)}>
      ${tab === "configuration" && html`<${Configuration} />`}
      ${tab === "plugins" && html`<${Plugins} />`}
      ${tab === "upstreams" && html`<${Upstreams} />`}
      ${tab === "maintenance" && html`<${Maintenance} />`}
    </div>`;
}

/** A description, whose words in backticks are code. */
const describe = (text) => text.split("`").map((part, index) => (index % 2 ? html`<code>${part}</code>` : part));

const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value));

function Configuration() {
  const state = useLoad("config", (signal) => getJson("/v1/gateway/config", { signal }));
  const text = parameter("q").toLowerCase(), isChanged = parameter("changed") === "1";
  const matches = (key) => (!isChanged || !key.is_default) && (!text || `${key.path} ${key.description}`.toLowerCase().includes(text));
  return html`
    <div class="buttons">
      <label class="search"><span class="hidden-text">${t("settings.search")}</span><${Icon} name="search" /><input class="input" type="search" placeholder=${t("settings.search")} value=${parameter("q")} onInput=${(event) => setQuery({ q: event.target.value })} /></label>
      <label class="check"><input type="checkbox" checked=${isChanged} onChange=${(event) => setQuery({ changed: event.target.checked ? "1" : "" })} />${t("settings.changed_only")}</label>
    </div>
    <p class="muted">${t("settings.read_only")}</p>
    <${Loaded} of=${state}>${({ data }) => {
      const shown = data.filter(matches);
      if (!shown.length) return html`<${Empty} title=${t("settings.none_match")} />`;
      return html`
        <div class="table-box" tabindex="0" role="region" aria-label=${t("settings.configuration")}><table class="config">
          <thead><tr><th scope="col">${t("settings.key")}</th><th scope="col">${t("settings.value")}</th><th scope="col" class="if-middle">${t("settings.description")}</th></tr></thead>
          <tbody>${shown.map((key) => html`
            <tr key=${key.path}><td><code>${key.path}</code></td>
              <td><code>${asText(key.value)}</code> ${key.is_default ? html`<span class="muted small">${t("settings.default")}</span>` : html`<${Badge} tone="accent">${t("settings.changed", { value: asText(key.default) })}<//>`}</td>
              <td class="if-middle muted">${describe(key.description)}</td></tr>`)}</tbody>
        </table></div>`;
    }}<//>`;
}

function Plugins() {
  const state = useLoad("plugins", (signal) => getJson("/v1/gateway/plugins", { signal }));
  return html`<${Loaded} of=${state}>${({ data }) => (data.length ? html`
    <div class="grid">${data.map((plugin) => html`
      <section key=${plugin.name} class="card"><div class="card-head"><h2>${plugin.name}</h2>${plugin.failures > 0 && html`<${Badge} tone="bad">${t("settings.failures", { count: formatNumber(plugin.failures) })}<//>`}</div>
        <div class="card-body"><span class="chips">${plugin.hooks.map((hook) => html`<${Badge} key=${hook}>${hook}<//>`)}</span>
          ${Object.keys(plugin.settings ?? {}).length > 0 && html`<pre class="mono small">${JSON.stringify(plugin.settings, null, 2)}</pre>`}</div></section>`)}</div>`
    : html`<${Empty} title=${t("settings.no_plugins")}><p>${t("settings.no_plugins_text")}</p><//>`)}<//>`;
}

function Upstreams() {
  const state = useLoad("upstreams", (signal) => getJson("/v1/gateway/upstreams", { signal }));
  return html`<${Loaded} of=${state}>${({ data }) => html`
    <div class="table-box" tabindex="0" role="region" aria-label=${t("settings.upstreams")}><table>
      <thead><tr><th scope="col">${t("settings.name")}</th><th scope="col">${t("settings.kind")}</th><th scope="col">${t("settings.models")}</th><th scope="col">${t("settings.breaker")}</th><th scope="col" class="number">${t("settings.failed")}</th></tr></thead>
      <tbody>${data.map((upstream) => html`<tr key=${upstream.name}><td><a href=${address("/turns", { upstream: upstream.name })}>${upstream.name}</a></td><td>${upstream.kind}</td><td>${(upstream.models ?? []).join(", ") || "*"}</td>
        <td><${Badge} tone=${upstream.is_open ? "bad" : "good"}>${t(upstream.is_open ? "settings.breaker_open" : "settings.breaker_closed")}<//></td><td class="number">${formatNumber(upstream.failures)}</td></tr>`)}</tbody>
    </table></div>`}<//>`;
}
