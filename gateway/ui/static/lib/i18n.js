// The texts of the console in the reader's language. Each module of lang/ has those of a part, in all languages.
import { signal } from "./dom.js";
import { readPreference, writePreference } from "./storage.js";
import common from "../lang/common.js";
import health from "../lang/health.js";
import memories from "../lang/memories.js";
import playground from "../lang/playground.js";
import settings from "../lang/settings.js";
import turns from "../lang/turns.js";
import why from "../lang/why.js";

export const LANGUAGES = { en: "English", zh: "中文" };
const PARTS = [common, health, memories, playground, settings, turns, why];
const merge = (name) => Object.assign({}, ...PARTS.map((part) => part[name]));
const TEXTS = { en: merge("en"), zh: merge("zh") };

const preferred = () => readPreference("language", (navigator.language || "en").startsWith("zh") ? "zh" : "en");

export const language = signal(preferred() in TEXTS ? preferred() : "en");

export function setLanguage(name) {
  language.value = name;
  document.documentElement.lang = name;
  writePreference("language", name);
}

/** The text of a key, with `{name}` replaced by the values. */
export function t(key, values = {}) {
  const text = TEXTS[language.value][key] ?? TEXTS.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** The text of a key that is built from data, such as a status; the data itself where no text exists. */
export function label(prefix, value) {
  const key = `${prefix}.${value}`;
  return TEXTS[language.value][key] ?? TEXTS.en[key] ?? String(value);
}
