// The difference of two texts, word by word. Pure.

const WORD = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]|[\p{L}\p{N}\p{M}_]+|\s+|[^]/gu;
const MOST_CELLS = 1_000_000; // of the table of common words; longer texts are shown as replaced

const LEAST_COMMON = 0.3; // share of the characters; texts with less in common are shown as replaced

/** Splits two texts into pieces: [{kind: "same" | "removed" | "added", text}]; neighbours differ in kind. */
export function diffWords(before, after) {
  const pieces = joinChanges(diffAll(before, after));
  const common = pieces.reduce((sum, { kind, text }) => (kind === "same" ? sum + text.length : sum), 0);
  if (common >= LEAST_COMMON * Math.max(before.length, after.length)) return pieces;
  return [{ kind: "removed", text: before }, { kind: "added", text: after }].filter((piece) => piece.text);
}

/** Joins changes that only spaces and punctuation separate. */
function joinChanges(pieces) {
  const joined = [];
  let removed = "", added = "";
  const flush = () => {
    add(joined, "removed", removed);
    add(joined, "added", added);
    removed = added = "";
  };
  pieces.forEach(({ kind, text }, index) => {
    const isWithin = index + 1 < pieces.length && (removed || added);
    if (kind === "same" && isWithin && !/[\p{L}\p{N}]/u.test(text)) {
      removed += text;
      added += text;
    } else if (kind === "same") {
      flush();
      add(joined, "same", text);
    } else if (kind === "removed") removed += text;
    else added += text;
  });
  flush();
  return joined;
}

function diffAll(before, after) {
  const old = before.match(WORD) ?? [], young = after.match(WORD) ?? [];
  let start = 0;
  while (start < old.length && start < young.length && old[start] === young[start]) start += 1;
  let end = 0;
  while (end < old.length - start && end < young.length - start && old.at(-1 - end) === young.at(-1 - end)) end += 1;
  const pieces = [];
  add(pieces, "same", old.slice(0, start).join(""));
  diffMiddle(pieces, old.slice(start, old.length - end), young.slice(start, young.length - end));
  add(pieces, "same", old.slice(old.length - end).join(""));
  return pieces;
}

function add(pieces, kind, text) {
  if (!text) return;
  if (pieces.at(-1)?.kind === kind) pieces.at(-1).text += text;
  else pieces.push({ kind, text });
}

function diffMiddle(pieces, old, young) {
  if (old.length * young.length > MOST_CELLS) {
    add(pieces, "removed", old.join(""));
    add(pieces, "added", young.join(""));
    return;
  }
  const width = young.length + 1;
  const common = countCommon(old, young, width);
  let removed = "", added = "";
  const flush = () => {
    add(pieces, "removed", removed);
    add(pieces, "added", added);
    removed = added = "";
  };
  let i = 0, j = 0;
  while (i < old.length || j < young.length) {
    if (i < old.length && j < young.length && old[i] === young[j]) {
      flush();
      add(pieces, "same", old[i]);
      i += 1;
      j += 1;
    } else if (j >= young.length || (i < old.length && common[(i + 1) * width + j] >= common[i * width + j + 1])) {
      removed += old[i++];
    } else {
      added += young[j++];
    }
  }
  flush();
}

/** The length of the longest common sequence of each pair of endings, as a table by rows. */
function countCommon(old, young, width) {
  const common = new Uint32Array((old.length + 1) * width);
  for (let i = old.length - 1; i >= 0; i -= 1) {
    for (let j = young.length - 1; j >= 0; j -= 1) {
      common[i * width + j] = old[i] === young[j] ? common[(i + 1) * width + j + 1] + 1 : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
    }
  }
  return common;
}
