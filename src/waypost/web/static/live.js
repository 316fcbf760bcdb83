// One stream of what is committed, read by fetch, since that can send the token; found again when it is lost.
//
// While the page is hidden nothing is read; what happened meanwhile is asked for when it is seen again, from the
// cursor of the last event on.

import { stream } from "./api.js";

const SILENCE_MS = 40_000; // the server says something every 15 s
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;

const listeners = new Set();
const watchers = new Set();
let cursor = null;
let state = "off";
let wait = FIRST_WAIT_MS;
let running = null;
let timer = null;

/** Call `listener` with each commit, and with null when anything may have been missed. Returns how to stop. */
export function onCommit(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Call `watcher` with "live", "lost" or "off" whenever that changes. */
export function onState(watcher) {
  watchers.add(watcher);
  watcher(state);
}

/** Begin to follow, and again after a token was given. */
export function start() {
  stop("lost");
  wait = FIRST_WAIT_MS;
  connect();
}

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") stop("off");
  else if (state !== "live") start();
});

function stop(as) {
  clearTimeout(timer);
  running?.abort();
  running = null;
  become(as);
}

function become(next) {
  if (next === state) return;
  state = next;
  for (const watcher of watchers) watcher(state);
}

async function connect() {
  const mine = new AbortController();
  running = mine;
  try {
    const response = await stream("/api/events", { since: cursor }, mine.signal);
    await read(response.body.getReader(), mine);
  } catch (error) {
    if (running !== mine) return; // what was said to an earlier token, or cursor, is not about this one
    if (error.status === 400) cursor = null; // the cursor is of another store, or too old: begin anew
    if (error.status === 401) return stop("off"); // asked for elsewhere
  }
  if (running !== mine) return;
  become("lost");
  timer = setTimeout(connect, wait);
  wait = Math.min(wait * 2, LONGEST_WAIT_MS);
}

async function read(reader, mine) {
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const silence = setTimeout(() => mine.abort(), SILENCE_MS);
    const { done, value } = await reader.read().finally(() => clearTimeout(silence));
    if (done || running !== mine) return;
    const blocks = (rest + decoder.decode(value, { stream: true })).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    blocks.forEach(take);
  }
}

function take(block) {
  const event = parse(block);
  if (event.id !== null) cursor = event.id;
  if (event.type === "hello") {
    wait = FIRST_WAIT_MS;
    become("live");
    if (!JSON.parse(event.data || "{}").resumed) tell(null);
  } else if (event.type === "commit") {
    tell(JSON.parse(event.data));
  }
}

/** One event of a stream: its type, its data and its id, null where it has none. */
function parse(block) {
  const event = { type: "", data: "", id: null };
  for (const line of block.split(/\r?\n/)) {
    const colon = line.indexOf(":");
    if (colon === 0) continue; // a comment, which keeps the stream alive
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") event.type = value;
    else if (name === "data") event.data += (event.data ? "\n" : "") + value;
    else if (name === "id") event.id = value;
  }
  return event;
}

function tell(commit) {
  for (const listener of listeners) listener(commit);
}
