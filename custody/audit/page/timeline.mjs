// The timeline: for each version and identity its leases as bars, the sessions inside them, and what was refused.

import { clear, el, svg } from "./dom.mjs";
import { moment, size, span } from "./words.mjs";
import { servedOf } from "./story.mjs";

const LANES = 24;
const BAR = 16;
const GAP = 5;
const TICKS = [60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 7 * 86400, 14 * 86400, 30 * 86400, 91 * 86400, 365 * 86400];

export function drawTimeline(place, requests, begin, end, open, all = false) {
  const lanes = lanesOf(requests);
  const shown = all ? lanes : lanes.slice(0, LANES);
  const width = Math.max(280, place.clientWidth || 900);
  const room = Math.max(end - begin, 60);
  const x = (time) => 8 + ((Math.min(Math.max(time, begin), end) - begin) / room) * (width - 16);
  const parts = [];
  let y = 26;
  let version = null;
  for (const lane of shown) {
    if (lane.version !== version) {
      version = lane.version;
      y += 12;
      parts.push(svg("text", { x: 0, y, class: "version" }, fit(version, width, 8.2)));
      y += 18;
    }
    parts.push(svg("text", { x: 0, y, class: "identity" }, fit(lane.who, width, 6.6)));
    y += 7;
    const rows = [];
    for (const request of lane.requests) {
      const [from, to] = [x(request.time), x(request.closed ?? end)];
      let row = rows.findIndex((taken) => taken < from - 2);
      if (row < 0) row = rows.length;
      rows[row] = Math.max(to, from + 5);
      parts.push(bar(request, x, y + row * (BAR + GAP), end, open));
    }
    y += rows.length * (BAR + GAP) + 14;
  }
  const picture = svg("svg", { width, height: y, viewBox: `0 0 ${width} ${y}`, role: "group", "aria-label": "Timeline of leases and sessions" });
  picture.append(...axis(begin, end, x, y, width), ...parts);
  clear(place).append(picture);
  if (shown.length < lanes.length) {
    place.append(el("button", { type: "button", class: "more", onclick: () => drawTimeline(place, requests, begin, end, open, true) }, `Show all ${lanes.length} lanes`));
  }
}

function lanesOf(requests) {
  const lanes = new Map();
  for (const request of requests) {
    const key = `${request.version} ${request.who}`;
    if (!lanes.has(key)) lanes.set(key, { version: request.version, who: request.who, requests: [] });
    lanes.get(key).requests.push(request);
  }
  return [...lanes.values()].sort((one, other) => one.version.localeCompare(other.version) || one.who.localeCompare(other.who));
}

export function kindOf(request) {
  if (request.state === "requested") return "waiting";
  if (request.granted === null) return "refused";
  if (request.closed === null) return request.stopped === null ? "live" : "revoked";
  return request.state === "revoked" ? "revoked" : "over";
}

function bar(request, x, y, end, open) {
  const from = x(request.time);
  const granted = request.granted === null ? null : x(request.granted);
  const to = Math.max(x(request.closed ?? end), from + 4);
  const about = `${request.version} for ${request.who}: ${request.state}, asked ${moment(request.time)} by ${request.requester}, ${size(servedOf(request))} served`;
  const group = svg("g", { class: `lease ${kindOf(request)}`, tabindex: 0, role: "button", "aria-label": about,
    onclick: () => open(request), onkeydown: (event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), open(request)) });
  group.append(svg("title", {}, about), svg("rect", { class: "asked", x: from, y: y + BAR / 2 - 1.5, width: to - from, height: 3, rx: 1.5 }));
  if (granted === null) {
    group.append(svg("circle", { class: "end", cx: request.closed === null ? from : to, cy: y + BAR / 2, r: 5 }));
  } else {
    group.append(svg("rect", { class: "granted", x: granted, y, width: Math.max(to - granted, 4), height: BAR, rx: 4 }));
  }
  for (const session of request.sessions.values()) {
    const start = x(session.time);
    const stop = x(session.ended ?? request.closed ?? end);
    group.append(svg("rect", { class: session.outcome === "aborted" ? "session aborted" : "session", x: start, y: y + 4, width: Math.max(stop - start, 2.5), height: BAR - 8, rx: 2 }));
  }
  group.append(svg("rect", { class: "focus", x: from - 3, y: y - 3, width: to - from + 6, height: BAR + 6, rx: 5 }));
  return group;
}

function axis(begin, end, x, height, width) {
  const step = TICKS.find((seconds) => (end - begin) / seconds <= width / 110) ?? Math.ceil((end - begin) / 8 / TICKS.at(-1)) * TICKS.at(-1);
  const ticks = [];
  for (let time = Math.ceil(begin / step) * step; time <= end; time += step) {
    const label = step < 86400 ? moment(time).slice(5, 16) : moment(time).slice(0, 10);
    const anchor = x(time) > width - 50 ? "end" : x(time) < 50 ? "start" : "middle";
    ticks.push(svg("line", { class: "tick", x1: x(time), x2: x(time), y1: 20, y2: height }), svg("text", { class: "tick", x: x(time), y: 12, "text-anchor": anchor }, label));
  }
  return ticks.length ? ticks : [svg("text", { class: "tick", x: 0, y: 12 }, `${moment(begin)} and ${span(end - begin)} more`)];
}

const fit = (text, width, each) => (text.length * each < width ? text : `\u2026${text.slice(-Math.floor(width / each) + 1)}`);
