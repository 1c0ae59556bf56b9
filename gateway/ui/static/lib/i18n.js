// The texts of the console in the reader's language. Each module of lang/ has those of a part, in all languages.
import { signal } from "./dom.js";
import { readPreference, writePreference } from "./storage.js";
import common from "../lang/common.js";

export const LANGUAGES = { en: "English", zh: "中文" };
const TEXTS = { en: { ...common.en }, zh: { ...common.zh } };

/** Adds the texts of a part, before the first page that uses them is shown. */
export function addTexts(...parts) {
  for (const part of parts) {
    for (const [name, texts] of Object.entries(part)) Object.assign(TEXTS[name], texts);
  }
}

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
