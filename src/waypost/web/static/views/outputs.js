// What the steps brought: each output in any of its versions, pretty or raw, a page at a time.

import { get } from "../api.js";
import { h } from "../dom.js";
import { bytes, count, cut, plural, visible } from "../format.js";
import { Loaded } from "../loading.js";
import { copyButton, copyText, empty, id, loadedPart, name, since } from "../parts.js";
import { changed } from "../router.js";
import { mark, stepStatus } from "../status.js";

const PAGE_CHARACTERS = 65_536;
const LISTED = 500;

export function makeOutputs(page) {
  const shown = { key: null, version: null, form: "pretty", filter: "" };
  const where = () => ({ workflow: page.id, step: page.step, at: page.at || null });
  const versions = new Loaded(
    (signal) => get("/api/outputs", where(), signal),
    () => {
      if (shown.version === null) choose(newest(versions.data)); // a newer one is offered, and not put in its place
      page.redraw();
    },
  );
  const text = new Loaded(
    (signal) => ask(signal, 0),
    () => page.redraw(),
  );

  function ask(signal, offset) {
    // of the past, the version that stood there is named too: a version of an output never changes
    return get(
      "/api/output",
      { ...where(), version: shown.version, form: shown.form, offset, limit: PAGE_CHARACTERS },
      signal,
    );
  }

  function choose(version) {
    shown.version = version;
    if (version !== null) text.restart();
  }

  async function more() {
    const before = text.data;
    try {
      const next = await ask(undefined, before.next_offset);
      const between = next.encoding === "hex" && shown.form === "pretty" ? "\n" : "";
      if (text.data === before) text.data = { ...next, text: before.text + between + next.text };
    } catch (error) {
      text.error = error;
    }
    page.redraw();
  }

  return {
    close() {
      versions.close();
      text.close();
    },
    update() {
      const step = page.steps.data?.items.find((each) => each.id === page.step);
      const key = page.tab === "outputs" && page.step ? JSON.stringify([page.step, page.at]) : null;
      if (key !== shown.key) {
        shown.key = key;
        shown.version = null;
        text.close();
        text.data = text.error = null;
        if (key) versions.restart();
      } else if (key && step && versions.data && step.output_version > (newest(versions.data) ?? 0)) {
        versions.soon();
      }
    },
    draw(steps) {
      this.update();
      const having = steps.filter((step) => step.output_version > 0);
      if (!having.length) return empty("No outputs yet", "What a step returns is kept here, in each of its versions.");
      return h(
        "div",
        { class: "outputs" },
        drawList(page, having, shown),
        h(
          "div",
          { class: "output", "data-key": "output" },
          page.step
            ? drawOutput(page, { versions, text, shown, choose, more })
            : empty("Choose a step", "Its output is shown here."),
        ),
      );
    },
  };
}

const newest = (data) => data?.items.reduce((most, each) => Math.max(most, each.version), 0) || null;

function drawList(page, having, shown) {
  const found = shown.filter
    ? having.filter((step) => `${step.id} ${step.name}`.toLowerCase().includes(shown.filter))
    : having;
  const type = (event) => {
    shown.filter = event.target.value.toLowerCase();
    page.redraw();
  };
  return h(
    "nav",
    { class: "output-list", "aria-label": "Steps with an output", "data-key": "list" },
    h("input", {
      type: "search",
      "data-filter": true,
      "aria-label": "Step",
      placeholder: "Step",
      autocomplete: "off",
      spellcheck: "false",
      value: shown.filter,
      on: { input: type },
    }),
    h(
      "ul",
      { class: "plain" },
      found.slice(0, LISTED).map((step) =>
        h(
          "li",
          { "data-key": step.id },
          h(
            "a",
            {
              href: changed({ step: step.id }),
              "data-row-link": true,
              "data-step": step.id,
              "aria-current": step.id === page.step ? "true" : null,
            },
            mark(stepStatus(step)),
            name(cut(step.name || step.id, 40)),
            step.output_version > 1 &&
              h("span", { class: "number-tag", title: "versions" }, count(step.output_version)),
          ),
        ),
      ),
    ),
    found.length > LISTED && h("p", { class: "dim" }, `and ${count(found.length - LISTED)} more: filter them`),
  );
}

function drawOutput(page, { versions, text, shown, choose, more }) {
  const form = (value, label) =>
    h(
      "button",
      {
        type: "button",
        class: "chip",
        "data-form": value,
        "aria-pressed": String(shown.form === value),
        on: {
          click: () => {
            shown.form = value;
            choose(shown.version);
            page.redraw();
          },
        },
      },
      label,
    );
  return [
    h(
      "div",
      { class: "card-head" },
      h("h3", {}, name(page.step)),
      h("div", { class: "chips", role: "group", "aria-label": "Form" }, form("pretty", "Pretty"), form("raw", "Raw")),
    ),
    loadedPart(versions, (data) => drawVersions(data.items, shown, choose, page), "Looking for its versions"),
    versions.data && shown.version !== null && loadedPart(text, (data) => drawText(data, more), "Loading the output"),
  ];
}

function drawVersions(items, shown, choose, page) {
  if (!items.length) return empty("It has no output", page.at ? "It had none then." : "");
  const chosen = items.find((each) => each.version === shown.version);
  const select = (event) => {
    choose(Number(event.target.value));
    page.redraw();
  };
  return h(
    "p",
    { class: "output-about" },
    items.length > 1 &&
      h(
        "label",
        {},
        "Version ",
        h(
          "select",
          { name: "version", on: { change: select } },
          items.map((each) =>
            h("option", { value: each.version, selected: each.version === shown.version }, count(each.version)),
          ),
        ),
      ),
    chosen && [
      since(chosen.timestamp),
      chosen.agent_id && h("span", {}, "by ", name(chosen.agent_id)),
      h("span", {}, bytes(chosen.size_bytes)),
      h(
        "span",
        { class: "dim", title: chosen.checksum },
        "SHA-256 ",
        id(chosen.checksum, 17),
        copyButton(chosen.checksum, "checksum"),
      ),
    ],
  );
}

function drawText(data, more) {
  const isPart = data.next_offset !== null && data.next_offset !== undefined;
  return [
    h(
      "div",
      { class: "output-tools" },
      h(
        "span",
        { class: "dim" },
        `${visible(data.media)}, ${plural(data.total_chars, data.unit === "bytes" ? "byte" : "character")}`,
        isPart && `, the first ${count(data.next_offset)} are shown`,
      ),
      h(
        "button",
        {
          type: "button",
          class: "small",
          "data-action": "copy",
          on: { click: () => copyText(data.text, isPart ? "the part that is shown" : "the output") },
        },
        "Copy",
      ),
    ),
    h("pre", { class: "output-text", tabindex: 0, "aria-label": "Output", "data-output": true }, data.text),
    isPart &&
      h(
        "p",
        { class: "more" },
        h("button", { type: "button", "data-more": true, on: { click: more } }, "Show more of it"),
      ),
  ];
}
