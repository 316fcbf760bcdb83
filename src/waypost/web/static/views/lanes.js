// Where the bars of a timeline go: lanes by agent, rows within a lane so that nothing overlaps, and time without the
// long stretches in which nothing was done. Numbers only; nothing here draws.

import { stepStatus } from "../status.js";

const FOLDED_SHARE = 0.12; // a stretch without work that is longer than this share of the work is folded
const FOLDED_TO = 0.03; // to this share of it

/** `lanes`: [{agent, rows, bars}], a bar being {step, status, start, end, row, isOpen}; `waiting`: steps not begun.
 *
 * Times are milliseconds. What still runs is open, and ends `now`; what was interrupted ends when the workflow was
 * last `heard` of. */
export function layOut(steps, now, heard) {
  const byAgent = new Map();
  const waiting = [];
  for (const step of steps) {
    if (!step.start_time) {
      waiting.push(step);
      continue;
    }
    const agent = step.agent_id ?? "";
    if (!byAgent.has(agent)) byAgent.set(agent, []);
    byAgent.get(agent).push(barOf(step, now, heard));
  }
  const lanes = [...byAgent].map(([agent, bars]) => ({ agent, bars, rows: pack(bars) }));
  lanes.sort((a, b) => a.bars[0].start - b.bars[0].start);
  return { lanes, waiting };
}

function barOf(step, now, heard) {
  const status = stepStatus(step);
  const start = Date.parse(step.start_time);
  const isOpen = status === "running";
  const end = isOpen
    ? now
    : step.end_time && status !== "interrupted"
      ? Date.parse(step.end_time)
      : Math.max(start, heard);
  return { step, status, start, end: Math.max(start, end), isOpen, row: 0 };
}

/** Give each bar the first row that is free when it starts; returns how many there are. */
function pack(bars) {
  bars.sort((a, b) => a.start - b.start || a.end - b.end);
  const ends = [];
  for (const bar of bars) {
    let row = ends.findIndex((end) => end <= bar.start);
    if (row < 0) row = ends.length;
    ends[row] = bar.isOpen ? Infinity : bar.end;
    bar.row = row;
  }
  return ends.length;
}

/** A scale from time to a length in which long stretches without work are folded.
 *
 * `total` is the whole length, `at(time)` a place in it, `when(place)` the time there, `folds` are [{at, ms}]. */
export function foldTime(bars) {
  const spans = joined(bars);
  if (!spans.length) return { total: 1, at: () => 0, when: () => 0, folds: [] };
  const worked = spans.reduce((sum, [start, end]) => sum + end - start, 0) || 1;
  const pieces = [];
  const folds = [];
  let length = 0;
  let before = null;
  for (const [start, end] of spans) {
    if (before !== null) {
      const gap = start - before;
      const isFolded = gap > worked * FOLDED_SHARE && gap > 1000;
      const shown = isFolded ? worked * FOLDED_TO : gap;
      pieces.push([before, start, length, shown]);
      if (isFolded) folds.push({ at: length + shown / 2, ms: gap });
      length += shown;
    }
    pieces.push([start, end, length, end - start]);
    length += end - start;
    before = end;
  }
  return { total: length || 1, at: (time) => place(pieces, time), when: (at) => time(pieces, at), folds };
}

function joined(bars) {
  const sorted = [...bars].sort((a, b) => a.start - b.start);
  const spans = [];
  for (const { start, end } of sorted) {
    const last = spans.at(-1);
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else spans.push([start, end]);
  }
  return spans;
}

function place(pieces, time) {
  let low = 0;
  let high = pieces.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (pieces[middle][0] <= time) low = middle;
    else high = middle - 1;
  }
  const [start, end, at, shown] = pieces[low];
  // beyond the last piece time goes on as it is: what runs grows
  if (low === pieces.length - 1 && time > end) return at + shown + (time - end);
  return end > start ? at + (shown * Math.min(Math.max(time - start, 0), end - start)) / (end - start) : at;
}

function time(pieces, at) {
  const [start, end, place_, shown] = pieces.findLast((piece) => piece[2] <= at) ?? pieces[0];
  return shown > 0 && at <= place_ + shown
    ? start + ((at - place_) * (end - start)) / shown
    : end + at - place_ - shown;
}

const STEPS_OF_TIME = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 10e3, 15e3, 30e3, 60e3, 120e3, 300e3, 600e3, 900e3, 1800e3, 3600e3,
  7200e3, 10800e3, 21600e3, 43200e3, 86400e3, 172800e3, 604800e3, 2592000e3,
];

/** Round places between `from` and `to`, at most about `most` of them. */
export function ticks(from, to, most) {
  const step = STEPS_OF_TIME.find((each) => (to - from) / each <= most) ?? (to - from || 1);
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= to && found.length < 100; at += step) found.push(at);
  return found;
}
