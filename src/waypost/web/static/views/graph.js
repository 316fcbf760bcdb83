// What needs what: the steps in layers from left to right, each to the right of all that it needs.

import { h, s, settle, show } from "../dom.js";
import { count, cut, plural, visible } from "../format.js";
import { measured } from "../measured.js";
import { empty, name, zoomButtons } from "../parts.js";
import { kind, mark, markPath, STEP_STATUSES, stepStatus, word } from "../status.js";
import { gather, isMany, layers } from "./layers.js";
import { Tip } from "./tip.js";
import { drawLegend, tipOf } from "./timeline.js";

const WIDE = 176;
const HIGH = 36;
const ACROSS = 64;
const DOWN = 14;
const MARGIN = 24;
const SMALLEST = 0.62; // a graph that would have to be smaller than that is not fitted, but begins at its left

export const makeGraph = () => new Graph();

class Graph {
  constructor() {
    this.isGrouped = true;
    this.expanded = new Set();
    this.box = null; // the part that is shown: {x, y, width, height}; null: to fit
    this.tip = new Tip();
    this.focus = null;
    this.observer = new ResizeObserver(() => this.host?.isConnected && this.paint(this.host));
  }

  close() {
    this.observer.disconnect();
    this.tip.close();
  }

  draw(page, items) {
    if (!items.length) return empty("This workflow has no steps");
    this.page = page;
    this.items = items;
    return [
      h(
        "div",
        { class: "toolbar", "data-key": "toolbar" },
        drawLegend(items),
        isMany(items) &&
          h(
            "label",
            { class: "check" },
            h("input", {
              type: "checkbox",
              checked: this.isGrouped,
              name: "grouped",
              on: { change: (event) => this.group(event.target.checked) },
            }),
            " Put together what is alike",
          ),
        zoomButtons((factor) => this.zoom(factor)),
      ),
      h("div", { class: "graph", "data-key": "chart", own: ["graph", (host) => this.paint(host)] }),
    ];
  }

  group(isGrouped) {
    this.isGrouped = isGrouped;
    this.expanded.clear();
    this.box = null;
    this.page.redraw();
    this.drawn = null;
  }

  paint(host) {
    if (host !== this.host) {
      this.host = host;
      this.drawn = null;
      this.observer.disconnect();
      this.observer.observe(host);
    }
    const wanted = [
      this.items,
      host.clientWidth,
      host.clientHeight,
      this.page.step,
      this.expanded.size,
      this.isGrouped,
    ];
    if (!host.clientWidth || (this.drawn && wanted.every((each, index) => each === this.drawn[index]))) return;
    this.drawn = wanted;
    measured("draw graph", () => show(host, this.picture()));
    const scale = Math.min(1, Math.max(host.clientWidth / this.whole.width, SMALLEST));
    host.style.setProperty("--needed", `${Math.ceil(this.whole.height * scale)}px`);
    this.drawn[2] = host.clientHeight; // which the line before may have changed
    this.look();
    this.bringChosen();
    settle(host);
  }

  picture() {
    const nodes = gather(this.items, this.isGrouped, this.expanded);
    const found = layers(nodes);
    const most = Math.max(...found.map((layer) => layer.length));
    for (const layer of found) {
      const top = ((most - layer.length) * (HIGH + DOWN)) / 2;
      for (const node of layer) {
        node.x = MARGIN + node.layer * (WIDE + ACROSS);
        node.y = MARGIN + top + node.place * (HIGH + DOWN);
      }
    }
    this.nodes = new Map(nodes.map((node) => [node.id, node]));
    this.whole = {
      x: 0,
      y: 0,
      width: 2 * MARGIN + found.length * (WIDE + ACROSS) - ACROSS,
      height: 2 * MARGIN + most * (HIGH + DOWN) - DOWN,
    };
    if (!this.nodes.has(this.focus)) this.focus = nodes[0].id;
    return s(
      "svg",
      {
        class: "chart",
        role: "group",
        on: this.gestures(),
        "aria-label": `Graph of ${plural(nodes.length, "node")} in ${found.length} layers; arrow keys go along it`,
      },
      s(
        "g",
        { class: "edges", "data-key": "edges", "aria-hidden": "true" },
        nodes.map((node) => this.edges(node)),
      ),
      s(
        "g",
        { "data-key": "nodes" },
        nodes.map((node) => this.node(node)),
      ),
    );
  }

  edges(node) {
    return node.needs.map((id) => {
      const from = this.nodes.get(id);
      const [x1, y1, x2, y2] = [from.x + WIDE, from.y + HIGH / 2, node.x, node.y + HIGH / 2];
      const bend = Math.max(24, (x2 - x1) / 2);
      return s("path", {
        class: "edge",
        "data-key": `${id} > ${node.id}`,
        "data-from": id,
        "data-to": node.id,
        d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2 - 5} ${y2}m-4 -3.5l5 3.5l-5 3.5`,
      });
    });
  }

  node(node) {
    const numbers = {};
    for (const step of node.steps) numbers[stepStatus(step)] = (numbers[stepStatus(step)] ?? 0) + 1;
    const status = node.kind === "step" ? stepStatus(node.steps[0]) : overall(numbers);
    const isChosen = node.steps.some((step) => step.id === this.page.step);
    const label = node.kind === "step" ? visible(node.steps[0].name || node.id) : groupName(node);
    const told = node.kind === "step" ? `${label}: ${word(status)}` : `${label}: ${words(numbers)}; opens`;
    return s(
      "g",
      {
        class: `node is-${kind(status)}${node.kind === "step" ? "" : " is-group"}${isChosen ? " is-chosen" : ""}`,
        "data-key": node.id,
        "data-node": node.id,
        "data-step": node.kind === "step" ? node.id : null,
        "data-group": node.kind === "step" ? null : node.steps.length,
        "data-status": status,
        role: "button",
        tabindex: node.id === this.focus ? 0 : -1,
        "aria-label": told,
        transform: `translate(${node.x} ${node.y})`,
      },
      node.kind !== "step" && s("rect", { class: "node-behind", x: 4, y: 4, width: WIDE, height: HIGH, rx: 7 }),
      s("rect", { class: "node-fill", width: WIDE, height: HIGH, rx: 7 }),
      s("path", { class: "node-mark", d: markPath(status), transform: "translate(9 10)" }),
      s("text", { class: "node-text", x: 31, y: node.kind === "step" ? 22.5 : 17 }, cut(label, 20)),
      node.kind !== "step" && shares(numbers, node.steps.length),
    );
  }

  // --- what is shown of it ---

  look() {
    const svg = this.host.querySelector("svg");
    const { clientWidth: width, clientHeight: height } = this.host;
    const box = this.box ?? this.fitted(width, height);
    svg.setAttribute("viewBox", `${box.x} ${box.y} ${box.width} ${box.height}`);
    svg.setAttribute("width", width);
    svg.setAttribute("height", height);
    this.seen = box;
  }

  fitted(width, height) {
    const scale = Math.min(1, Math.max(Math.min(width / this.whole.width, height / this.whole.height), SMALLEST));
    const shown = { width: width / scale, height: height / scale };
    const x = shown.width >= this.whole.width ? (this.whole.width - shown.width) / 2 : 0;
    return { x, y: (this.whole.height - shown.height) / 2, ...shown };
  }

  /** Show more or less of it, about the middle or `about` (shares of what is shown); null: all of it. */
  zoom(factor, about = [0.5, 0.5]) {
    if (factor === null) this.box = null;
    else {
      const { x, y, width, height } = this.seen;
      const by = Math.min(
        Math.max(factor, 80 / width),
        (4 * Math.max(this.whole.width, this.host.clientWidth)) / width,
      );
      this.box = {
        x: x + width * (1 - by) * about[0],
        y: y + height * (1 - by) * about[1],
        width: width * by,
        height: height * by,
      };
    }
    if (this.host) this.look();
  }

  gestures() {
    const nodeOf = (event) => event.target.closest("[data-node]");
    const choose = (event) => {
      const id = nodeOf(event)?.dataset.node;
      if (id === undefined || this.dragged) return;
      const node = this.nodes.get(id);
      this.tip.hide();
      if (node.kind === "step") this.page.choose(id);
      else this.open(node);
    };
    const tell = (event) => this.tell(nodeOf(event));
    return {
      click: choose,
      pointerover: tell,
      pointerleave: () => this.tell(null),
      focusin: tell,
      focusout: () => this.tell(null),
      wheel: (event) => this.wheel(event),
      pointerdown: (event) => this.drag(event),
      keydown: (event) => this.key(event, choose),
    };
  }

  /** Show the steps of a group one by one. */
  open(node) {
    this.expanded.add(node.id);
    this.page.redraw();
  }

  tell(shape) {
    const id = shape?.dataset.node;
    for (const edge of this.host.querySelectorAll(".edge.is-near")) edge.classList.remove("is-near");
    if (id === undefined) return this.tip.hide();
    for (const edge of this.host.querySelectorAll(".edge")) {
      if (edge.dataset.from === id || edge.dataset.to === id) edge.classList.add("is-near");
    }
    const node = this.nodes.get(id);
    this.tip.show(shape, node.kind === "step" ? tipOf(node.steps[0]) : tipOfGroup(node));
  }

  wheel(event) {
    const { x, y, width, height } = this.seen;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      const box = event.currentTarget.getBoundingClientRect();
      this.zoom(event.deltaY > 0 ? 1.12 : 1 / 1.12, [
        (event.clientX - box.left) / box.width,
        (event.clientY - box.top) / box.height,
      ]);
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      this.box = { x: x + ((event.deltaX || event.deltaY) * width) / this.host.clientWidth, y, width, height };
      this.look();
    }
  }

  drag(event) {
    this.dragged = false;
    if (event.button !== 0) return;
    const from = { ...this.seen };
    const scale = from.width / this.host.clientWidth;
    const move = (moved) => {
      const [dx, dy] = [moved.clientX - event.clientX, moved.clientY - event.clientY];
      if (Math.hypot(dx, dy) > 4) this.dragged = true;
      if (!this.dragged) return;
      this.box = { ...from, x: from.x - dx * scale, y: from.y - dy * scale };
      this.look();
    };
    const end = () => {
      window.removeEventListener("pointermove", move);
      window.removeEventListener("pointerup", end);
    };
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", end);
  }

  key(event, choose) {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.dragged = false;
      return choose(event);
    }
    const node = this.nodes.get(event.target.closest?.("[data-node]")?.dataset.node);
    const next = node && this.nextTo(event.key, node);
    if (!next) return;
    event.preventDefault();
    this.focus = next.id;
    for (const shape of this.host.querySelectorAll("[data-node]"))
      shape.setAttribute("tabindex", shape.dataset.node === next.id ? 0 : -1);
    this.bring(next);
    this.host.querySelector(`[data-node="${CSS.escape(next.id)}"]`).focus({ preventScroll: true });
  }

  nextTo(key, node) {
    if (key === "ArrowLeft") return this.nodes.get(node.needs[0]);
    if (key === "ArrowRight") return this.nodes.get(node.feeds[0]);
    const by = { ArrowUp: -1, ArrowDown: 1 }[key];
    return by && [...this.nodes.values()].find((each) => each.layer === node.layer && each.place === node.place + by);
  }

  /** Once, when a step is chosen: it may stand where the reader does not look. */
  bringChosen() {
    if (this.page.step === this.brought) return;
    this.brought = this.page.step;
    const node = [...this.nodes.values()].find((each) => each.steps.some((step) => step.id === this.page.step));
    if (node) this.bring(node);
  }

  /** Move what is shown so that a node is in it. */
  bring({ x, y }) {
    const box = this.seen;
    if (x >= box.x && y >= box.y && x + WIDE <= box.x + box.width && y + HIGH <= box.y + box.height) return;
    this.box = { ...box, x: x + WIDE / 2 - box.width / 2, y: y + HIGH / 2 - box.height / 2 };
    this.look();
  }
}

/** What a group is as a whole: what matters most in it. */
function overall(numbers) {
  return (
    ["failed", "interrupted", "running", "pending", "completed", "skipped"].find((status) => numbers[status]) ??
    "pending"
  );
}

const words = (numbers) =>
  STEP_STATUSES.filter((status) => numbers[status])
    .map((status) => `${count(numbers[status])} ${word(status)}`)
    .join(", ");

/** What its steps are: how their ids begin, and how many there are. */
function groupName(node, most = 11) {
  const kinds = [...new Set(node.steps.map((step) => visible(step.id).split(/[:/_\-.\d]/)[0]).filter(Boolean))];
  const shown = kinds.slice(0, 4).join(node.kind === "chain" ? " → " : ", ");
  const number = plural(node.steps.length, "step");
  return kinds.length && kinds.length <= 4
    ? `${shown.length > most ? `${shown.slice(0, most - 1)}…` : shown} · ${number}`
    : number;
}

function shares(numbers, total) {
  let x = 31;
  return STEP_STATUSES.filter((status) => numbers[status]).map((status) => {
    const width = ((WIDE - 42) * numbers[status]) / total;
    x += width;
    return s("rect", {
      class: `share is-${status}`,
      x: x - width,
      y: 24,
      width: Math.max(1, width - 1),
      height: 4,
      rx: 1,
    });
  });
}

function tipOfGroup(node) {
  const numbers = {};
  for (const step of node.steps) numbers[stepStatus(step)] = (numbers[stepStatus(step)] ?? 0) + 1;
  const first = node.steps.slice(0, 4).map((step) => step.id);
  return [
    h("b", {}, groupName(node, 60)),
    Object.entries(numbers).map(([status, number]) => h("div", {}, mark(status), `${count(number)} ${word(status)}`)),
    h("div", { class: "dim" }, name(cut(first.join(", "), 90)), "; click to open"),
  ];
}
