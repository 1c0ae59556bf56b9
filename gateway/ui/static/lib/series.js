// Series over time from turns and from recorded usage. Times are in seconds. Pure.

const HOUR = 3600;
export const RANGES = { "15m": 900, "1h": HOUR, "24h": 24 * HOUR, "7d": 7 * 24 * HOUR, "30d": 30 * 24 * HOUR };
export const SHORTEST = 60;
export const STATUSES = ["hit", "partial", "miss", "degraded", "ambiguous", "off"];
const STEPS = [1, 5, 15, 60, 300, 900, 1800, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 24 * HOUR];
const MOST_BUCKETS = 121;
const MOST_MODELS = 6;
export const OTHER = "\0other";

/** The window of an address: {from, to, isZoomed}. What is no sensible window counts as none. */
export function readWindow(range, from, to, now) {
  const [start, end] = [from, to].map(Number);
  if (from && to && start > 0 && end - start >= SHORTEST && end - start <= 366 * 24 * HOUR && start < now) return { from: start, to: end, isZoomed: true };
  return { from: now - (RANGES[range] ?? RANGES["1h"]), to: now, isZoomed: false };
}

/** The window half or twice as long, or moved by half of its length (`shift` -1 or 1); it ends now at the latest. */
export function moveWindow({ from, to }, { factor = 1, shift = 0 }, now) {
  const span = Math.min(Math.max((to - from) * factor, SHORTEST), RANGES["30d"]);
  const middle = (from + to) / 2 + (shift * span) / 2;
  const end = Math.min(Math.round(middle + span / 2), Math.ceil(now));
  return { from: Math.round(end - span), to: end };
}

/** The length of the intervals of a window; `shortest`: that of the data. */
export const stepOf = ({ from, to }, shortest = 1) => STEPS.find((step) => step >= shortest && (to - from) / step <= MOST_BUCKETS) ?? STEPS.at(-1);

/** The beginnings of all intervals that touch a window. */
export function intervalsOf({ from, to }, step) {
  const times = [];
  for (let time = Math.floor(from / step) * step; time < to; time += step) times.push(time);
  return times;
}

/** Assigns items to the intervals: a list for each; null for those that end before `since`, of which nothing is known. */
function assign(items, times, step, since) {
  const lists = times.map((time) => (time + step <= since ? null : []));
  for (const item of items) lists[Math.floor((item.time - times[0]) / step)]?.push(item);
  return lists;
}

/** A quantile of numbers: the least that as many are not above; null for none. */
export function exactQuantile(numbers, share) {
  if (!numbers.length) return null;
  const sorted = Float64Array.from(numbers).sort();
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}

/** What turns say over time: {times, step, requests (a second), shares: {status: []}, gateway: {share: []}}. */
export function turnSeries(turns, frame, since) {
  const step = stepOf(frame), times = intervalsOf(frame, step);
  const lists = assign(turns, times, step, since);
  const shareOf = (list, status) => (list?.length ? list.filter((turn) => turn.memory === status).length / list.length : null);
  const quantile = (list, share) => list && exactQuantile(list.map((turn) => turn.overhead_ms).filter((ms) => ms !== null && ms !== undefined), share);
  return {
    times,
    step,
    requests: lists.map((list, index) => list && list.length / secondsOf(times[index], step, frame)),
    shares: Object.fromEntries(STATUSES.map((status) => [status, lists.map((list) => shareOf(list, status))])),
    gateway: Object.fromEntries([0.5, 0.95, 0.99].map((share) => [share, lists.map((list) => quantile(list, share))])),
  };
}

/** The part of an interval that is over: the last one has only begun. */
const secondsOf = (time, step, { to }) => Math.max(1, Math.min(step, to - time));

/** Requests a second from recorded usage, which is by hour. */
export function usageRequests(rows, frame) {
  const step = stepOf(frame, HOUR), times = intervalsOf(frame, step);
  const lists = assign(rows.map((row) => ({ ...row, time: row.hour })), times, step, 0);
  return { times, step, requests: lists.map((list, index) => list.reduce((sum, row) => sum + row.requests, 0) / secondsOf(times[index], step, frame)) };
}

/** Cost by model over time: {times, step, models: [{name, total, values}]}, the dearest first. */
export function costSeries(items, frame, shortest, since) {
  const step = stepOf(frame, shortest), times = intervalsOf(frame, step);
  const totals = new Map();
  for (const item of items) totals.set(item.model, (totals.get(item.model) ?? 0) + item.cost);
  const ranked = [...totals].filter(([, total]) => total > 0).sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const named = new Set(ranked.length > MOST_MODELS + 1 ? ranked.slice(0, MOST_MODELS) : ranked);
  const lists = assign(items, times, step, since);
  const rest = ranked.length > named.size ? [OTHER] : [];
  const models = [...named, ...rest].map((name) => {
    const isOfModel = (item) => (name === OTHER ? !named.has(item.model) : item.model === name);
    const values = lists.map((list) => list && list.filter(isOfModel).reduce((sum, item) => sum + item.cost, 0));
    return { name, total: values.reduce((sum, value) => sum + (value ?? 0), 0), values };
  });
  return { times, step, models };
}

export const costsOfTurns = (turns) => turns.filter((turn) => turn.cost > 0).map((turn) => ({ time: turn.time, model: turn.upstream_model || turn.model, cost: turn.cost }));
export const costsOfUsage = (rows) => rows.filter((row) => row.cost > 0).map((row) => ({ time: row.hour, model: row.model, cost: row.cost }));

/** The sums of the values of each interval up to and with each series, for drawing them on top of each other. */
export function stack(lists) {
  const sums = [];
  for (const list of lists) sums.push(list.map((value, index) => (value === null ? null : value + (sums.at(-1)?.[index] ?? 0))));
  return sums;
}
