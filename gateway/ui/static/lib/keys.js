// Keys of a page. They act when no field is being edited and no dialog is open.
import { signal, useEffect, useLayoutEffect, useRef } from "./dom.js";

/** The keys of the shown page, for the help: [key, text]. */
export const shownKeys = signal([]);
export const isHelpOpen = signal(false);

const FIELDS = "textarea, select, input:not([type=checkbox], [type=radio], [type=range])";
const isEditing = (target) => target instanceof HTMLElement && (target.isContentEditable || target.matches(FIELDS));

/** Binds keys while a component is shown: {j: [text, action], …}. */
export function useKeys(bindings) {
  const latest = useRef(bindings);
  latest.current = bindings;
  const names = Object.entries(bindings).map(([key, [text]]) => `${key}\0${text}`).join("\n");
  useEffect(() => {
    const entries = Object.entries(latest.current).map(([key, [text]]) => [key, text]);
    shownKeys.value = [...shownKeys.value, ...entries];
    return () => {
      shownKeys.value = shownKeys.value.filter((entry) => !entries.includes(entry));
    };
  }, [names]);
  // with the page itself, not a frame later: a key that is pressed at once is not lost
  useLayoutEffect(() => {
    const act = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      if (isEditing(event.target) || document.querySelector("dialog[open]")) return;
      const onControl = event.target instanceof Element && event.target.closest("a, button, summary");
      if (onControl && (event.key === "Enter" || event.key === " ")) return;
      const binding = latest.current[event.key];
      if (!binding) return;
      event.preventDefault();
      binding[1](event);
    };
    addEventListener("keydown", act);
    return () => removeEventListener("keydown", act);
  }, []);
}
