// Where a workflow's checkpoints stand to one another: which was made after which, and where it had gone back.

import { h } from "../dom.js";

const MOST_COLUMNS = 6;

/** For each checkpoint, the newest first: its `column`, whether lines go `up` and `down` from it, the columns whose
 * lines go `through` beside it, and those that `join` it from above. A parent that is not among them ends a line,
 * unless `hasMore`. */
export function branches(items, hasMore) {
  const known = new Set(items.map((item) => item.checkpoint_id));
  const expected = []; // by column, the checkpoint that its line goes down to
  return items.map((item) => {
    const columns = expected.flatMap((id, column) => (id === item.checkpoint_id ? [column] : []));
    const column = columns[0] ?? free(expected);
    for (const each of columns) expected[each] = null;
    const through = expected.flatMap((id, each) => (id !== null && id !== undefined && each !== column ? [each] : []));
    const parent = item.parent_id && (known.has(item.parent_id) || hasMore) ? item.parent_id : null;
    expected[column] = parent;
    return { column, through, up: columns.length > 0, down: parent !== null, join: columns.slice(1) };
  });
}

function free(expected) {
  const found = expected.findIndex((id) => id === null);
  return found < 0 ? expected.length : found;
}

/** How many columns they take. */
export const widthOf = (places) => Math.min(MOST_COLUMNS, 1 + Math.max(0, ...places.map((place) => place.column)));

/** The lines of one row, as high as the row is. */
export function drawBranch({ column, through, up, down, join }) {
  const line = (kind, at, props = {}) =>
    at < MOST_COLUMNS && h("i", { class: `branch-${kind}`, style: { "--column": String(at) }, ...props });
  return h(
    "span",
    { class: "branch", "aria-hidden": "true" },
    through.map((each) => line("through", each)),
    up && line("up", column),
    down && line("down", column),
    join.map((each) => line("join", column, { style: { "--column": String(column), "--from": String(each) } })),
    line("dot", column),
  );
}
