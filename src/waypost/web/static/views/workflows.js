// All workflows: what state each is in, how far it is, and when it last moved; filtered by what the address says.

import { get } from "../api.js";
import { h } from "../dom.js";
import { duration, plural } from "../format.js";
import { keepFresh, lookAgain, Pages } from "../loading.js";
import { copyText, empty, id, loadedPart, moreButton, name, progress, since, table } from "../parts.js";
import { changed, go, to } from "../router.js";
import { badge, mark, word } from "../status.js";

const STATUSES = ["running", "paused", "failed", "completed", "idle"];
const SORTS = [
  ["-updated_at", "last changed first"],
  ["updated_at", "longest unchanged first"],
  ["-created_at", "newest first"],
  ["created_at", "oldest first"],
  ["id", "by id"],
  ["status", "by status"],
  ["-size_bytes", "largest first"],
];
const COLUMNS = [
  ["Workflow", "wide"],
  ["Status", ""],
  ["Progress", "progress-column"],
  ["Now", "wide dim"],
  ["Duration", "number"],
  ["Changed", "number"],
];
const TYPING_MS = 200;

let last = null;

/** The list puts the focus on that workflow's row when it is shown again. */
export function comingFrom(id) {
  last = id;
}

export function openWorkflows({ query, redraw }) {
  let filters = read(query);
  let typing = null;
  const pages = new Pages(
    (signal, cursor, limit) => get("/api/workflows", { ...filters, cursor, limit }, signal),
    (item) => item.id,
    redraw,
  );
  const stop = keepFresh(pages);
  const rest = lookAgain(pages, 15_000);
  pages.load();

  function update(next) {
    const given = read(next);
    if (JSON.stringify(given) === JSON.stringify(filters)) return;
    filters = given;
    pages.restart({ keep: true });
  }

  const type = (event) => {
    const text = event.target.value;
    clearTimeout(typing);
    typing = setTimeout(() => go(changed({ q: text }), { replace: true }), TYPING_MS);
  };

  return {
    title: "Workflows",
    keys: { y: copyFocused },
    update,
    drawn: () => pages.data && focusLast(),
    close() {
      stop();
      rest();
      clearTimeout(typing);
      pages.close();
    },
    draw: () =>
      h(
        "section",
        { "aria-labelledby": "title", "data-view": "workflows" },
        h("div", { class: "heading" }, h("h1", { id: "title" }, "Workflows")),
        drawFilters(filters, type),
        loadedPart(pages, (data) => drawList(data, filters), "Looking for workflows"),
        moreButton(pages, "More workflows"),
      ),
  };
}

function read(query) {
  return {
    status: query.getAll("status"),
    q: query.get("q") ?? "",
    session: query.get("session") ?? "",
    sort: query.get("sort") ?? "-updated_at",
  };
}

function drawFilters(filters, type) {
  const toggle = (status) => () => {
    const chosen = filters.status.includes(status)
      ? filters.status.filter((each) => each !== status)
      : [...filters.status, status];
    go(changed({ status: chosen }));
  };
  return h(
    "form",
    { class: "filters", role: "search", on: { submit: (event) => event.preventDefault() } },
    h("input", {
      type: "search",
      name: "q",
      "data-filter": true,
      "aria-label": "Name or id",
      placeholder: "Name or id",
      value: filters.q,
      autocomplete: "off",
      spellcheck: "false",
      on: { input: type },
    }),
    h(
      "div",
      { class: "chips", role: "group", "aria-label": "Status" },
      STATUSES.map((status) =>
        h(
          "button",
          {
            type: "button",
            class: `chip is-${status}`,
            "data-key": status,
            "data-status": status,
            "aria-pressed": String(filters.status.includes(status)),
            on: { click: toggle(status) },
          },
          mark(status),
          word(status),
        ),
      ),
    ),
    filters.session &&
      h(
        "span",
        { class: "chip", "data-session": filters.session },
        "session ",
        id(filters.session, 24),
        h("a", { href: changed({ session: null }), "aria-label": "All sessions", class: "remove" }, "×"),
      ),
    h(
      "label",
      { class: "sort" },
      h("span", { class: "hidden" }, "Order"),
      h(
        "select",
        {
          name: "sort",
          on: { change: (event) => go(changed({ sort: event.target.value })) },
        },
        SORTS.map(([value, label]) => h("option", { value, selected: value === filters.sort }, label)),
      ),
    ),
  );
}

function drawList(data, filters) {
  const unreadable = data.unreadable?.length > 0 && drawUnreadable(data.unreadable);
  if (data.items.length || unreadable) {
    return [unreadable, data.items.length > 0 && table("Workflows", COLUMNS, data.items.map(row))];
  }
  const isFiltered = filters.q || filters.session || filters.status.length;
  return isFiltered
    ? empty("No workflow is like that", h("a", { href: "/" }, "Show all"))
    : empty(
        "No workflows yet",
        h("code", {}, "waypost demo"),
        " makes one, and so does ",
        h("code", {}, "waypost run"),
        ".",
      );
}

/** Those that are there and cannot be read: said apart, since nothing else is known of them. */
function drawUnreadable(items) {
  return h(
    "div",
    { class: "evidence is-damaged", role: "alert", "data-key": "unreadable" },
    h(
      "p",
      {},
      h("b", {}, `${plural(items.length, "workflow")} cannot be read.`),
      " ",
      h("code", {}, "waypost verify"),
      " says more.",
    ),
    h(
      "ul",
      { class: "plain" },
      items.map((item) =>
        h(
          "li",
          { "data-key": item.id, "data-workflow": item.id, "data-condition": "damaged" },
          h("a", { href: to("/workflow", { id: item.id }) }, name(item.id)),
          h("span", { class: "dim" }, " ", name(item.error)),
        ),
      ),
    ),
  );
}

const interruptedOnly = ({ running, ...rest }) => ({ ...rest, interrupted: running });

function row(item) {
  const condition = item.condition ?? item.status;
  return {
    key: item.id,
    props: {
      class: `row is-${condition}`,
      "data-status": item.status,
      "data-condition": condition,
      "data-workflow": item.id,
    },
    cells: [
      [
        h(
          "a",
          { href: to("/workflow", { id: item.id }), "data-row-link": true, "data-id": item.id, class: "row-link" },
          name(item.name || item.id),
        ),
        item.name !== item.id && h("div", { class: "under" }, id(item.id)),
      ],
      [
        badge(condition),
        item.status !== condition &&
          ["failed", "paused"].includes(item.status) &&
          h("div", { class: "under dim" }, word(item.status)),
      ],
      progress(condition === "interrupted" ? interruptedOnly(item.step_counts) : item.step_counts, {
        label: `Progress of ${item.id}`,
      }),
      item.error
        ? h("span", { class: "error-text clamp" }, name(item.error))
        : item.current_step
          ? h("span", { class: "clamp" }, name(item.current_step))
          : "",
      duration(item.duration_ms),
      since(item.updated_at),
    ],
  };
}

function focusLast() {
  if (last !== null) document.querySelector(`[data-row-link][data-id="${CSS.escape(last)}"]`)?.focus();
  last = null;
}

function copyFocused() {
  const chosen = document.activeElement.closest?.("[data-row-link]");
  if (chosen) copyText(chosen.dataset.id, "id");
}
