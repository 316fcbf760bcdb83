// The commits of a workflow, the newest first.

import { h } from "../dom.js";
import { count, visible } from "../format.js";
import { empty, id, moreButton, name, since, table } from "../parts.js";
import { to } from "../router.js";

const COLUMNS = [
  ["Version", "number"],
  ["When", ""],
  ["Operation", ""],
  ["Changed", "wide"],
  ["By", "dim"],
  ["Commit", "dim"],
];
const PATHS = 3;

export function drawHistory(page) {
  const { items } = page.commits.data;
  if (!items.length) return empty("No commits are kept");
  return [table("History", COLUMNS, items.map(row)), moreButton(page.commits, "Older commits")];
}

function row(entry) {
  const kept = entry.kept !== false;
  return {
    key: String(entry.version),
    props: { class: kept ? "row" : "row is-gone", "data-version": entry.version },
    cells: [
      count(entry.version),
      kept ? since(entry.at) : h("span", { class: "dim" }, "no longer kept"),
      visible(entry.operation ?? ""),
      kept ? paths(entry) : "",
      [
        entry.agent_id && name(entry.agent_id),
        entry.agent_id && entry.session_id && ", ",
        entry.session_id && h("a", { href: to("/session", { id: entry.session_id }) }, id(entry.session_id, 20)),
      ],
      entry.commit_id ? h("code", { title: entry.commit_id }, entry.commit_id.slice(0, 12)) : "",
    ],
  };
}

/** What a commit changed. Most steps leave a checkpoint: what it came with tells more. */
function paths(entry) {
  const all = entry.changed ?? [];
  const own = all.filter((path) => !path.startsWith("checkpoints["));
  const shown = own.length ? own : all;
  const rest = shown.length - PATHS;
  return h(
    "span",
    { class: "clamp", title: visible(shown.join("\n")) },
    entry.cleared && "all anew: ",
    name(shown.slice(0, PATHS).join(", ")),
    rest > 0 && h("span", { class: "dim" }, ` and ${count(rest)} more`),
  );
}
