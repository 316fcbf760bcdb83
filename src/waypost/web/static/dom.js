// The one maker of elements, and the one that changes what is shown into what is to be shown.
//
// Text gets into the page as text nodes only, attributes by setAttribute; nothing is parsed as HTML, so whatever is
// stored stays text. A view returns a fresh tree of elements, and `morph` changes the shown one in place: the nodes
// stay, and with them focus, scroll and what the reader has opened.

const SVG = "http://www.w3.org/2000/svg";

const handlers = new WeakMap(); // element → {type: function}, so that morph can hand over newer ones
const islands = new WeakMap(); // element → function that fills it by itself

/** An HTML element. Props: `class`, attributes, `on: {click: f}`, `style: {"--name": text}`, `own: [name, fill]`. */
export function h(tag, props, ...children) {
  return make(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function s(tag, props, ...children) {
  return make(document.createElementNS(SVG, tag), props, children);
}

function make(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") listen(element, value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else if (name === "own") own(element, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(element, child);
    else if (child instanceof Node) element.appendChild(child);
    else if (child !== null && child !== undefined && child !== false) {
      element.appendChild(document.createTextNode(String(child)));
    }
  }
}

function listen(element, given) {
  const known = handlers.get(element) ?? {};
  for (const type of Object.keys(given)) if (!(type in known)) element.addEventListener(type, dispatch);
  handlers.set(element, { ...known, ...given });
}

function dispatch(event) {
  handlers.get(event.currentTarget)?.[event.type]?.(event);
}

// --- islands: elements whose children are drawn by somebody else, who needs to know their size ---

function own(element, [name, fill]) {
  element.setAttribute("data-own", name);
  islands.set(element, fill);
}

/** Let each island below an element draw itself, now that it has its place. */
export function settle(root) {
  for (const element of root.querySelectorAll("[data-own]")) islands.get(element)?.(element);
}

// --- changing what is shown ---

/** Make the children of `parent` be as `wanted` (one element, or several), in place where they are alike. */
export function show(parent, ...wanted) {
  const fragment = document.createDocumentFragment();
  append(fragment, wanted);
  morphChildren(parent, fragment);
}

function alike(old, fresh) {
  return (
    old.nodeType === fresh.nodeType &&
    old.nodeName === fresh.nodeName &&
    keyOf(old) === keyOf(fresh) &&
    ownName(old) === ownName(fresh)
  );
}

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);
const ownName = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-own") : null);

function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  morphAttributes(old, fresh);
  morphHandlers(old, fresh);
  if (islands.has(fresh)) {
    islands.set(old, islands.get(fresh));
    return;
  }
  morphChildren(old, fresh);
  if (old.nodeName === "SELECT" && old !== document.activeElement) old.value = fresh.value;
}

function morphAttributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (fresh.hasAttribute(name) || name === "style" || (name === "open" && old.nodeName === "DETAILS")) continue;
    old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (name === "style" || (name === "open" && old.nodeName === "DETAILS")) continue;
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  // a style attribute is forbidden by the policy of the page, the style object is not; islands set their own
  if (!islands.has(fresh) && old.style && old.style.cssText !== fresh.style.cssText)
    old.style.cssText = fresh.style.cssText;
  if (old.nodeName === "INPUT" && old !== document.activeElement) {
    if (old.value !== fresh.value) old.value = fresh.value;
    if (old.checked !== fresh.checked) old.checked = fresh.checked;
  }
}

function morphHandlers(old, fresh) {
  const given = handlers.get(fresh);
  if (given) listen(old, given);
  else if (handlers.has(old)) handlers.set(old, {});
}

function morphChildren(old, fresh) {
  const keyed = new Map();
  for (let child = old.firstChild; child; child = child.nextSibling) {
    const key = keyOf(child);
    if (key !== null) keyed.set(key, child);
  }
  const wanted = [...fresh.childNodes];
  const kept = new Set(wanted.map(keyOf).filter((key) => key !== null));
  let place = old.firstChild;
  for (const child of wanted) {
    // what is keyed and wanted further on is moved when its turn comes, and not overwritten by another
    while (place && keyOf(place) !== null && !kept.has(keyOf(place))) place = removed(old, place);
    const key = keyOf(child);
    const found = key === null ? place : keyed.get(key);
    if (found && found.parentNode === old && alike(found, child)) {
      if (found === place) place = place.nextSibling;
      else old.insertBefore(found, place);
      morph(found, child);
    } else if (place && key === null && keyOf(place) === null) {
      const next = place.nextSibling;
      old.replaceChild(child, place);
      place = next;
    } else {
      old.insertBefore(child, place);
    }
  }
  while (place) place = removed(old, place);
}

function removed(parent, child) {
  const next = child.nextSibling;
  parent.removeChild(child);
  return next;
}
