// Functions to create elements. Text is only inserted as text nodes, never as HTML, so the content of a record cannot
// become part of the page.

const svgSpace = 'http://www.w3.org/2000/svg';

/** fill appends children to an element: nodes, texts, lists of them; null, undefined and false are skipped. */
function fill(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/**
 * set sets the properties of an element. onclick and similar become listeners, class and aria-… become attributes, and
 * true becomes an empty attribute.
 */
function set(element, props) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  return element;
}

/** h creates an HTML element. */
export const h = (tag, props, ...children) => fill(set(document.createElement(tag), props), children);

/** s creates an SVG element. */
export const s = (tag, props, ...children) => fill(set(document.createElementNS(svgSpace, tag), props), children);

/** replace replaces the children of an element. */
export function replace(element, ...children) {
  element.replaceChildren();
  return fill(element, children);
}

/** update sets a text only if it changed, to avoid flicker and repeated announcements. */
export function update(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let count = 0;

/** newId returns an unused id, for labels. */
export const newId = (prefix) => `${prefix}-${++count}`;

/** calm reports whether the user prefers reduced motion. */
export const calm = () => matchMedia('(prefers-reduced-motion: reduce)').matches;
