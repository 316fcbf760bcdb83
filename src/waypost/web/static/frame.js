// What stands around every view: where one can go, which store this is, and whether the page is live.

import { h, s, show } from "./dom.js";
import { visible } from "./format.js";
import { showHelp } from "./keys.js";
import { theme, toggleTheme } from "./theme.js";

const PLACES = [
  ["/", "Workflows", ["/", "/workflow"]],
  ["/sessions", "Sessions", ["/sessions", "/session"]],
  ["/storage", "Storage", ["/storage"]],
  ["/performance", "Performance", ["/performance"]],
];

const STATES = { live: "Live", lost: "Connection lost", off: "Not live" };
const TOLD = {
  live: "Changes are shown as they are made",
  lost: "The stream of changes was lost and is being looked for",
  off: "Changes are not followed",
};

const SUN =
  "M8 4.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7zM8 .8v1.6M8 13.6v1.6M.8 8h1.6M13.6 8h1.6" +
  "M2.9 2.9L4 4M12 12l1.1 1.1M2.9 13.1L4 12M12 4l1.1-1.1";
const MOON = "M13 9.8A5.8 5.8 0 0 1 6.2 3a5.5 5.5 0 1 0 6.8 6.8z";

/** Draw the frame. `store` is the answer of /api/store, or null; `state` that of the stream. */
export function drawFrame(element, path, store, state, redraw) {
  const dark = theme() === "dark";
  show(
    element,
    h("a", { class: "brand", href: "/", "aria-label": "Waypost: workflows" }, brandMark(), h("span", {}, "Waypost")),
    h(
      "nav",
      { class: "places", "aria-label": "Views" },
      PLACES.map(([href, label, paths]) =>
        h("a", { href, "aria-current": paths.includes(path) ? "page" : null }, label),
      ),
    ),
    h(
      "div",
      { class: "corner" },
      store &&
        h(
          "span",
          { class: "store", title: `${visible(store.location)} (${store.kind})`, "data-store": store.kind },
          h("bdi", {}, visible(store.location)),
        ),
      store?.read_only && h("span", { class: "tag", title: "Nothing can be changed from this page" }, "read only"),
      h(
        "span",
        { class: `live is-${state}`, "data-live": state, title: TOLD[state] },
        h("i", { "aria-hidden": "true" }),
        STATES[state],
      ),
      h(
        "button",
        {
          type: "button",
          class: "quiet",
          "aria-label": dark ? "Use the light theme" : "Use the dark theme",
          title: "Theme (t)",
          "data-action": "theme",
          on: {
            click: () => {
              toggleTheme();
              redraw();
            },
          },
        },
        icon(dark ? SUN : MOON),
      ),
      h(
        "button",
        {
          type: "button",
          class: "quiet",
          "aria-label": "Keys",
          title: "Keys (?)",
          "data-action": "help",
          on: { click: showHelp },
        },
        "?",
      ),
    ),
  );
}

function icon(path) {
  return s(
    "svg",
    { class: "icon", viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" },
    s("path", { d: path }),
  );
}

function brandMark() {
  return s(
    "svg",
    { class: "brand-mark", viewBox: "0 0 32 32", width: 26, height: 26, "aria-hidden": "true" },
    s("path", { class: "post", d: "M15 3h3v26h-3z" }),
    s("path", { class: "arm", d: "M5 6h18l5 4.5-5 4.5H5z" }),
    s("path", { class: "arm second", d: "M27 17H12l-4 3.5 4 3.5h15z" }),
  );
}
