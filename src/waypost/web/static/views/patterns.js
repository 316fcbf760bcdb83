// The patterns of bars: what failed, was skipped, or was interrupted is told from the rest without its colour.

import { s } from "../dom.js";

export function patterns() {
  const pattern = (name, size, path) =>
    s(
      "pattern",
      { id: `pattern-${name}`, width: size, height: size, patternUnits: "userSpaceOnUse" },
      s("path", { class: `pattern is-${name}`, d: path }),
    );
  return s(
    "defs",
    { "data-key": "patterns" },
    pattern("failed", 8, "M-2 2l4-4M0 8l8-8M6 10l4-4"),
    pattern("interrupted", 8, "M-2 2l4-4M0 8l8-8M6 10l4-4M-2 6l4 4M0 0l8 8M6-2l4 4"),
    pattern("skipped", 6, "M1 3h1.6"),
    pattern("running", 12, "M-3 3l6-6M0 12l12-12M9 15l6-6"),
  );
}
