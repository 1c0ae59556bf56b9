// Preferences of this browser. They are optional: a browser that refuses storage uses the defaults.

const PREFIX = "memory-gateway.";

export function readPreference(name, fallback) {
  try {
    return localStorage.getItem(PREFIX + name) ?? fallback;
  } catch {
    return fallback;
  }
}

export function writePreference(name, value) {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // used until the page is closed
  }
}
