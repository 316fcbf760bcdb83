// Values as people read them. Everything returns text.

const NUMBER = new Intl.NumberFormat("en");
const MOMENT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const count = (number) => NUMBER.format(number);

/** "1 step", "3 steps". */
export function plural(number, word, several = `${word}s`) {
  return `${count(number)} ${number === 1 ? word : several}`;
}

/** "512 B", "1.2 MB"; a KB is 1,024 bytes, as on the command line. */
export function bytes(number) {
  if (number === null || number === undefined) return "–";
  let value = number;
  for (const unit of ["B", "KB", "MB", "GB", "TB"]) {
    const shown = unit === "B" || value >= 100 ? Math.round(value) : value.toFixed(1);
    if (value < 1024 || unit === "TB") return `${shown} ${unit}`;
    value /= 1024;
  }
  return "";
}

/** "820 ms", "4.2 s", "3 min 5 s", "2 h 14 min", "3 d 4 h". */
export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  if (ms < 1) return ms <= 0 ? "0 ms" : `${ms.toFixed(2)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  return pair(seconds, [
    [86400, "d"],
    [3600, "h"],
    [60, "min"],
    [1, "s"],
  ]);
}

function pair(seconds, units) {
  const first = units.findIndex(([size]) => seconds >= size);
  const [size, name] = units[first];
  const whole = Math.floor(seconds / size);
  const [smaller, below] = units[first + 1] ?? [];
  const rest = smaller ? Math.floor((seconds - whole * size) / smaller) : 0;
  return rest ? `${whole} ${name} ${rest} ${below}` : `${whole} ${name}`;
}

/** "just now", "12 s ago", "3 h ago", and a date after a month. */
export function ago(iso, now = Date.now()) {
  const seconds = Math.max(0, (now - Date.parse(iso)) / 1000);
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  if (seconds < 30 * 86400) return plural(Math.floor(seconds / 86400), "day") + " ago";
  return MOMENT.format(new Date(iso)).split(",")[0];
}

/** The moment in full, in the reader's time zone. */
export const moment = (iso) => (iso ? MOMENT.format(new Date(iso)) : "–");

/** The time of day. */
export const clock = (time) => CLOCK.format(new Date(time));

/** The day, as "28 Nov". */
export const day = (time) => DAY.format(new Date(time));

/** A stored name on one line: what would turn the direction of writing, or not be seen at all, is spelled out. */
export function visible(text) {
  return String(text ?? "").replace(HIDDEN, (one) => `\\u${one.codePointAt(0).toString(16).padStart(4, "0")}`);
}

const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** The middle left out of what is too long for its place. */
export function cut(text, most = 60) {
  const given = visible(text);
  if (given.length <= most) return given;
  const half = Math.floor((most - 1) / 2);
  return `${given.slice(0, half)}…${given.slice(-half)}`;
}

/** A value of a diff or of the context on one line. */
export function value(given, most = 400) {
  if (given === undefined) return "";
  const text = typeof given === "string" ? JSON.stringify(given) : (JSON.stringify(given) ?? "");
  return text.length > most ? `${visible(text.slice(0, most))}…` : visible(text);
}
