// Pieces that several views are made of.

import { ApiError } from "./api.js";
import { announce } from "./announce.js";
import { h, s } from "./dom.js";
import { ago, bytes, clock, count, cut, day, moment, visible } from "./format.js";
import { kind, word } from "./status.js";

// --- times ---

/** How long ago something was; the moment in full is its title. A clock keeps it true. */
export function since(iso) {
  if (!iso) return h("span", { class: "dim" }, "–");
  return h("time", { datetime: iso, title: moment(iso), "data-ago": iso }, ago(iso));
}

/** When something was: the time of day, with the day where it is not today. */
export function timeOf(iso) {
  const time = Date.parse(iso);
  const isToday = new Date(time).toDateString() === new Date().toDateString();
  return h("time", { datetime: iso, title: moment(iso) }, isToday ? clock(time) : `${day(time)}, ${clock(time)}`);
}

/** Keep all relative times of the page true. */
export function keepTime() {
  setInterval(() => {
    if (document.visibilityState === "hidden") return;
    const now = Date.now();
    for (const element of document.querySelectorAll("time[data-ago]")) {
      const text = ago(element.dataset.ago, now);
      if (element.firstChild.nodeValue !== text) element.firstChild.nodeValue = text;
    }
  }, 1_000);
}

// --- names ---

/** A stored name, apart from the text around it whichever way it is written. */
export const name = (text) => h("bdi", {}, visible(text));

/** An id, shortened in the middle; the whole one is its title. */
export function id(text, most = 44) {
  return h("code", { class: "id", title: visible(text) }, h("bdi", {}, cut(text, most)));
}

/** A button that copies a text. */
export function copyButton(text, what = "id") {
  const copy = (event) => {
    event.preventDefault();
    copyText(text, what);
  };
  return h(
    "button",
    { class: "quiet small", type: "button", "aria-label": `Copy ${what}`, title: `Copy ${what}`, on: { click: copy } },
    s(
      "svg",
      { class: "icon", viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" },
      s("path", { d: "M5.5 5.5h7v8h-7zM3.5 10.5h-1v-8h7v1" }),
    ),
  );
}

/** A command, and a button that copies what is seen: a terminal could act on more than that. */
export const command = (text) => [h("code", {}, visible(text)), copyButton(visible(text), "command")];

export async function copyText(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    announce(`Copied ${what}`);
  } catch {
    announce(`The browser does not let this page copy`);
  }
}

// --- how far something is ---

/** A bar of the steps of a workflow by status, `counts` as in `step_counts`. */
export function progress(counts, { label = "Progress", numbers = true } = {}) {
  const total = Object.values(counts ?? {}).reduce((sum, each) => sum + each, 0);
  const done = (counts?.completed ?? 0) + (counts?.skipped ?? 0);
  const told = total ? `${count(done)} of ${count(total)} steps` : "no steps";
  const pieces = ["completed", "skipped", "failed", "interrupted", "running"].filter((each) => counts?.[each]);
  return h(
    "div",
    { class: "progress" },
    h(
      "div",
      {
        class: "progress-bar",
        role: "progressbar",
        "aria-label": label,
        "aria-valuemin": 0,
        "aria-valuemax": total || 1,
        "aria-valuenow": done,
        "aria-valuetext": told,
        title: told,
      },
      pieces.map((each) =>
        h("span", {
          class: `piece is-${kind(each)}`,
          "data-key": each,
          style: { "--share": String(counts[each] / total) },
        }),
      ),
    ),
    numbers && h("span", { class: "progress-text" }, total ? `${count(done)}/${count(total)}` : "–"),
  );
}

/** Numbers of steps by status, in words. */
export function tally(counts) {
  return ["completed", "skipped", "running", "interrupted", "failed", "pending"]
    .filter((each) => counts?.[each])
    .map((each) =>
      h(
        "li",
        { "data-key": each, "data-status": each, class: `tally is-${kind(each)}` },
        h("b", {}, count(counts[each])),
        ` ${word(each)}`,
      ),
    );
}

// --- where there is nothing, not yet, or no more ---

export function empty(title, ...hint) {
  return h(
    "div",
    { class: "empty", "data-empty": true },
    h("p", { class: "empty-title" }, title),
    h("p", { class: "dim" }, hint),
  );
}

export function waiting(what = "Loading") {
  return h("p", { class: "waiting", role: "status" }, `${what} …`);
}

/** An error where the data would be, in words, with a way to try again. */
export function problem(error, again) {
  const isKnown = error instanceof ApiError;
  if (!isKnown) console.error(error);
  return h(
    "div",
    { class: "problem", role: "alert", "data-code": isKnown ? error.code : "page" },
    h(
      "p",
      {},
      isKnown ? visible(error.message) : "This page made a mistake while it drew this; its console tells more.",
    ),
    h(
      "p",
      { class: "dim" },
      again && error.retryable ? "It is tried again by itself." : null,
      again && h("button", { type: "button", class: "small", on: { click: again } }, "Try now"),
    ),
  );
}

/** What was loaded, drawn by `draw`; before that, and when it failed, the words for it. */
export function loadedPart(loaded, draw, what) {
  return [
    loaded.error && problem(loaded.error, () => loaded.load()),
    loaded.data ? draw(loaded.data) : !loaded.error && waiting(what),
  ];
}

/** The button below a list that has more. */
export function moreButton(pages, word_ = "More") {
  return (
    pages.data?.next_cursor &&
    h(
      "p",
      { class: "more" },
      h("button", { type: "button", "data-more": true, on: { click: () => pages.more() } }, word_),
    )
  );
}

// --- tables, which a narrow page shows as cards: so the roles are said, since the layout would hide them ---

/** `columns` are [title, class]; each row is {key, cells, props}. */
export function table(label, columns, rows) {
  return h(
    "div",
    { class: "table-frame" },
    h(
      "table",
      { role: "table", "aria-label": label },
      h(
        "thead",
        { role: "rowgroup" },
        h(
          "tr",
          { role: "row" },
          columns.map(([title, style]) => h("th", { role: "columnheader", scope: "col", class: style }, title)),
        ),
      ),
      h(
        "tbody",
        { role: "rowgroup" },
        rows.map(({ key, cells, props }) =>
          h(
            "tr",
            { role: "row", "data-key": key, "data-row": key, ...props },
            cells.map((cell, index) =>
              h("td", { role: "cell", class: columns[index][1], "data-title": columns[index][0] }, cell),
            ),
          ),
        ),
      ),
    ),
  );
}

/** Terms and what they are: a list of [term, value], without those that have none. */
export function facts(rows) {
  return h(
    "dl",
    { class: "facts" },
    rows
      .filter(([, value]) => value !== null && value !== undefined && value !== false)
      .map(([term, value]) => h("div", { "data-key": term }, h("dt", {}, term), h("dd", {}, value))),
  );
}

/** A number with its name, large. */
export function figure(label, value, note) {
  return h(
    "div",
    { class: "figure", "data-key": label },
    h("span", { class: "figure-label" }, label),
    h("span", { class: "figure-value" }, value),
    note && h("span", { class: "dim" }, note),
  );
}

export const size = (number) => h("span", { title: number === null ? "" : `${count(number)} bytes` }, bytes(number));

/** The buttons of a drawing that can be zoomed; `zoom` takes by how much, or null for all of it. */
export function zoomButtons(zoom) {
  const button = (label, sign, factor) =>
    h(
      "button",
      {
        type: "button",
        class: "small",
        "aria-label": label,
        title: label,
        "data-zoom": label,
        on: { click: () => zoom(factor) },
      },
      sign,
    );
  return h(
    "div",
    { class: "zoom", role: "group", "aria-label": "Zoom" },
    button("Zoom out", "−", 1 / 0.7),
    button("Zoom in", "+", 0.7),
    button("Zoom to fit", "Fit", null),
  );
}
