// The view is in the address, so that it can be kept and sent.

/** What the address says: `path` and `query`, whose values are texts (of several with one name: the first). */
export function here() {
  return { path: location.pathname, query: new URLSearchParams(location.search) };
}

/** The address of a view. Parameters that are empty are left out; a list stands for several. */
export function to(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") query.append(name, each);
    }
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

/** This address with some parameters changed. */
export function changed(parameters) {
  const { path, query } = here();
  const kept = {};
  for (const name of query.keys()) kept[name] = query.getAll(name);
  return to(path, { ...kept, ...parameters });
}

let onChange = () => {};

/** Call `listener` whenever the address changes; links within the page are followed without loading it anew. */
export function follow(listener) {
  onChange = listener;
  window.addEventListener("popstate", () => listener());
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    const isPlain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (!link || !isPlain || event.defaultPrevented || link.hasAttribute("download")) return;
    if (link.origin !== location.origin || link.getAttribute("href").startsWith("#")) return;
    event.preventDefault();
    go(link.getAttribute("href"));
  });
}

/** Go to an address of the page. `replace` leaves no step to go back to: for what is typed or dragged. */
export function go(address, { replace = false } = {}) {
  if (address === location.pathname + location.search) return;
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  onChange();
}
