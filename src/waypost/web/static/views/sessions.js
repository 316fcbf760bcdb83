// Who works in the store, who has ended, and who has died at it.

import { get } from "../api.js";
import { h } from "../dom.js";
import { count, visible } from "../format.js";
import { keepFresh, lookAgain, Pages } from "../loading.js";
import { copyText, empty, id, loadedPart, moreButton, since, table } from "../parts.js";
import { changed, go, to } from "../router.js";
import { badge, mark, word } from "../status.js";

const STATUSES = ["active", "paused", "crashed", "completed"];
const COLUMNS = [
  ["Session", "wide"],
  ["Status", ""],
  ["Workflows", "number"],
  ["Started", "number"],
  ["What is seen of its owner", "wide dim"],
];

export function openSessions({ query, redraw }) {
  let status = query.getAll("status");
  const pages = new Pages(
    (signal, cursor, limit) => get("/api/sessions", { status, cursor, limit }, signal),
    (item) => item.session_id,
    redraw,
  );
  const stop = keepFresh(pages);
  const rest = lookAgain(pages, 10_000);
  pages.load();

  function update(next) {
    const given = next.getAll("status");
    if (given.join() === status.join()) return;
    status = given;
    pages.restart({ keep: true });
  }

  const toggle = (each) => () =>
    go(changed({ status: status.includes(each) ? status.filter((one) => one !== each) : [...status, each] }));
  return {
    title: "Sessions",
    keys: { y: copyFocused, Escape: () => go("/") },
    update,
    close() {
      stop();
      rest();
      pages.close();
    },
    draw: () =>
      h(
        "section",
        { "aria-labelledby": "title", "data-view": "sessions" },
        h("div", { class: "heading" }, h("h1", { id: "title" }, "Sessions")),
        h(
          "div",
          { class: "filters" },
          h(
            "div",
            { class: "chips", role: "group", "aria-label": "Status" },
            STATUSES.map((each) =>
              h(
                "button",
                {
                  type: "button",
                  class: `chip is-${each}`,
                  "data-key": each,
                  "data-status": each,
                  "aria-pressed": String(status.includes(each)),
                  on: { click: toggle(each) },
                },
                mark(each),
                word(each),
              ),
            ),
          ),
        ),
        loadedPart(
          pages,
          (data) => (data.items.length ? table("Sessions", COLUMNS, data.items.map(row)) : nothing(status)),
          "Looking for sessions",
        ),
        moreButton(pages, "More sessions"),
      ),
  };
}

function nothing(status) {
  return status.length
    ? empty("No session is like that", h("a", { href: "/sessions" }, "Show all"))
    : empty(
        "No sessions yet",
        "Programs that call ",
        h("code", {}, "start_session"),
        ", and coding agents, show up here; a crash of theirs is found out.",
      );
}

function row(session) {
  const done = session.completed_workflows.length;
  return {
    key: session.session_id,
    props: { class: "row", "data-session": session.session_id, "data-status": session.status },
    cells: [
      [
        h(
          "a",
          {
            href: to("/session", { id: session.session_id }),
            "data-row-link": true,
            "data-id": session.session_id,
            class: "row-link",
          },
          id(session.session_id),
        ),
        session.user_id && h("div", { class: "under" }, visible(session.user_id)),
      ],
      badge(session.status),
      `${count(done)}/${count(done + session.active_workflows.length)}`,
      since(session.start_time),
      h(
        "span",
        { class: session.presence?.state === "suspect" ? "is-suspect" : null },
        visible(session.evidence ?? session.presence?.evidence ?? ""),
      ),
    ],
  };
}

function copyFocused() {
  const chosen = document.activeElement.closest?.("[data-row-link]");
  if (chosen) copyText(chosen.dataset.id, "id");
}
