// Making elements. Data becomes text here and nowhere markup: no module of the console reads HTML from a string.

const SVG = "http://www.w3.org/2000/svg";

/**
 * @typedef {Node | string | null | undefined | false} Child
 */

/**
 * Make an element. A property that is a function listens to the event of its name; others are attributes.
 * @param {string} tag
 * @param {Record<string, any>} [properties]
 * @param {...(Child | Child[])} children texts become text
 * @returns {HTMLElement}
 */
export function el(tag, properties = {}, ...children) {
  return finished(document.createElement(tag), properties, children);
}

/**
 * Make an element of SVG.
 * @param {string} tag
 * @param {Record<string, any>} [properties]
 * @param {...(Child | Child[])} children
 * @returns {SVGElement}
 */
export function svg(tag, properties = {}, ...children) {
  return finished(document.createElementNS(SVG, tag), properties, children);
}

/**
 * Return the element of that id, which the page has.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  return document.getElementById(id);
}

/**
 * Return a text with what stands between backticks as code.
 * @param {string} text
 * @returns {Child[]}
 */
export function withCode(text) {
  return text.split(/`([^`]*)`/).map((part, at) => (at % 2 ? el("code", {}, part) : part));
}

function finished(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child || child === ""));
  return element;
}
