// Light, dark, or as the system says.
import { effect, signal } from "./dom.js";
import { readPreference, writePreference } from "./storage.js";

export const THEMES = ["auto", "light", "dark"];
export const theme = signal(readPreference("theme", "auto"));

export function startTheme() {
  effect(() => {
    const root = document.documentElement;
    if (theme.value === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme.value;
    writePreference("theme", theme.value);
  });
}
