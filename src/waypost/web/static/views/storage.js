// What takes room in the store, the largest first.

import { get } from "../api.js";
import { h } from "../dom.js";
import { count, plural, visible } from "../format.js";
import { empty, figure, name, size, table } from "../parts.js";
import { to } from "../router.js";
import { openMeasured } from "./measuring.js";

const COLUMNS = [
  ["What", "wide"],
  ["Share", "bar-column"],
  ["History", "number"],
  ["Checkpoints", "number"],
  ["All", "number"],
];
const LIMIT = 200;
const EVERY_MS = 15_000;

export function openStorage({ redraw }) {
  const load = (signal) => get("/api/storage", { limit: LIMIT }, signal);
  // not at each commit: it is a look at every file
  return openMeasured({ title: "Storage", load, everyMs: EVERY_MS, draw: drawStorage, what: "Measuring", redraw });
}

function drawStorage(data) {
  const rows = data.items;
  const most = Math.max(...rows.map((row) => row.bytes), 1);
  return [
    h(
      "div",
      { class: "figures" },
      figure("In the store", size(data.total_bytes)),
      data.free_bytes !== null && data.free_bytes !== undefined && figure("Free beside it", size(data.free_bytes)),
      figure("Largest", rows.length ? size(rows[0].bytes) : "–", rows.length > 0 && name(rows[0].id)),
      figure("Documents", count(data.total), rows.length < data.total && `the ${count(rows.length)} largest are shown`),
    ),
    data.unreadable.length > 0 && drawUnreadable(data.unreadable),
    h(
      "ul",
      { class: "legend" },
      h("li", {}, h("span", { class: "swatch is-log" }), "history"),
      h("li", {}, h("span", { class: "swatch is-checkpoint" }), "checkpoints"),
    ),
    rows.length
      ? table(
          "Room by workflow",
          COLUMNS,
          rows.map((row) => drawRow(row, most)),
        )
      : empty("The store is empty"),
    h(
      "p",
      { class: "dim" },
      "Checkpoints beyond the bounds of retention are removed by ",
      h("code", {}, "waypost store cleanup"),
      ".",
    ),
  ];
}

/** What is left out of the sums. */
function drawUnreadable(all) {
  return h(
    "p",
    { class: "error-text", role: "alert" },
    `${plural(all.length, "document")} cannot be measured: `,
    name(all[0].id),
    `: ${visible(all[0].error)}`,
  );
}

function drawRow(row, most) {
  const piece = (kind, bytes) =>
    bytes > 0 && h("span", { class: `piece is-${kind}`, "data-key": kind, style: { "--share": String(bytes / most) } });
  return {
    key: `${row.kind} ${row.id}`,
    props: { class: "row", "data-id": row.id, "data-kind": row.kind },
    cells: [
      row.kind === "workflow"
        ? h("a", { href: to("/workflow", { id: row.id }), "data-row-link": true, class: "row-link" }, name(row.id))
        : row.kind === "session"
          ? h("a", { href: to("/session", { id: row.id }), "data-row-link": true, class: "row-link" }, name(row.id))
          : name(row.id),
      h(
        "div",
        { class: "room", role: "img", "aria-label": `${count(row.bytes)} bytes` },
        piece("log", row.log_bytes),
        piece("checkpoint", row.checkpoint_bytes),
      ),
      size(row.log_bytes),
      row.checkpoint_bytes ? size(row.checkpoint_bytes) : "–",
      h("b", {}, size(row.bytes)),
    ],
  };
}
