// Verified entries put together: requests with their decisions and sessions, and what each custodian did.
// An entry that is not proved to be in the log, or not valid, is left out of every figure.

import { name, seconds, servedBy, who } from "./words.mjs";

export function tell(entries) {
  const story = { requests: new Map(), versions: new Set(), custodians: new Map(), begin: Infinity, end: 0, left: 0 };
  for (const found of entries) {
    if (!found.entry || !found.inLog || found.state === "bad") {
      story.left += 1;
      continue;
    }
    const time = seconds(found.entry.time);
    story.begin = Math.min(story.begin, time);
    story.end = Math.max(story.end, time);
    take(story, found, time);
  }
  return story;
}

function take(story, found, time) {
  const { entry, index } = found;
  if (entry.type === "manifest") story.versions.add(entry.version);
  if (entry.type === "request" && !story.requests.has(entry.request)) story.requests.set(entry.request, asked(found, time));
  const request = story.requests.get(entry.request);
  if (entry.type === "decision" && entry.actor) decide(story, request, entry, time, index);
  if (!request) return;
  request.entries.push(found);
  request.last = Math.max(request.last, time);
  if (Object.hasOwn(STEPS, entry.type)) STEPS[entry.type](request, entry, time, index);
}

function asked(found, time) {
  const { entry, index } = found;
  const terms = found.documents.find((document) => document.kind === "terms")?.says;
  const request = found.documents.find((document) => document.kind === "request")?.says;
  return {
    index, time, last: time, digest: entry.request, lease: entry.terms, version: entry.version, who: entry.beneficiary,
    requester: who(entry), budget: terms ? Number(terms.bytes) : null, ends: terms ? seconds(terms.not_after) : null,
    purpose: request?.purpose ?? "", reason: request?.reason ?? "", ticket: request?.ticket ?? "",
    decisions: [], sessions: new Map(), entries: [], granted: null, stopped: null, closed: null, state: "requested",
  };
}

function decide(story, request, entry, time, index) {
  const person = name(entry.actor.id);
  const one = { person, time, index, verdict: entry.verdict, version: entry.version, after: request ? time - request.time : null };
  if (!story.custodians.has(person)) story.custodians.set(person, []);
  story.custodians.get(person).push(one);
  request?.decisions.push(one);
}

const STEPS = {
  grant: (request, entry, time) => Object.assign(request, { granted: time, state: "granted" }),
  "opening-outcome": (request, entry) => Object.assign(request, entry.outcome === "ok" ? { state: "open" } : {}),
  "session-intent": (request, entry, time, index) =>
    request.sessions.set(entry.session, { index, time, ended: null, ceiling: Number(entry.ceiling), served: null, outcome: "" }),
  "session-outcome": (request, entry, time) => {
    const session = request.sessions.get(entry.session);
    if (session) Object.assign(session, { ended: time, served: servedBy(entry), outcome: entry.outcome });
  },
  stop: (request, entry, time) => Object.assign(request, { stopped: request.stopped ?? time, state: `${entry.reason}, not closed` }),
  close: (request, entry, time) =>
    entry.reason === "broker-lost" ? Object.assign(request, { state: "granted" }) : Object.assign(request, { closed: time, state: entry.reason }),
};

export const servedOf = (request) => [...request.sessions.values()].reduce((sum, session) => sum + (session.served ?? 0), 0);

export const by = (request, verdict) => request.decisions.filter((one) => one.verdict === verdict).map((one) => one.person);

export function median(numbers) {
  const sorted = numbers.filter((number) => number !== null).sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : null;
}
