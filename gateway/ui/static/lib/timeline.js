// Validity intervals of memories: lanes, an axis, counts. Pure. Times are milliseconds since 1970.

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS = [
  ["minute", 1, MINUTE], ["minute", 5, 5 * MINUTE], ["minute", 15, 15 * MINUTE], ["hour", 1, HOUR], ["hour", 3, 3 * HOUR], ["hour", 6, 6 * HOUR], ["hour", 12, 12 * HOUR],
  ["day", 1, DAY], ["day", 2, 2 * DAY], ["day", 7, 7 * DAY], ["day", 14, 14 * DAY], ["month", 1, 30 * DAY], ["month", 3, 91 * DAY], ["month", 6, 182 * DAY],
  ["year", 1, 365 * DAY], ["year", 2, 730 * DAY], ["year", 5, 1826 * DAY], ["year", 10, 3652 * DAY], ["year", 100, 36_525 * DAY],
];

/** The shortest span that an axis shows. */
export const SHORTEST = 5 * MINUTE;

/** The periods in which a version was valid: [[begin, end]], `end` Infinity while it is. */
export function periodsOf(record) {
  const earlier = (record.earlier ?? []).map((period) => [Date.parse(period.valid_from), Date.parse(period.valid_to)]);
  return [...earlier, [Date.parse(record.valid_from), record.valid_to ? Date.parse(record.valid_to) : Infinity]];
}

/**
 * Puts versions into lanes: [{id, latest, bars: [{record, begin, end}], isContinued}], oldest first. Versions of one
 * memory share a lane; those that overlap take a further one below it (`isContinued`).
 */
export function buildLanes(records) {
  const lanes = [];
  for (const chain of linkVersions(records)) {
    const bars = chain.flatMap((record) => periodsOf(record).map(([begin, end]) => ({ record, begin, end }))).sort((a, b) => a.begin - b.begin);
    const own = [];
    for (const bar of bars) {
      let lane = own.find((other) => other.bars.at(-1).end <= bar.begin);
      if (!lane) own.push((lane = { bars: [], isContinued: own.length > 0 }));
      lane.bars.push(bar);
    }
    for (const lane of own) lanes.push({ ...lane, latest: lane.bars.at(-1).record, id: lane.bars.at(-1).record.id, begin: bars[0].begin });
  }
  const order = new Map(lanes.map((lane, index) => [lane, index]));
  return lanes.sort((a, b) => a.begin - b.begin || order.get(a) - order.get(b));
}

/** Groups records that supersede one another, or are earlier texts of another. */
function linkVersions(records) {
  const parents = new Map(records.map((record) => [record.id, record.id]));
  const root = (id) => {
    while (parents.get(id) !== id) {
      parents.set(id, parents.get(parents.get(id)));
      id = parents.get(id);
    }
    return id;
  };
  for (const record of records) {
    for (const other of [...(record.replaces ?? []), record.replaced_by, record.edit_of]) {
      if (other && parents.has(other)) parents.set(root(record.id), root(other));
    }
  }
  const chains = new Map();
  for (const record of records) {
    const key = root(record.id);
    if (!chains.has(key)) chains.set(key, []);
    chains.get(key).push(record);
  }
  return chains.values();
}

export const isValidAt = (bar, at) => bar.begin <= at && at < bar.end;

/** Marks of an axis: {unit, marks: [time]}; at most `most`. Calendar units begin where those of the local calendar do. */
export function buildTicks(from, to, most) {
  const [unit, count, length] = STEPS.find(([, , size]) => (to - from) / size <= most) ?? STEPS.at(-1);
  const marks = [];
  for (let at = floorTo(from, unit, count, length); at.getTime() <= to && marks.length <= most + 1; at = advance(at, unit, count, length)) {
    if (at.getTime() >= from) marks.push(at.getTime());
  }
  return { unit, marks };
}

function floorTo(time, unit, count, length) {
  const at = new Date(time);
  if (unit === "year") return new Date(Math.floor(at.getFullYear() / count) * count, 0, 1);
  if (unit === "month") return new Date(at.getFullYear(), Math.floor(at.getMonth() / count) * count, 1);
  const midnight = new Date(at.getFullYear(), at.getMonth(), at.getDate());
  if (unit === "day") return new Date(at.getFullYear(), at.getMonth(), at.getDate() - (Math.round(midnight.getTime() / DAY) % count));
  return new Date(midnight.getTime() + Math.floor((time - midnight.getTime()) / length) * length);
}

function advance(at, unit, count, length) {
  if (unit === "year") return new Date(at.getFullYear() + count, 0, 1);
  if (unit === "month") return new Date(at.getFullYear(), at.getMonth() + count, 1);
  if (unit === "day") return new Date(at.getFullYear(), at.getMonth(), at.getDate() + count);
  return new Date(at.getTime() + length);
}

/** How many versions begin in each of `bins` equal parts of a span. */
export function countBegins(lanes, from, to, bins) {
  const counts = new Array(bins).fill(0);
  for (const lane of lanes) {
    for (const { begin } of lane.bars) {
      if (begin >= from && begin <= to) counts[Math.min(bins - 1, Math.floor(((begin - from) / (to - from)) * bins))] += 1;
    }
  }
  return counts;
}

/** A span moved into the limits, not shorter than SHORTEST: [from, to]. */
export function limitSpan(from, to, first, last) {
  const length = Math.min(Math.max(to - from, SHORTEST), last - first);
  const begin = Math.min(Math.max((from + to - length) / 2, first), last - length);
  return [begin, begin + length];
}
