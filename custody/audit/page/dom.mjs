// Elements, made by name and text only: no string ever becomes markup (the page's policy forbids it as well).

import { visible } from "./words.mjs";

const SVG = "http://www.w3.org/2000/svg";

export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : visible(value));
  }
  for (const child of children.flat(3)) {
    if (child instanceof Node) node.append(child);
    else if (child !== null && child !== undefined && child !== "") node.append(document.createTextNode(visible(child)));
  }
  return node;
}

export const put = (place, ...children) => fill(typeof place === "string" ? document.getElementById(place) : place, {}, children);

export function clear(place) {
  const node = typeof place === "string" ? document.getElementById(place) : place;
  node.replaceChildren();
  return node;
}

const MARKS = {
  ok: ["\u2713", "verified"],
  unchecked: ["\u25d0", "partly"],
  bad: ["\u2717", "does not verify"],
};

// A verdict: sign, word and colour, so that none of them has to be seen alone.
export function mark(state, words = MARKS[state][1]) {
  return el("span", { class: `mark ${state}` }, el("span", { "aria-hidden": "true" }, MARKS[state][0]), ` ${words}`);
}

export const checkList = (checks) =>
  el("ul", { class: "checks" }, checks.map((check) => el("li", { class: check.state }, mark(check.state, check.text))));

export function facts(rows) {
  return el("dl", { class: "facts" }, rows.map(([label, value]) => [el("dt", {}, label), el("dd", {}, value)]));
}

// JSON as rows of (label, value): what a document or an entry says, field by field.
export function rowsOf(value, label = "") {
  if (Array.isArray(value) && value.every((item) => typeof item !== "object")) return [[label, value.join(", ") || "none"]];
  if (value === null) return [[label, "none"]];
  if (typeof value !== "object") return [[label, String(value)]];
  return Object.entries(value).flatMap(([name, inner]) => rowsOf(inner, label ? `${label} ${name}` : name.replaceAll("_", " ")));
}
