// Tables that sort, filter, turn pages and open rows. Each keeps its own state; nothing is stored.

import { clear, el } from "./dom.mjs";
import { count, visible } from "./words.mjs";

const ROWS = 25;

// `columns`: {name, value(row), show(row), text(row), numeric, time}. `details(row)` makes what an opened row shows, when it is opened.
export function table(place, { caption, columns, rows, details, what, many = `${what}s`, sorted = 0, descending = false }) {
  const state = { rows, filter: "", sorted, descending, first: 0, open: new Set() };
  const texts = new Map();
  const input = el("input", { type: "search", placeholder: `Filter ${many}`, "aria-label": `Filter ${many}`, oninput: () => filter(input.value) });
  const total = el("span", { class: "total", role: "status" });
  const head = el("tr");
  const body = el("tbody");
  const pager = el("div", { class: "pager" });
  const grid = el("table", {}, el("caption", {}, caption), el("thead", {}, head), body);
  clear(place).append(el("div", { class: "tools" }, input, total), el("div", { class: "scroll" }, grid), pager);

  const text = (row) => {
    if (!texts.has(row)) texts.set(row, columns.map((column) => visible(column.text ? column.text(row) : column.value(row))).join(" ").toLowerCase());
    return texts.get(row);
  };

  function filter(words) {
    Object.assign(state, { filter: words.trim().toLowerCase(), first: 0 });
    if (input.value !== words) input.value = words;
    draw();
  }

  function chosen() {
    const wanted = state.filter.split(/\s+/).filter(Boolean);
    const found = state.rows.filter((row) => wanted.every((word) => text(row).includes(word)));
    const { value } = columns[state.sorted];
    const sign = state.descending ? -1 : 1;
    return found.sort((one, other) => sign * order(value(one), value(other)));
  }

  function sort(place) {
    state.descending = state.sorted === place ? !state.descending : Boolean(columns[place].numeric);
    Object.assign(state, { sorted: place, first: 0 });
    draw();
    head.children[place].querySelector("button").focus();
  }

  function header(column, place) {
    const active = state.sorted === place;
    const direction = active ? (state.descending ? "descending" : "ascending") : "none";
    const arrow = active ? (state.descending ? " \u2193" : " \u2191") : "";
    return el("th", { scope: "col", "aria-sort": direction, class: column.numeric ? "number" : null },
      el("button", { type: "button", onclick: () => sort(place) }, column.name, el("span", { "aria-hidden": "true" }, arrow)));
  }

  function line(row) {
    const open = state.open.has(row);
    const toggle = () => {
      if (!state.open.delete(row)) state.open.add(row);
      draw();
      body.querySelector(`tr[data-row="${state.rows.indexOf(row)}"] button`)?.focus();
    };
    const cells = columns.map((column, place) => {
      const shown = column.show ? column.show(row) : column.value(row);
      const opener = place === 0 && details ? el("button", { type: "button", class: "open", "aria-expanded": String(open), onclick: toggle }, shown) : shown;
      return el("td", { class: column.numeric ? "number" : column.time ? "time" : null, "data-label": column.name }, opener);
    });
    const lines = [el("tr", { "data-row": state.rows.indexOf(row), class: open ? "opened" : null }, cells)];
    if (open) lines.push(el("tr", { class: "details" }, el("td", { colspan: columns.length }, details(row))));
    return lines;
  }

  function turn(by) {
    state.first += by * ROWS;
    draw();
  }

  function draw() {
    const found = chosen();
    clear(head).append(...columns.map(header));
    clear(body).append(...found.slice(state.first, state.first + ROWS).flatMap(line));
    if (!found.length) body.append(el("tr", {}, el("td", { colspan: columns.length, class: "none" }, `No ${many}`)));
    clear(total).append(found.length === state.rows.length ? count(found.length, what, many) : `${count(found.length, what, many)} of ${state.rows.length.toLocaleString("en")}`);
    clear(pager);
    if (found.length > ROWS) {
      const last = Math.min(state.first + ROWS, found.length);
      pager.append(
        el("button", { type: "button", disabled: state.first === 0, onclick: () => turn(-1) }, "\u2190 Previous"),
        el("span", {}, `${(state.first + 1).toLocaleString("en")}\u2013${last.toLocaleString("en")} of ${found.length.toLocaleString("en")}`),
        el("button", { type: "button", disabled: last === found.length, onclick: () => turn(1) }, "Next \u2192"),
      );
    }
  }

  draw();
  return {
    filter,
    reveal(row) {
      state.open.add(row);
      state.filter = "";
      input.value = "";
      state.first = Math.floor(chosen().indexOf(row) / ROWS) * ROWS;
      draw();
      const found = body.querySelector(`tr[data-row="${state.rows.indexOf(row)}"] button`);
      found?.scrollIntoView({ block: "center" });
      found?.focus({ preventScroll: true });
    },
  };
}

function order(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one ?? "").localeCompare(String(other ?? ""), "en", { numeric: true });
}
