// What the steps share: configuration, variables, features; of secrets the names alone.

import { h } from "../dom.js";
import { bytes, count, value, visible } from "../format.js";
import { empty, facts, name, since, table } from "../parts.js";

const COLUMNS = [
  ["Name", ""],
  ["Value", "wide"],
];

export function drawContext(page) {
  const { context, metadata } = page.state.data;
  const groups = [
    ["Variables", context.variables],
    ["Configuration", context.configuration],
    ["Features", context.features],
  ].filter(([, values]) => Object.keys(values ?? {}).length);
  return [
    groups.length || context.secrets?.length
      ? null
      : empty("Nothing is shared", "Variables and configuration that steps share stand here."),
    groups.map(([title, values]) =>
      h(
        "section",
        { "data-key": title },
        h("h3", {}, title),
        table(
          title,
          COLUMNS,
          Object.entries(values).map(([key, given]) => ({ key, cells: [h("code", {}, name(key)), shown(given)] })),
        ),
      ),
    ),
    context.secrets?.length > 0 &&
      h(
        "section",
        { "data-key": "secrets" },
        h("h3", {}, "Secrets"),
        h("p", { class: "dim" }, "Kept sealed, and never shown here."),
        h(
          "ul",
          { class: "chips" },
          context.secrets.map((each) => h("li", { class: "chip", "data-key": each }, h("code", {}, name(each)))),
        ),
      ),
    h(
      "section",
      { "data-key": "about" },
      h("h3", {}, "This version"),
      facts([
        ["Version", count(metadata.version)],
        ["Created", metadata.created_at && since(metadata.created_at)],
        ["Changed", metadata.updated_at && since(metadata.updated_at)],
        ["Size", bytes(metadata.size_bytes)],
        ["Compressed", metadata.compressed ? "yes" : "no"],
        ["Laid out as", visible(metadata.schema_version)],
        ["User", context.user_id && visible(context.user_id)],
        ["Session", context.session_id && visible(context.session_id)],
        ["Checksum", h("code", { class: "long" }, metadata.checksum)],
      ]),
    ),
  ];
}

/** A value: short ones on a line, others to be unfolded. */
function shown(given) {
  const line = value(given, 120);
  const isWhole = typeof given !== "object" || JSON.stringify(given).length <= 100;
  if (isWhole) return h("code", {}, h("bdi", {}, line));
  return h(
    "details",
    {},
    h("summary", {}, h("code", {}, h("bdi", {}, line))),
    h("pre", {}, JSON.stringify(given, null, 2)),
  );
}
