// Restore and fork: nothing is done before the reader has seen what would change and said yes.

import { get, post } from "../api.js";
import { announce } from "../announce.js";
import { dialogParts, openDialog } from "../dialog.js";
import { h } from "../dom.js";
import { count, moment, visible } from "../format.js";
import { Loaded } from "../loading.js";
import { id, loadedPart, problem, progress, tally } from "../parts.js";
import { go, to } from "../router.js";
import { drawChanges } from "./changes.js";

/** Show what a restore would change, ask, and say what came of it. */
export function askToRestore(page, checkpoint) {
  const asked = new Asked("Restore", checkpoint, (signal) =>
    get("/api/restore", { checkpoint: checkpoint.checkpoint_id }, signal),
  );
  asked.act = (preview) => post("/api/restore", { checkpoint: checkpoint.checkpoint_id, version: preview.version });
  asked.words = {
    title: "Go back to this checkpoint?",
    hint: "The workflow becomes what it was then, as a new version: its history stays, and you can go back again.",
    yes: "Restore",
    done: (result) => `Restored: the workflow is as it was, at version ${count(result.summary.version)}`,
    then: () => go(to("/workflow", { id: page.id })),
  };
  asked.open();
}

/** The same for a fork, whose id the reader chooses. */
export function askToFork(page, checkpoint) {
  const asked = new Asked("Fork", checkpoint, (signal) =>
    get("/api/fork", { checkpoint: checkpoint.checkpoint_id, new_id: asked.newId }, signal),
  );
  asked.newId = `${page.id}-fork`;
  asked.hasId = true;
  asked.act = () => post("/api/fork", { checkpoint: checkpoint.checkpoint_id, new_id: asked.newId });
  asked.words = {
    title: "Begin another workflow from this checkpoint?",
    hint: "It starts as this one was then. This one stays as it is.",
    yes: "Fork",
    done: () => `Forked as ${visible(asked.newId)}`,
    then: () => go(to("/workflow", { id: asked.newId })),
  };
  asked.open();
}

class Asked {
  constructor(verb, checkpoint, look) {
    Object.assign(this, { verb, checkpoint, error: null, isDoing: false, result: null });
    this.preview = new Loaded(look, () => this.dialog?.redraw());
  }

  open() {
    this.dialog = openDialog(
      `${this.verb} ${this.checkpoint.checkpoint_id}`,
      (close) => this.draw(close),
      () => this.closed(),
    );
    this.preview.load();
  }

  closed() {
    this.preview.close();
    this.dialog = null;
    if (this.result) this.words.then();
  }

  draw(close) {
    if (this.result)
      return dialogParts(
        "Done",
        h("p", { role: "status", "data-done": this.verb.toLowerCase() }, this.words.done(this.result)),
        h("button", { type: "button", class: "primary", "data-action": "close", on: { click: close } }, "Show it"),
      );
    const problems = (!this.preview.error && this.preview.data?.problems) || [];
    // what speaks against a restore is said and left to the reader; an id that is taken cannot be forked to
    const isNamed = !this.hasId || this.newId !== "";
    const canAct =
      isNamed && this.preview.data && !this.preview.error && !this.isDoing && !(this.hasId && problems.length);
    return dialogParts(
      this.words.title,
      [
        h(
          "p",
          {},
          id(this.checkpoint.checkpoint_id, 60),
          h("span", { class: "dim" }, ` ${moment(this.checkpoint.created_at)} `),
          visible(this.checkpoint.description ?? ""),
        ),
        h("p", { class: "dim" }, this.words.hint),
        this.hasId && this.drawId(),
        this.error && problem(this.error, null),
        this.error?.status === 409 &&
          !this.hasId &&
          h("p", {}, "It has changed since. Below is what would change now; look at it again."),
        problems.length > 0 &&
          h(
            "ul",
            { class: "problem" },
            problems.map((each) => h("li", {}, visible(each))),
          ),
        h(
          "div",
          { class: "preview", tabindex: 0, role: "region", "aria-label": "What will change" },
          loadedPart(this.preview, (data) => this.drawPreview(data), "Looking at what will change"),
        ),
      ],
      [
        h("button", { type: "button", "data-action": "cancel", on: { click: close } }, "Cancel"),
        h(
          "button",
          {
            type: "button",
            class: "primary",
            "data-action": "confirm",
            disabled: !canAct,
            on: { click: () => this.go() },
          },
          this.isDoing ? "…" : problems.length && !this.hasId ? `${this.words.yes} all the same` : this.words.yes,
        ),
      ],
    );
  }

  drawPreview(data) {
    if (!this.hasId) return drawChanges(data.items, data.cut, "What will change");
    return [
      h("p", {}, "The new workflow begins with:"),
      progress(data.summary.step_counts),
      h("ul", { class: "tallies" }, tally(data.summary.step_counts)),
    ];
  }

  drawId() {
    const type = (event) => {
      this.newId = event.target.value.trim();
      this.error = null;
      if (this.newId) this.preview.soon();
      else this.dialog.redraw();
    };
    return h(
      "p",
      {},
      h("label", { for: "new-id" }, "Id of the new workflow "),
      h("input", {
        id: "new-id",
        name: "new_id",
        value: this.newId,
        autocomplete: "off",
        spellcheck: "false",
        on: { input: type },
      }),
    );
  }

  async go() {
    this.isDoing = true;
    this.error = null;
    this.dialog.redraw();
    try {
      this.result = await this.act(this.preview.data);
      announce(this.words.done(this.result));
    } catch (error) {
      this.error = error;
      if (error.status === 409) this.preview.load(); // what was shown holds no more
    }
    this.isDoing = false;
    this.dialog?.redraw();
  }
}
