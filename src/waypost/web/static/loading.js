// Data that a view shows: asked for, asked for again when it changed, and when it could not be had.

import { onCommit } from "./live.js";

const CALM_MS = 300; // changes within that time are asked for together
const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 30_000;
const MOST_ANEW = 1_000; // rows of a list that are asked for again

/** What `ask(signal)` answers. `data` is the last answer, kept beside an `error` that came since. */
export class Loaded {
  constructor(ask, changed) {
    Object.assign(this, { ask, changed, data: null, error: null, busy: false });
    this.again = false;
    this.took = 0;
    this.retry = FIRST_RETRY_MS;
    this.timer = null;
    this.request = null;
  }

  /** Ask now; while an answer is awaited, once more after it. */
  async load() {
    clearTimeout(this.timer);
    this.timer = null;
    if (this.busy) {
      this.again = true;
      return;
    }
    this.busy = true;
    const mine = (this.request = new AbortController());
    const began = performance.now();
    try {
      this.data = await this.ask(mine.signal, this.data);
      this.error = null;
      this.retry = FIRST_RETRY_MS;
    } catch (error) {
      if (mine.signal.aborted) return;
      this.error = error;
    }
    this.took = performance.now() - began;
    this.busy = false;
    this.changed();
    this.next();
  }

  next() {
    if (this.again) {
      this.again = false;
      this.soon();
    } else if (this.error && (this.error.retryable || !this.error.status)) {
      this.timer = setTimeout(() => this.load(), this.retry);
      this.retry = Math.min(this.retry * 2, LONGEST_RETRY_MS);
    }
  }

  /** Ask in a moment, the later the longer the last answer took: what changes all the time must not keep us busy. */
  soon() {
    if (this.busy) this.again = true;
    else if (this.timer === null || this.error) {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.load(), Math.max(CALM_MS, 4 * this.took));
    }
  }

  /** Forget what was asked and begin anew: the question has changed. */
  restart({ keep = false } = {}) {
    this.close();
    if (!keep) this.data = null;
    this.error = null;
    this.load();
  }

  /** Ask no more. */
  close() {
    clearTimeout(this.timer);
    this.timer = null;
    this.request?.abort();
    this.busy = false;
    this.again = false;
  }
}

/** Ask again whenever a commit concerns it, or some may have been missed. Returns how to stop. */
export function keepFresh(loaded, concerns = () => true) {
  return onCommit((commit) => {
    if (commit === null || concerns(commit)) loaded.soon();
  });
}

/** Ask again now and then while the page is seen: a death makes no commit. Returns how to stop. */
export function lookAgain(loaded, everyMs) {
  const timer = setInterval(() => document.visibilityState === "visible" && loaded.soon(), everyMs);
  return () => clearInterval(timer);
}

/** A list in pages: `data` is {items, next_cursor}. `ask(signal, cursor, limit)` answers one page. */
export class Pages extends Loaded {
  constructor(ask, keyOf, changed, limit = 100) {
    super((signal, old) => this.first(signal, old), changed);
    Object.assign(this, { askPage: ask, keyOf, limit, moreIsDue: false });
  }

  /** All pages anew that were there already, as far as that is not too much; the rest stays as it was. */
  async first(signal, old) {
    const wanted = Math.min(old?.items.length ?? 0, MOST_ANEW);
    const first = await this.askPage(signal, null, this.limit);
    const items = [...first.items];
    let cursor = first.next_cursor;
    while (cursor !== null && items.length < wanted) {
      const page = await this.askPage(signal, cursor, this.limit);
      items.push(...page.items);
      cursor = page.next_cursor;
    }
    if (cursor === null || !old || old.items.length <= items.length) return { ...first, items, next_cursor: cursor };
    const seen = new Set(items.map(this.keyOf));
    const rest = old.items.slice(items.length).filter((item) => !seen.has(this.keyOf(item)));
    return { ...first, items: [...items, ...rest], next_cursor: old.next_cursor };
  }

  /** One page more, behind what is being asked already. */
  async more() {
    this.moreIsDue = this.busy;
    if (this.busy || !this.data?.next_cursor) return;
    this.busy = true;
    const mine = (this.request = new AbortController());
    try {
      const page = await this.askPage(mine.signal, this.data.next_cursor, this.limit);
      const seen = new Set(this.data.items.map(this.keyOf));
      const fresh = page.items.filter((item) => !seen.has(this.keyOf(item)));
      this.data = { ...page, items: [...this.data.items, ...fresh] };
      this.error = null;
    } catch (error) {
      if (mine.signal.aborted) return;
      this.error = error;
    }
    this.busy = false;
    this.changed();
    this.next();
  }

  next() {
    if (this.moreIsDue) this.more();
    else super.next();
  }

  close() {
    super.close();
    this.moreIsDue = false;
  }
}
