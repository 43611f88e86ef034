// Elements, symbols with their indices, and numbers. Text becomes a text node always, so that none is taken for HTML.

const SVG = "http://www.w3.org/2000/svg";

function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, content] of Object.entries(attributes)) {
    if (content === null || content === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), content);
    else element.setAttribute(name, content === true ? "" : content);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

// The colour of a quantity, as a class.
const COLOUR = { z: "z", a: "a", "g′": "slope", δ: "delta", Δ: "grad", D: "grad", J: "cost", y: "target", x: "a" };

// A symbol such as z with layer (2) above and unit 1 below.
function symbol(letter, layer = null, below = null, after = "") {
  const above = layer === null ? "" : `(${layer})`;
  const indices = below === null ? sup(above) : el("span", { class: "indices" }, el("span", {}, above), el("span", {}, below));
  const upright = "ΘΔDWJΣ".includes(letter[0]) ? "b" : "i";
  return el("span", { class: `symbol ${COLOUR[letter] ?? "weight"}` }, el(upright, {}, letter), layer === null && below === null ? "" : indices, after);
}

// A symbol without a layer, and with an index below.
function plain(letter, below) {
  return el("span", { class: `symbol ${COLOUR[letter] ?? "weight"}` }, el("i", {}, letter), below === undefined ? "" : el("sub", {}, below));
}

// A number as it is printed, with a minus sign for the hyphen.
function shown(text) {
  return text === "-0" ? "0" : text.replace(/-/g, "−");
}

function number(text, quantity = "", attributes = {}) {
  return el("span", { class: `number ${COLOUR[quantity] ?? quantity}`, ...attributes }, shown(text));
}

// A number inside of an expression: a negative one stands in parentheses.
function factor(text, quantity) {
  return text.startsWith("-") && text !== "-0" ? ["(", number(text, quantity), ")"] : number(text, quantity);
}

// Parts of an expression that stay on one line.
function together(...parts) {
  return el("span", { class: "together" }, ...parts);
}

// Terms with a plus between them, or a minus where the first number of a term has one; each stays on one line.
function sum(terms, end = "") {
  return terms.map(([first, ...others], position) => {
    const isLast = position === terms.length - 1;
    if (!(first instanceof Leading)) return [together(position ? "+ " : "", first, others, isLast ? end : ""), " "];
    const isNegative = first.text.startsWith("-");
    const before = position ? (isNegative ? "− " : "+ ") : "";
    return [together(before, number(position && isNegative ? first.text.slice(1) : first.text, first.quantity), others, isLast ? end : ""), " "];
  });
}

// The first number of a term, whose sign can become the sign before the term.
class Leading {
  constructor(text, quantity = "weight") {
    this.text = text;
    this.quantity = quantity;
  }
}

function sup(...parts) {
  return el("sup", {}, ...parts);
}

// The result of a computation: where it belongs is in its attributes.
function result(text, quantity, layer, unit, column = null, sample = null) {
  const place = { "data-quantity": quantity, "data-layer": layer, "data-unit": unit, "data-column": column, "data-sample": sample };
  return el("b", { class: `result ${COLOUR[quantity] ?? "weight"}`, ...place }, shown(text));
}
