// The page: one view at a time, by the address; what stands around it; and what keeps both true.

import { get } from "./api.js";
import { say } from "./announce.js";
import { h, settle, show } from "./dom.js";
import { drawFrame } from "./frame.js";
import { startKeys } from "./keys.js";
import { onState, start } from "./live.js";
import { Loaded, lookAgain } from "./loading.js";
import { askForToken } from "./lock.js";
import { empty, keepTime, problem } from "./parts.js";
import { follow, here } from "./router.js";
import { startTheme } from "./theme.js";
import { takeFromAddress } from "./token.js";
import { openPerformance } from "./views/performance.js";
import { openSession } from "./views/session.js";
import { openSessions } from "./views/sessions.js";
import { openStorage } from "./views/storage.js";
import { openWorkflow } from "./views/workflow.js";
import { openWorkflows } from "./views/workflows.js";

// A view is opened with {query, redraw, store}; the second function says of a query which one it is. It has a title,
// draws itself, hears of another query in `update`, and is closed; it may have `keys`, and may wait for being `drawn`.
const VIEWS = {
  "/": [openWorkflows, () => ""],
  "/workflow": [openWorkflow, (query) => query.get("id") ?? ""],
  "/sessions": [openSessions, () => ""],
  "/session": [openSession, (query) => query.get("id") ?? ""],
  "/storage": [openStorage, () => ""],
  "/performance": [openPerformance, () => ""],
};

const main = document.getElementById("main");
const frame = document.getElementById("frame");
let view = null;
let identity = null;
let streamState = "off";
let isWaiting = false;
let isNew = false; // whether the view has not been drawn yet

const store = new Loaded(
  (signal) => get("/api/store", {}, signal),
  () => redraw(),
);

/** Draw soon, and only once however often it is asked for. */
function redraw() {
  if (isWaiting) return;
  isWaiting = true;
  setTimeout(draw, 0);
}

function draw() {
  isWaiting = false;
  const { path } = here();
  drawFrame(frame, path, store.data, streamState, redraw);
  try {
    show(main, problemsOfStore(), view.draw());
    settle(main);
    if (isNew) main.focus({ preventScroll: true });
    isNew = false;
    view.drawn?.();
  } catch (error) {
    show(main, problem(error, redraw));
  }
  document.title = view.title ? `${view.title} · Waypost` : "Waypost";
}

function problemsOfStore() {
  const told = store.data?.problems ?? [];
  return (
    told.length > 0 &&
    h(
      "ul",
      { class: "problem", role: "alert" },
      told.map((each) => h("li", {}, each)),
    )
  );
}

/** Show what the address says. */
function arrive() {
  const { path, query } = here();
  const [open, identify] = VIEWS[path] ?? [openNothing, () => ""];
  const next = `${path} ${identify(query)}`;
  if (view && next === identity) {
    view.update(query);
  } else {
    view?.close();
    identity = next;
    isNew = view !== null;
    view = open({ query, redraw, store });
    scrollTo(0, 0);
    say(view.title);
  }
  redraw();
}

function openNothing() {
  return {
    title: "Not found",
    draw: () => empty("There is no such page", h("a", { href: "/" }, "All workflows")),
    update() {},
    close() {},
  };
}

/** Begin anew after a token was given: everything that was refused is asked for again. */
function unlocked() {
  store.load();
  start();
  view?.close();
  view = null;
  arrive();
}

takeFromAddress();
startTheme(redraw);
keepTime();
follow(arrive);
startKeys(() => view, redraw);
onState((state) => {
  streamState = state;
  if (view) redraw();
});
window.addEventListener("waypost:locked", () => askForToken(unlocked));
window.addEventListener("hashchange", () => {
  if (takeFromAddress()) unlocked();
});
arrive();
store.load();
lookAgain(store, 15_000);
start();
