// An address without a page.
import { html } from "../lib/dom.js";
import { t } from "../lib/i18n.js";
import { Link } from "../lib/router.js";
import { Empty } from "../parts/basic.js";

export const NotFoundPage = () => html`
  <h1>${t("title.not_found")}</h1>
  <${Empty} title=${t("not_found.title")}><p><${Link} to="/turns">${t("nav.turns")}<//></p><//>`;
