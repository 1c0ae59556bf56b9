// The state of the gateway, asked for every ten seconds while the page is visible.
import { getJson } from "../lib/api.js";
import { classes, html } from "../lib/dom.js";
import { label, t } from "../lib/i18n.js";
import { useInterval, useLoad } from "../lib/load.js";
import { Link } from "../lib/router.js";

export function HealthDot() {
  const { data, error, reload } = useLoad("ready", (signal) => getJson("/ready", { signal }));
  useInterval(reload, 10);
  const state = error ? "unreachable" : data ? String(data.memory).split(":")[0] : "loading";
  const tone = { ready: "good", off: "", loading: "warn", degraded: "warn", unreachable: "bad" }[state] ?? "warn";
  return html`<${Link} to="/health" class="row muted"><span class=${classes("dot", tone && `dot-${tone}`)}></span>${t("health.dot", { state: label("health.state", state) })}<//>`;
}
