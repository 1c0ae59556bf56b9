// Numbers and times as people read them, in their language.
import { language } from "./i18n.js";

const locale = () => (language.value === "zh" ? "zh-CN" : "en-GB");
const cached = new Map();

function formatter(kind, options) {
  const key = locale() + kind.name + JSON.stringify(options);
  if (!cached.has(key)) cached.set(key, new kind(locale(), options));
  return cached.get(key);
}

const DAY = 86_400_000;

/** A rate, to two digits where it is below one. */
export const formatRate = (value) => formatter(Intl.NumberFormat, value < 1 ? { maximumSignificantDigits: 2 } : { maximumFractionDigits: 1 }).format(value);

export const formatNumber = (value, digits = 0) =>
  value === null || value === undefined ? "–" : formatter(Intl.NumberFormat, { maximumFractionDigits: digits }).format(value);

export const formatCompact = (value) =>
  value === null || value === undefined ? "–" : formatter(Intl.NumberFormat, { notation: "compact", maximumFractionDigits: 1 }).format(value);

export const formatShare = (value) =>
  formatter(Intl.NumberFormat, { style: "percent", maximumFractionDigits: 1 }).format(value);

/** A time of day; with the date if it is another day. */
export function formatTime(iso) {
  const at = new Date(iso);
  const isToday = Math.abs(Date.now() - at) < DAY && at.getDate() === new Date().getDate();
  const options = { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false };
  return formatter(Intl.DateTimeFormat, isToday ? options : { month: "short", day: "numeric", ...options }).format(at);
}

export const formatDate = (iso) =>
  iso ? formatter(Intl.DateTimeFormat, { year: "numeric", month: "short", day: "numeric" }).format(new Date(iso)) : "–";

export const formatMoment = (iso) =>
  iso ? formatter(Intl.DateTimeFormat, { dateStyle: "medium", timeStyle: "medium", hour12: false }).format(new Date(iso)) : "–";

const TICKS = {
  minute: { hour: "2-digit", minute: "2-digit", hour12: false },
  hour: { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hour12: false },
  day: { day: "numeric", month: "short" },
  month: { month: "short", year: "numeric" },
  year: { year: "numeric" },
};

/** A mark on a time axis; `unit`: minute, hour, day, month or year. */
export const formatCalendarTick = (at, unit) => formatter(Intl.DateTimeFormat, TICKS[unit]).format(new Date(at));

export function formatMilliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10_000) return `${formatNumber(value / 1000, 1)} s`;
  return value >= 100 ? `${formatNumber(value)} ms` : `${formatNumber(value, 1)} ms`;
}

export const formatMoney = (value) =>
  value === null || value === undefined ? "–" : value < 0.01 && value > 0 ? `$${value.toPrecision(2)}` : `$${formatter(Intl.NumberFormat, { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(value)}`;

/** A moment on an axis of `span` seconds, given in seconds: the time of day, or the day. */
export function formatClock(seconds, span) {
  const at = new Date(seconds * 1000);
  const clock = { hour: "2-digit", minute: "2-digit", hour12: false, ...(span <= 600 ? { second: "2-digit" } : {}) };
  const isDay = span > 2 * 86_400 || (span > 43_200 && at.getHours() === 0 && at.getMinutes() === 0);
  return formatter(Intl.DateTimeFormat, isDay ? { month: "short", day: "numeric" } : clock).format(at);
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function formatBytes(value) {
  if (value === null || value === undefined) return "–";
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log2(Math.max(1, value)) / 10));
  return `${formatNumber(value / 1024 ** power, power && value / 1024 ** power < 100 ? 1 : 0)} ${UNITS[power]}`;
}
