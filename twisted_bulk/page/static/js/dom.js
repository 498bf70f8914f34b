// Elements, made of text and never of markup: nothing that a URL, a name or an error has can run.

// Where the screen is narrow, the style sheet makes blocks of tables, which would lose their meaning
// for screen readers.
const ROLES = { table: "table", thead: "rowgroup", tbody: "rowgroup", tr: "row", td: "cell" };

const SVG = "http://www.w3.org/2000/svg";

// An element. Properties: attributes by name; `on`: listeners by event; `value`, `checked`,
// `disabled` and the like as the element has them. Children: elements, texts, or lists of these;
// null and false are left out.
export function h(tag, properties, ...children) {
  const element = fill(document.createElement(tag), properties, children);
  const role = tag === "th" ? { row: "rowheader", col: "columnheader" }[properties.scope] : ROLES[tag];
  if (role) element.setAttribute("role", role);
  return element;
}

export function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "value" || name === "checked" || name === "disabled" || name === "open") {
      element[name] = value;
    } else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(9)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

// Replace the children of an element. The focus stays: on what has the same id or the same words, or
// else on the element itself.
export function put(element, ...children) {
  const before = element.contains(document.activeElement) && element !== document.activeElement ? document.activeElement : null;
  element.replaceChildren();
  append(element, children);
  if (!before) return element;
  const same = [...element.querySelectorAll(before.localName)].find((one) => (before.id ? one.id === before.id : one.textContent === before.textContent));
  if (!same) element.tabIndex = -1;
  (same || element).focus({ preventScroll: true });
  return element;
}

// Set a text, only if it is another one: a screen reader and a selection are not disturbed.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A text of a user's, whose direction is its own.
export function own(text) {
  return h("bdi", null, text);
}

export function button(label, click, properties) {
  return h("button", { type: "button", on: { click }, ...properties }, label);
}
