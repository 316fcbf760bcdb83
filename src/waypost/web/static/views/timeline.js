// Who worked on what, and when: a lane for each agent, a bar for each step, growing while it runs.

import { h, s, settle, show } from "../dom.js";
import { clock, cut, day, duration, plural, visible } from "../format.js";
import { measured } from "../measured.js";
import { empty, name, zoomButtons } from "../parts.js";
import { mark, markPath, STEP_STATUSES, stepStatus, took, word } from "../status.js";
import { foldTime, layOut, ticks } from "./lanes.js";
import { patterns } from "./patterns.js";
import { Tip } from "./tip.js";
import { drawWaiting } from "./waiting.js";

const AXIS = 26;
const LANE_GAP = 10;
const LETTER = 6.8; // the width of one, about
const BADGE = 20;
const BADGE_INSIDE = 48; // it stands in bars that are longer than that, and else behind them
const RIGHT = 26; // room for the badge of a bar that ends there
const AHEAD = 0.04; // room for what runs to grow into before all is drawn anew
const GROW_MS = 1_000;

export const makeTimeline = () => new Timeline();

class Timeline {
  constructor() {
    this.window = null; // the part that is shown, as shares of the whole; null: all of it
    this.focus = null;
    this.tip = new Tip();
    this.drawn = null;
    this.open = [];
    this.timer = setInterval(() => this.grow(), GROW_MS);
    this.observer = new ResizeObserver(() => this.host?.isConnected && this.paint(this.host));
  }

  close() {
    clearInterval(this.timer);
    this.observer.disconnect();
    this.tip.close();
  }

  draw(page, items) {
    if (!items.length) return empty("This workflow has no steps");
    this.page = page;
    this.items = items;
    const waiting = items.filter((step) => !step.start_time);
    const begun = items.length - waiting.length;
    return [
      h(
        "div",
        { class: "toolbar", "data-key": "toolbar" },
        drawLegend(items),
        begun > 0 && zoomButtons((factor) => this.zoom(factor)),
      ),
      begun > 0
        ? h("div", { class: "timeline", "data-key": "chart", own: ["timeline", (host) => this.paint(host)] })
        : h("p", { class: "dim", "data-key": "none" }, "Nothing has begun yet."),
      waiting.length > 0 && drawWaiting(page, waiting),
    ];
  }

  /** Show more or less of the time, about the middle or `about` (a share of what is shown); null: all of it. */
  zoom(factor, about = 0.5) {
    const [from, to] = this.window ?? [0, 1];
    const width = factor === null ? 1 : Math.min(1, Math.max((to - from) * factor, 1e-5));
    const start = Math.min(Math.max(from + (to - from - width) * about, 0), 1 - width);
    this.window = width === 1 ? null : [start, start + width];
    if (this.host) this.paint(this.host);
  }

  pan(by) {
    if (!this.window) return;
    const [from, to] = this.window;
    const start = Math.min(Math.max(from + by * (to - from), 0), 1 - (to - from));
    this.window = [start, start + to - from];
    this.paint(this.host);
  }

  paint(host) {
    if (host !== this.host) {
      this.host = host;
      this.drawn = null;
      this.observer.disconnect();
      this.observer.observe(host);
    }
    const width = host.clientWidth;
    const wanted = [this.items, width, this.window, this.page.step];
    if (!width || (this.drawn && wanted.every((each, index) => each === this.drawn[index]))) return;
    this.drawn = wanted;
    measured("draw timeline", () => show(host, this.chart(width)));
    settle(host);
  }

  /** Make the bars of what runs longer; all is drawn anew when there is no room left. */
  grow() {
    if (!this.open.length || this.page.at || document.visibilityState === "hidden" || !this.host?.isConnected) return;
    const now = Date.now();
    if (!this.window && now > this.until) {
      this.drawn = null;
      this.paint(this.host);
      return;
    }
    for (const bar of this.open) {
      const shape = this.host.querySelector(`[data-bar="${CSS.escape(bar.step.id)}"]`);
      const left = this.x(bar.start);
      for (const rect of shape?.querySelectorAll("rect") ?? [])
        rect.setAttribute("width", Math.max(3, this.x(now) - left));
    }
  }

  chart(width) {
    const shown = this.page.state.data;
    const past = this.page.at && Date.parse(shown.metadata.updated_at);
    const now = past || Date.now();
    const { lanes } = layOut(this.items, now, Date.parse(shown.metadata.updated_at ?? 0));
    const bars = lanes.flatMap((lane) => lane.bars);
    const scale = foldTime(bars);
    this.open = bars.filter((bar) => bar.isOpen);
    const whole = scale.total * (this.open.length && !past ? 1 + AHEAD : 1);
    this.until = now + whole - scale.total;
    const isNarrow = width < 620;
    const gutter = isNarrow
      ? 0
      : Math.min(170, 26 + LETTER * Math.max(...lanes.map((lane) => Math.min(visible(lane.agent).length, 22)), 8));
    const [from, to] = (this.window ?? [0, 1]).map((share) => share * whole);
    this.x = (time) => gutter + ((scale.at(time) - from) / (to - from)) * (width - gutter - RIGHT);
    const place = (at) => gutter + ((at - from) / (to - from)) * (width - gutter - RIGHT);
    const rows = lanes.reduce((sum, lane) => sum + lane.rows, 0);
    const height = rows > 150 ? 8 : rows > 60 ? 14 : 24;
    return this.picture({ lanes, scale, from, to, place, gutter, width, height, isNarrow, now });
  }

  picture(view) {
    const { lanes, gutter, width, height, isNarrow } = view;
    const names = [];
    const shapes = [];
    const badges = [];
    let top = AXIS + 6;
    this.order = [];
    for (const lane of lanes) {
      if (isNarrow) top += 16;
      names.push(
        laneName(lane, isNarrow ? 8 : 12, isNarrow ? top - 4 : top + Math.min(height, 24) / 2 + 4, isNarrow ? 40 : 22),
      );
      for (const bar of lane.bars) {
        const y = top + bar.row * height;
        const shape = this.bar(bar, y, height - (height > 10 ? 4 : 1), gutter, width);
        if (!shape) continue; // beyond what is shown
        shapes.push(shape);
        badges.push(this.badge(bar.step, shape, height - 4));
        this.order.push({ id: bar.step.id, start: bar.start, y });
      }
      top += lane.rows * height + LANE_GAP;
      if (lane === lanes.at(-1)) continue;
      names.push(s("line", { class: "lane-line", x1: 0, x2: width, y1: top - LANE_GAP / 2, y2: top - LANE_GAP / 2 }));
    }
    if (!this.order.some((each) => each.id === this.focus)) this.focus = this.order[0]?.id;
    shapes.find((shape) => shape.dataset.bar === this.focus)?.setAttribute("tabindex", 0);
    const start = Math.min(...lanes.map((lane) => lane.bars[0].start));
    return s(
      "svg",
      {
        class: "chart",
        width,
        height: top,
        viewBox: `0 0 ${width} ${top}`,
        role: "group",
        "aria-label": `Timeline from ${clock(start)}, ${plural(this.order.length, "step")}; arrow keys go along it`,
        on: this.gestures(gutter, width),
      },
      patterns(),
      this.axis(view, top, start),
      names,
      s("g", { "data-key": "bars" }, shapes),
      s("g", { "data-key": "badges" }, badges),
    );
  }

  axis({ scale, from, to, place, gutter, width, now }, bottom, start) {
    // with stretches left out, how long it has been says less than what time it was
    const label = scale.folds.length ? timesOfDay(scale) : (at) => (at === 0 ? clock(start) : `+${duration(at)}`);
    const most = Math.max(2, Math.floor((place(to) - gutter) / 90));
    const lines = ticks(from, to, most).map((at) =>
      s(
        "g",
        { class: "tick", "data-key": `tick ${at}` },
        s("line", { x1: place(at), x2: place(at), y1: AXIS - 4, y2: bottom }),
        place(at) < width - 40 && s("text", { x: place(at) + 3, y: AXIS - 9 }, label(at)),
      ),
    );
    const folds = scale.folds
      .filter((fold) => fold.at >= from && fold.at <= to)
      .map((fold) =>
        s(
          "g",
          { class: "fold", "data-key": `fold ${fold.at}` },
          s("line", { x1: place(fold.at), x2: place(fold.at), y1: AXIS - 4, y2: bottom }),
          s("title", {}, `${duration(fold.ms)} in which nothing was done`),
          s("text", { x: place(fold.at), y: bottom - 3, "text-anchor": "middle" }, `${duration(fold.ms)} idle`),
        ),
      );
    const isLive = this.open.length > 0 && !this.page.at;
    const line = isLive && s("line", { class: "now-line", x1: this.x(now), x2: this.x(now), y1: AXIS - 4, y2: bottom });
    return s("g", { class: "axis", "data-key": "axis", "aria-hidden": "true" }, lines, folds, line);
  }

  bar(bar, y, height, gutter, width) {
    const left = this.x(bar.start);
    const right = this.x(bar.end);
    if (right < gutter - 1 || left > width) return null;
    const x = Math.max(left, gutter - 1);
    const length = Math.max(3, right - x);
    const { step, status } = bar;
    const taken = 24 + (length > BADGE_INSIDE && step.retry_count > 0 ? BADGE : 0);
    const letters = Math.floor((length - taken) / LETTER);
    const rect = (style) => s("rect", { class: style, x, y, width: length, height, rx: Math.min(3, height / 3) });
    return s(
      "g",
      {
        class: `bar is-${status}${step.id === this.page.step ? " is-chosen" : ""}`,
        "data-key": step.id,
        "data-bar": step.id,
        "data-step": step.id,
        "data-status": status,
        role: "button",
        tabindex: -1,
        "aria-label": describe(bar),
      },
      rect("bar-fill"),
      rect("bar-pattern"),
      height > 12 &&
        length > 22 &&
        s("path", {
          class: "bar-mark",
          d: markPath(status),
          transform: `translate(${x + 4} ${y + height / 2 - 6}) scale(.75)`,
        }),
      height > 12 &&
        letters >= 5 &&
        s("text", { class: "bar-text", x: x + 19, y: y + height / 2 + 4 }, fitting(step.name || step.id, letters)),
    );
  }

  /** How often a step was tried, at the end of its bar. Badges lie above all bars. */
  badge(step, shape, height) {
    if (!step.retry_count || height <= 12) return null;
    const fill = shape.querySelector("rect");
    const [x, y, length] = ["x", "y", "width"].map((each) => Number(fill.getAttribute(each)));
    const left = length > BADGE_INSIDE ? x + length - BADGE - 3 : x + length + 2;
    return s(
      "g",
      { class: "retries", "data-key": step.id, "data-retries": step.retry_count, "aria-hidden": "true" },
      s("rect", { x: left, y: y + height / 2 - 6, width: BADGE, height: 12, rx: 6 }),
      s("text", { x: left + BADGE / 2, y: y + height / 2 + 3.5, "text-anchor": "middle" }, `×${step.retry_count + 1}`),
    );
  }

  /** What pointer and keys do in the picture. */
  gestures(gutter, width) {
    const stepOf = (event) => event.target.closest("[data-step]");
    const choose = (event) => stepOf(event) && this.page.choose(stepOf(event).dataset.step);
    const tell = (event) => {
      const shape = stepOf(event);
      const step = shape && this.items.find((each) => each.id === shape.dataset.step);
      if (step) this.tip.show(shape, tipOf(step));
      else this.tip.hide();
    };
    return {
      click: (event) => !this.dragged && choose(event),
      pointerover: tell,
      pointerleave: () => this.tip.hide(),
      focusin: tell,
      focusout: () => this.tip.hide(),
      keydown: (event) => this.key(event, choose),
      wheel: (event) => this.wheel(event, gutter, width),
      pointerdown: (event) => this.drag(event, width - gutter),
    };
  }

  wheel(event, gutter, width) {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      const box = event.currentTarget.getBoundingClientRect();
      this.zoom(
        event.deltaY > 0 ? 1.15 : 1 / 1.15,
        Math.min(Math.max((event.clientX - box.left - gutter) / (width - gutter), 0), 1),
      );
    } else if (this.window && (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY))) {
      event.preventDefault();
      this.pan((event.deltaX || event.deltaY) / width);
    }
  }

  drag(event, width) {
    this.dragged = false;
    if (!this.window || event.button !== 0) return;
    let last = event.clientX;
    const move = (moved) => {
      if (Math.abs(moved.clientX - event.clientX) > 3) this.dragged = true;
      this.pan((last - moved.clientX) / width);
      last = moved.clientX;
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
      choose(event);
      return;
    }
    const next = this.nextTo(event.key, event.target.closest?.("[data-step]")?.dataset.step);
    if (!next) return;
    event.preventDefault();
    this.focus = next;
    for (const shape of this.host.querySelectorAll("[data-bar]"))
      shape.setAttribute("tabindex", shape.dataset.bar === next ? 0 : -1);
    this.host.querySelector(`[data-bar="${CSS.escape(next)}"]`)?.focus();
  }

  /** The step to the left or right in the same row, or the nearest in time in the row above or below. */
  nextTo(key, id) {
    const here = this.order.find((each) => each.id === id);
    if (!here || !key.startsWith("Arrow")) return null;
    const along = key === "ArrowLeft" || key === "ArrowRight";
    const forward = key === "ArrowRight" || key === "ArrowDown";
    const before = (a, b) => (along ? a.start - b.start : a.y - b.y) * (forward ? 1 : -1);
    const found = this.order.filter((each) => (along ? each.y === here.y : true) && before(each, here) > 0);
    found.sort((a, b) => before(a, b) || Math.abs(a.start - here.start) - Math.abs(b.start - here.start));
    return found[0]?.id ?? null;
  }
}

/** Labels of places in a folded scale: the time of day, and the day where it is another one than before. */
function timesOfDay(scale) {
  let before = null;
  return (at) => {
    const time = scale.when(at);
    const isAnother = before === null || day(time) !== day(before);
    before = time;
    return isAnother ? `${day(time)}, ${clock(time).slice(0, 5)}` : clock(time).slice(0, 5);
  };
}

/** A name in a bar: where it is too long its last part, and of that the beginning. */
function fitting(text, letters) {
  const given = visible(text);
  const last =
    given.length > letters ? given.slice(Math.max(...[":", "/"].map((each) => given.lastIndexOf(each))) + 1) : given;
  return last.length > letters ? `${last.slice(0, letters - 1)}…` : last;
}

function laneName(lane, x, y, most) {
  return s(
    "text",
    { class: "lane-name", x, y, "data-agent": lane.agent },
    lane.agent ? cut(lane.agent, most) : "no agent",
    s("title", {}, visible(lane.agent || "steps without an agent")),
  );
}

function describe({ step, status }) {
  const retries = step.retry_count ? `, ${plural(step.retry_count, "retry", "retries")}` : "";
  const agent = step.agent_id ? `, ${visible(step.agent_id)}` : "";
  return `${visible(step.name || step.id)}: ${word(status)}${agent}, ${duration(took(step))}${retries}`;
}

/** What the tip says of a step. */
export function tipOf(step) {
  return [
    h("b", {}, name(cut(step.name || step.id, 80))),
    h("div", {}, mark(stepStatus(step)), word(stepStatus(step)), step.agent_id && [" · ", name(step.agent_id)]),
    step.start_time && h("div", {}, clock(Date.parse(step.start_time)), " · ", duration(took(step))),
    step.retry_count > 0 && h("div", {}, plural(step.retry_count, "retry", "retries")),
    step.error && h("div", { class: "error-text" }, cut(step.error, 200)),
  ];
}

/** The marks of the statuses that occur, with their words. */
export function drawLegend(items) {
  const present = new Set(items.map(stepStatus));
  return h(
    "ul",
    { class: "legend", "aria-label": "Legend" },
    STEP_STATUSES.filter((status) => present.has(status)).map((status) =>
      h(
        "li",
        { "data-key": status, class: `is-${status}` },
        h("span", { class: `swatch is-${status}` }),
        mark(status),
        word(status),
      ),
    ),
  );
}
