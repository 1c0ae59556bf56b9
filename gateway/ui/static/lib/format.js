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
export const formatTick = (at, unit) => formatter(Intl.DateTimeFormat, TICKS[unit]).format(new Date(at));

export function formatMilliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10_000) return `${formatNumber(value / 1000, 1)} s`;
  return value >= 100 ? `${formatNumber(value)} ms` : `${formatNumber(value, 1)} ms`;
}

export const formatMoney = (value) =>
  value === null || value === undefined ? "–" : value < 0.01 && value > 0 ? `$${value.toPrecision(2)}` : `$${formatNumber(value, 2)}`;
