// Charts over time: bars that stand on one another, and lines. Drawn as SVG, with a table of the same for who listens.

import { h, s } from "./dom.js";
import { clock } from "./format.js";

const HEIGHT = 150;
const LEFT = 62;
const RIGHT = 14;
const BOTTOM = 20;
const TOP = 8;

/** A chart that draws itself as wide as its place.
 *
 * `points` are [{at, values}], `at` in milliseconds; `series` are [{name, style}] for `values` in that order; `kind` is
 * "bars" or "lines"; `format` makes text of a value. */
export function chart({ label, points, series, kind, format }) {
  const totals = points.map((point) => (kind === "bars" ? sum(point.values) : Math.max(...point.values)));
  const most = nice(Math.max(...totals, 0));
  const fill = (host) => {
    const width = host.clientWidth;
    if (width) host.replaceChildren(picture({ label, points, series, kind, format, most, width }));
  };
  return h(
    "figure",
    { class: "chart-figure", "data-chart": label },
    h(
      "figcaption",
      {},
      h("b", {}, label),
      h(
        "ul",
        { class: "legend" },
        series.map((each) =>
          h("li", { "data-key": each.name }, h("span", { class: `swatch is-${each.style}` }), each.name),
        ),
      ),
    ),
    h("div", { class: "chart-host", own: [`chart ${label}`, fill] }),
  );
}

const sum = (values) => values.reduce((total, each) => total + each, 0);

/** The next round number, so that the scale does not change with each value. */
function nice(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((each) => each * power >= value) * power;
}

function picture({ label, points, series, kind, format, most, width }) {
  const high = HEIGHT - TOP - BOTTOM;
  const y = (value) => TOP + high - (value / most) * high;
  const slot = (width - LEFT - RIGHT) / Math.max(points.length, 1);
  const x = (index) => LEFT + index * slot;
  const newest = points.at(-1);
  const values = series.map((each, index) => `${each.name} ${format(newest?.values[index] ?? 0)}`);
  const told = `${label}, most recently: ${values.join(", ")}`;
  return s(
    "svg",
    { class: "chart", width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": told },
    (kind === "bars" && most < 2 ? [0, 1] : [0, 0.5, 1]).map((share) =>
      s(
        "g",
        { class: "tick" },
        s("line", { x1: LEFT, x2: width - RIGHT, y1: y(most * share), y2: y(most * share) }),
        s("text", { x: LEFT - 6, y: y(most * share) + 4, "text-anchor": "end" }, format(most * share)),
      ),
    ),
    times(points, x, width),
    kind === "bars"
      ? points.map((point, index) => column(point, x(index), slot, y, series, format))
      : series.map((each, index) => s("path", { class: `line is-${each.style}`, d: line(points, index, x, slot, y) })),
  );
}

function times(points, x, width) {
  const most = Math.max(2, Math.floor(width / 110));
  const every = Math.max(1, Math.ceil(points.length / most));
  return points.map(
    (point, index) =>
      index % every === 0 &&
      x(index) < width - 60 &&
      s("text", { class: "tick-text", x: x(index), y: HEIGHT - 5 }, clock(point.at)),
  );
}

function column(point, x, slot, y, series, format) {
  let below = 0;
  const pieces = point.values.map((value, index) => {
    const top = y(below + value);
    const piece =
      value > 0 &&
      s("rect", {
        class: `is-${series[index].style}`,
        x,
        width: Math.max(1, slot - (slot > 4 ? 1 : 0)),
        y: top,
        height: Math.max(1, y(below) - top),
      });
    below += value;
    return piece;
  });
  const told = series.map((each, index) => `${each.name} ${format(point.values[index])}`).join(", ");
  return below > 0 && s("g", {}, s("title", {}, `${clock(point.at)}: ${told}`), pieces);
}

function line(points, index, x, slot, y) {
  return points.map((point, at) => `${at ? "L" : "M"}${x(at) + slot / 2} ${y(point.values[index])}`).join("");
}
