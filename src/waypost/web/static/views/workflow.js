// One workflow: how it stands, now or as it was at a checkpoint, and its parts by tabs.

import { file, get } from "../api.js";
import { announce, say } from "../announce.js";
import { h } from "../dom.js";
import { visible } from "../format.js";
import { keepFresh, Loaded, lookAgain, Pages } from "../loading.js";
import { copyText, loadedPart, name, problem, waiting } from "../parts.js";
import { changed, go } from "../router.js";
import { word } from "../status.js";
import { drawAgents } from "./agents.js";
import { drawCheckpoints } from "./checkpoints.js";
import { drawContext } from "./context.js";
import { makeDiff } from "./diff.js";
import { makeGraph } from "./graph.js";
import { drawHeader } from "./header.js";
import { drawHistory } from "./history.js";
import { makeOutputs } from "./outputs.js";
import { drawStep } from "./step.js";
import { drawSteps } from "./steps.js";
import { makeTimeline } from "./timeline.js";
import { drawTravel, neighbour } from "./travel.js";
import { comingFrom } from "./workflows.js";

const TABS = [
  ["timeline", "Timeline"],
  ["graph", "Graph"],
  ["steps", "Steps"],
  ["agents", "Agents"],
  ["outputs", "Outputs"],
  ["checkpoints", "Checkpoints"],
  ["history", "History"],
  ["context", "Context"],
];
const MOST_STEPS = 10_000;

/** What is known of a workflow, and what the tabs may ask of it. */
class Page {
  constructor({ query, redraw, store }) {
    Object.assign(this, { redraw, store, id: query.get("id") ?? "" });
    this.read(query);
    const at = () => this.at || null;
    this.state = new Loaded(
      (signal) => get("/api/workflow", { id: this.id, at: at() }, signal),
      () => this.changed(),
    );
    this.steps = new Loaded((signal, old) => allSteps(this.id, at(), signal).then((found) => same(old, found)), redraw);
    this.checkpoints = new Pages(
      (signal, cursor, limit) => get("/api/checkpoints", { workflow: this.id, cursor, limit }, signal),
      (item) => item.checkpoint_id,
      redraw,
      200,
    );
    this.commits = new Pages(
      (signal, cursor, limit) => get("/api/history", { workflow: this.id, cursor, limit }, signal),
      (item) => String(item.version),
      redraw,
    );
    this.timeline = makeTimeline();
    this.graph = makeGraph();
    this.outputs = makeOutputs(this);
    this.diff = makeDiff(this);
    this.parts = [this.state, this.steps, this.checkpoints];
    const mine = (commit) => commit.workflow === this.id;
    this.stops = [...this.parts, this.commits].map((part) =>
      keepFresh({ soon: () => this.wants(part) && part.soon() }, mine),
    );
    for (const part of [this.state, this.steps]) {
      this.stops.push(lookAgain({ soon: () => this.wants(part) && part.soon() }, 15_000));
    }
    for (const part of this.parts) part.load();
    this.wanted();
  }

  /** Whether a part may change: what is past does not. */
  wants(part) {
    if (part === this.commits) return this.commits.data !== null;
    return part === this.checkpoints || !this.at;
  }

  read(query) {
    this.tab = TABS.some(([name]) => name === query.get("tab")) ? query.get("tab") : "timeline";
    this.step = query.get("step") ?? "";
    this.at = query.get("at") ?? "";
    this.compare = query.get("compare") ?? "";
  }

  update(query) {
    const before = this.at;
    this.read(query);
    if (before !== this.at) {
      this.state.restart({ keep: true });
      this.steps.restart({ keep: true });
    }
    this.wanted();
  }

  /** Load what only this tab needs. */
  wanted() {
    if (this.tab === "history" && !this.commits.data) this.commits.load();
    this.outputs.update();
    this.diff.update();
  }

  changed() {
    const condition = this.at ? null : this.state.data?.condition;
    if (this.heard && condition && condition !== this.heard) say(`${this.id} is now ${word(condition)}`);
    this.heard = condition;
    this.redraw();
  }

  close() {
    this.stops.forEach((stop) => stop());
    [...this.parts, this.commits, this.outputs, this.diff, this.timeline, this.graph].forEach((part) => part.close());
  }

  /** On a narrow page, bring the tab that is shown into the row of tabs, once. */
  showTab() {
    const current = document.querySelector(".tabs [aria-current]");
    if (!current || this.tabShown === this.tab) return;
    this.tabShown = this.tab;
    const row = current.parentElement;
    row.scrollLeft = current.offsetLeft - row.offsetLeft - (row.clientWidth - current.clientWidth) / 2;
  }

  /** Show a step beside what is shown, or close it. */
  choose(step) {
    go(changed({ step: step === this.step ? null : step }), { replace: true });
  }

  async export() {
    try {
      const blob = await file("/api/export", { workflow: this.id });
      save(blob, `${this.id.replace(/[^\w.-]+/g, "_").slice(0, 100)}.html`);
      announce("Exported as one page");
    } catch (error) {
      announce(`Not exported: ${error.message}`);
    }
  }
}

/** The steps, in as many answers as they need. */
async function allSteps(workflow, at, signal) {
  const found = await get("/api/steps", { workflow, at, limit: MOST_STEPS }, signal);
  while (found.items.length < Math.min(found.total, MOST_STEPS)) {
    const next = await get("/api/steps", { workflow, at, limit: MOST_STEPS, offset: found.items.length }, signal);
    if (!next.items.length) break;
    found.items.push(...next.items);
  }
  // whether a process is there now says nothing of what it did then
  if (at) for (const step of found.items) if (step.owner) step.owner.liveness = "then";
  return found;
}

/** The old answer, where the new one says the same: so nobody draws it again. */
const same = (old, fresh) => (old && JSON.stringify(old) === JSON.stringify(fresh) ? old : fresh);

/** Save a blob as a file of that name. */
function save(blob, filename) {
  const link = h("a", { href: URL.createObjectURL(blob), download: filename });
  document.body.appendChild(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export function openWorkflow(context) {
  const page = new Page(context);
  comingFrom(page.id);
  const step = (by) => () => {
    const next = neighbour(page.checkpoints.data?.items ?? [], page.at, by);
    if (next !== null) go(changed({ at: next }));
  };
  return {
    get title() {
      const { data } = page.state;
      const far = data?.condition === "running" && !page.at ? `${Math.floor(data.progress)} % · ` : "";
      return `${far}${visible(data?.name || page.id)}`;
    },
    keys: {
      "[": step(1),
      "]": step(-1),
      y: () => copyText(page.id, "id"),
      Escape: () => goBack(page),
      ...zoomKeys(page),
    },
    update: (query) => page.update(query),
    drawn() {
      page.showTab();
      page.timeline.tip.check();
      page.graph.tip.check();
      if (page.tab === "checkpoints") page.diff.reveal();
    },
    close: () => page.close(),
    draw: () => draw(page),
  };
}

function zoomKeys(page) {
  const zoom = (factor) => () => page[page.tab]?.zoom?.(factor);
  return { "+": zoom(0.7), "=": zoom(0.7), "-": zoom(1 / 0.7), 0: zoom(null) };
}

function goBack(page) {
  if (page.step && page.tab !== "outputs") page.choose(page.step);
  else if (page.compare) go(changed({ compare: null }));
  else if (page.at) go(changed({ at: null }));
  else go("/");
}

function draw(page) {
  const { state } = page;
  return h(
    "article",
    { class: "workflow", "aria-labelledby": "title", "data-view": "workflow", "data-workflow": page.id },
    !state.data && h("h1", { id: "title" }, name(page.id)),
    state.error && problem(state.error, () => state.load()),
    !state.data && page.at && h("p", {}, h("a", { href: changed({ at: null }) }, "Back to now")),
    state.data ? drawHeader(page, state.data) : !state.error && waiting("Loading the workflow"),
    state.data && drawTravel(page),
    state.data && drawTabs(page),
    state.data && drawPanel(page),
    !state.data && state.error && page.checkpoints.data?.items.length > 0 && drawLeft(page),
  );
}

/** What there is of a workflow that cannot be read as it is: the checkpoints, one of which brings it back. */
function drawLeft(page) {
  return h(
    "section",
    { "data-key": "left", "aria-labelledby": "left" },
    h("h2", { id: "left" }, "Its checkpoints"),
    drawCheckpoints(page),
  );
}

function drawTabs(page) {
  const numbers = { checkpoints: page.state.data.checkpoint_count, steps: page.steps.data?.total };
  return h(
    "nav",
    { class: "tabs", "aria-label": "Parts of the workflow" },
    TABS.map(([tab, label]) =>
      h(
        "a",
        { href: tabAddress(tab), "data-key": tab, "data-tab": tab, "aria-current": tab === page.tab ? "page" : null },
        label,
        numbers[tab] > 0 && h("span", { class: "number-tag" }, String(numbers[tab])),
      ),
    ),
  );
}

const tabAddress = (tab) => changed({ tab: tab === "timeline" ? null : tab, compare: null });

function drawPanel(page) {
  const step = page.step && page.tab !== "outputs" && page.steps.data?.items.find((each) => each.id === page.step);
  return h(
    "div",
    { class: step ? "panel has-side" : "panel", "data-panel": page.tab },
    h(
      "section",
      { class: "panel-main", "data-key": page.tab, "aria-labelledby": "panel-title" },
      h("h2", { id: "panel-title", class: "hidden" }, TABS.find(([tab]) => tab === page.tab)[1]),
      PANELS[page.tab](page),
    ),
    step && drawStep(page, step),
  );
}

const withSteps = (draw_) => (page) => loadedPart(page.steps, (steps) => draw_(page, steps.items), "Loading the steps");

const PANELS = {
  timeline: withSteps((page, items) => page.timeline.draw(page, items)),
  graph: withSteps((page, items) => page.graph.draw(page, items)),
  steps: withSteps(drawSteps),
  agents: withSteps(drawAgents),
  outputs: withSteps((page, items) => page.outputs.draw(items)),
  checkpoints: (page) => [
    page.diff.draw(),
    loadedPart(page.checkpoints, () => drawCheckpoints(page), "Looking for checkpoints"),
  ],
  history: (page) => loadedPart(page.commits, () => drawHistory(page), "Reading the history"),
  context: (page) => drawContext(page),
};
