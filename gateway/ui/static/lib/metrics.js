// Metrics in Prometheus' text format, and quantiles of their histograms. Pure.

const LINE = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})?[ \t]+(\S+)/;
const LABEL = /([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"/g;

const readValue = (text) => (text === "+Inf" ? Infinity : text === "-Inf" ? -Infinity : Number(text));

function readLabels(text) {
  const labels = {};
  for (const [, name, value] of text.matchAll(LABEL)) labels[name] = value.replace(/\\(.)/g, (whole, character) => (character === "n" ? "\n" : character));
  return labels;
}

/** All samples by the metric's name: {name: [{labels, value}]}. Lines that cannot be read are left out. */
export function parseMetrics(text) {
  const metrics = {};
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : LINE.exec(line);
    if (!match) continue;
    const value = readValue(match[3]);
    if (!Number.isNaN(value)) (metrics[match[1]] ??= []).push({ labels: readLabels(match[2] ?? ""), value });
  }
  return metrics;
}

const matches = (labels, wanted) => Object.entries(wanted).every(([name, value]) => labels[name] === value);

/** The sum of a metric's samples that have these labels; null without any. */
export function sumOf(metrics, name, wanted = {}) {
  const samples = (metrics[name] ?? []).filter((sample) => matches(sample.labels, wanted));
  return samples.length ? samples.reduce((sum, sample) => sum + sample.value, 0) : null;
}

/** The values of a label, in their order. */
export const labelValues = (metrics, name, label) => [...new Set((metrics[name] ?? []).map((sample) => sample.labels[label]).filter((value) => value !== undefined))];

/** A histogram over all samples that have these labels: {count, buckets: [[upper bound, cumulative count], …]}. */
export function readHistogram(metrics, name, wanted = {}) {
  const sums = new Map();
  for (const { labels, value } of metrics[`${name}_bucket`] ?? []) {
    if (!matches(labels, wanted)) continue;
    const bound = readValue(labels.le);
    sums.set(bound, (sums.get(bound) ?? 0) + value);
  }
  const buckets = [...sums].sort((a, b) => a[0] - b[0]);
  return { count: buckets.at(-1)?.[1] ?? 0, buckets };
}

/**
 * A quantile of a histogram, with values spread evenly within a bucket, as in Prometheus; null if it is empty. Above
 * the last bound nothing more is known than that bound.
 */
export function quantileOf({ count, buckets }, share) {
  if (!count) return null;
  const rank = share * count;
  let lower = 0, below = 0;
  for (const [bound, cumulative] of buckets) {
    if (cumulative >= rank && cumulative > below) {
      return bound === Infinity ? lower : lower + ((bound - lower) * (rank - below)) / (cumulative - below);
    }
    lower = bound;
    below = cumulative;
  }
  return lower;
}
