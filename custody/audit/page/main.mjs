// The page: verify its data, then show what was found. Everything shown comes from entries and documents verified here,
// but for the findings of the audit, which are the word of whoever made the page.

import { checkList, clear, el, facts, mark, put, rowsOf, svg } from "./dom.mjs";
import { by, median, servedOf, tell } from "./story.mjs";
import { table } from "./tables.mjs";
import { drawTimeline, kindOf } from "./timeline.mjs";
import { verifyPage } from "./verify.mjs";
import { count, moment, seconds, size, span, what, who } from "./words.mjs";

const PERIODS = [["all", "All of it", Infinity], ["month", "Last 30 days", 30 * 86400], ["week", "Last 7 days", 7 * 86400], ["day", "Last 24 hours", 86400]];

async function main() {
  const data = JSON.parse(document.getElementById("data").textContent);
  document.title = `Access log of ${data.deployment}`;
  put("deployment", data.deployment);
  put("made", `Made ${moment(seconds(data.made))} UTC from a log of ${count(data.audit.size, "entry", "entries")}. Genesis trust root ${data.genesis.slice(0, 16).match(/.{1,4}/g)?.join(" ")}\u2026`);
  const page = await verifyPage(data, async (done, all) => {
    put(clear("headline"), `Verifying: ${done.toLocaleString("en")} of ${all.toLocaleString("en")} entries`);
    document.getElementById("progress").value = all ? done / all : 1;
    await new Promise((resume) => setTimeout(resume));
  });
  document.getElementById("progress").hidden = true;
  const story = tell(page.entries);
  banner(data, page, story);
  findings(data, page);
  checkpoint(data, page);
  const entries = entriesTable(data, page);
  const leases = leasesTable(story, entries);
  const draw = (period) => figures(story, period, leases);
  periods(story, draw);
  draw(Infinity);
  let waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => draw(chosen()), 150);
  });
  document.documentElement.dataset.state = verdictOf(data, page);
}

const chosen = () => PERIODS.find(([id]) => id === document.getElementById("period").value)[2];

const states = (page) => {
  const counts = { ok: 0, unchecked: 0, bad: 0 };
  for (const found of page.entries) counts[found.state] += 1;
  return counts;
};

function verdictOf(data, page) {
  const all = [...page.checkpoint.checks, ...page.roots.checks];
  if (states(page).bad || all.some((check) => check.state === "bad") || !data.audit.ok) return "bad";
  return page.able && page.checkpoint.accepted ? "ok" : "unchecked";
}

function banner(data, page, story) {
  const counts = states(page);
  const verdict = verdictOf(data, page);
  const broken = counts.bad + [...page.checkpoint.checks, ...page.roots.checks].filter((check) => check.state === "bad").length;
  const wrong = [broken ? `${count(broken, "check")} failed in this page` : "", data.audit.ok ? "" : `the audit has ${count(data.audit.found, "finding")}`].filter(Boolean).join("; ");
  const headline = { ok: "Verified in this browser", unchecked: "Not verified in this browser", bad: `Do not trust this log: ${wrong}` }[verdict];
  document.getElementById("banner").className = `banner ${verdict}`;
  put(clear("headline"), headline);
  const { checkpoint } = page;
  const cosigned = checkpoint.cosigners.filter((cosigner) => cosigner.state === "ok");
  put(clear("verdicts"),
    item(checkpoint.accepted ? "ok" : page.able ? "bad" : "unchecked", "Checkpoint", checkpoint.size === undefined ? "not readable" : `size ${checkpoint.size.toLocaleString("en")}, cosigned by ${count(cosigned.length, "witness", "witnesses")}`),
    item(page.roots.checks.some((check) => check.state === "bad") ? "bad" : page.able ? "ok" : "unchecked", "Trust roots", `${page.roots.roots.size} of ${data.roots.length}, from the pinned genesis on`),
    item(counts.bad ? "bad" : page.able ? "ok" : "unchecked", "Entries", `${(counts.ok + counts.unchecked).toLocaleString("en")} of ${page.entries.length.toLocaleString("en")} proved to be in the log, ${counts.ok.toLocaleString("en")} with every document and signature` + (counts.bad ? `, ${counts.bad} NOT VALID` : "")),
    item(data.audit.ok ? "ok" : "bad", "Audit, when made", data.audit.ok ? "every rule kept, nothing found" : count(data.audit.found, "finding")),
    data.left_out ? item("unchecked", "Not in this page", `${data.left_out.toLocaleString("en")} entries of the log`) : null,
    story.left ? item("bad", "Left out of all figures", `${count(story.left, "entry", "entries")} not valid`) : null);
}

const item = (state, label, text) => el("li", { class: state }, mark(state, ""), el("strong", {}, label), el("span", {}, text));

function periods(story, draw) {
  const select = el("select", { id: "period", onchange: () => draw(chosen()) }, PERIODS.map(([id, label]) => el("option", { value: id }, label)));
  put("periods", el("label", {}, "Period ", select), el("span", { class: "quiet" }, story.end ? `${moment(story.begin)} to ${moment(story.end)} UTC` : "no entries"));
}

function figures(story, period, leases) {
  const begin = Math.max(story.begin, story.end - period);
  const requests = [...story.requests.values()].filter((request) => request.last >= begin || request.closed === null);
  const sessions = requests.flatMap((request) => [...request.sessions.values()]);
  const tile = (value, label) => el("div", { class: "tile" }, el("b", {}, value.toLocaleString("en")), el("span", {}, label));
  put(clear("tiles"),
    tile(story.versions.size, "versions in custody"), tile(requests.length, "requests"),
    tile(requests.filter((request) => request.granted !== null).length, "leases granted"),
    tile(requests.filter((request) => kindOf(request) === "live").length, "live now"),
    tile(requests.filter((request) => kindOf(request) === "refused" || kindOf(request) === "revoked").length, "refused or revoked"),
    tile(sessions.length, "sessions"), tile(size(requests.reduce((sum, request) => sum + servedOf(request), 0)), "served"));
  if (requests.length) drawTimeline(document.getElementById("timeline"), requests, begin, story.end, leases.reveal);
  else put(clear("timeline"), el("p", { class: "none" }, "No requests"));
  budgets(requests);
  custodians(story, begin);
}

const share = (request) => (request.budget ? servedOf(request) / request.budget : 0);

function meter(request) {
  const part = Math.min(share(request), 1);
  const picture = svg("svg", { class: part > 0.9 ? "meter high" : "meter", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "all", width: 100, height: 8, rx: 2 }), svg("rect", { class: "part", width: part * 100, height: 8, rx: 2 }));
  return el("span", { class: "metered" }, picture, el("span", {}, `${size(servedOf(request))} of ${request.budget === null ? "unknown" : size(request.budget)}`));
}

function budgets(requests) {
  const granted = requests.filter((request) => request.granted !== null).sort((one, other) => share(other) - share(one)).slice(0, 10);
  put(clear("budgets"), granted.length === 0 ? el("p", { class: "none" }, "No leases") : el("ol", { class: "budgets" }, granted.map((request) =>
    el("li", {}, el("span", { class: "label" }, el("b", {}, request.version), el("span", { class: "quiet" }, request.who)), meter(request), el("span", { class: "percent" }, `${Math.round(share(request) * 100)} %`)))));
}

function custodians(story, begin) {
  const rows = [...story.custodians].map(([person, all]) => ({ person, all: all.filter((one) => one.time >= begin) })).filter((row) => row.all.length);
  const given = (row, verdict) => row.all.filter((one) => one.verdict === verdict).length;
  const after = (row) => median(row.all.map((one) => one.after));
  const fastest = (row) => Math.min(...row.all.map((one) => one.after ?? Infinity));
  const shown = (number) => (Number.isFinite(number) && number !== null ? span(number) : "unknown");
  table("custodians", {
    caption: "Custodians and what they decided", what: "custodian", rows, sorted: 1, descending: true,
    columns: [
      { name: "Custodian", value: (row) => row.person },
      { name: "Decisions", value: (row) => row.all.length, numeric: true },
      { name: "Approved", value: (row) => given(row, "approve"), numeric: true, show: (row) => parts(row, given) },
      { name: "Denied", value: (row) => given(row, "deny") + given(row, "veto"), numeric: true },
      { name: "Median time", value: (row) => after(row) ?? Infinity, show: (row) => shown(after(row)), numeric: true },
      { name: "Fastest", value: fastest, show: (row) => shown(fastest(row)), numeric: true },
      { name: "Last", value: (row) => row.all.at(-1).time, show: (row) => moment(row.all.at(-1).time), time: true },
    ],
  });
}

function parts(row, given) {
  const part = (given(row, "approve") / row.all.length) * 60;
  return el("span", { class: "parts" }, svg("svg", { viewBox: "0 0 60 8", width: 60, height: 8, "aria-hidden": "true" },
    svg("rect", { class: "denied", width: 60, height: 8, rx: 2 }), svg("rect", { class: "approved", width: part, height: 8, rx: 2 })), String(given(row, "approve")));
}

function findings(data, page) {
  const failed = page.entries.filter((found) => found.state === "bad");
  const rows = [
    ...data.audit.findings.map((finding) => ({ from: "audit", entry: finding.entry, code: finding.code, text: finding.text })),
    ...failed.flatMap((found) => found.checks.filter((check) => check.state === "bad").map((check) => ({ from: "this page", entry: found.index, code: "check", text: check.text }))),
  ];
  put("remarks", data.audit.remarks.map((remark) => el("li", {}, remark.text)));
  if (!rows.length) {
    put(clear("findings"), el("p", { class: "none" }, mark("ok", "Nothing was found, by the audit or by this page")));
    return;
  }
  table("findings", {
    caption: "Findings", what: "finding", rows, sorted: 1,
    columns: [
      { name: "Found by", value: (row) => row.from },
      { name: "Entry", value: (row) => row.entry ?? -1, show: (row) => (row.entry === null ? "all" : String(row.entry)), numeric: true },
      { name: "Check", value: (row) => row.code },
      { name: "What is wrong", value: (row) => row.text },
    ],
  });
}

function checkpoint(data, page) {
  const { checks, cosigners, origin, size: entries, root } = page.checkpoint;
  put(clear("checkpoint"), checkList([...checks, ...page.roots.checks]),
    facts([["Log", origin ?? "unknown"], ["Size", String(entries ?? "unknown")], ["Tree root", root ?? "unknown"], ["Genesis trust root", data.genesis]]),
    el("h3", {}, "Cosigners"),
    cosigners.length ? el("ul", { class: "cosigners" }, cosigners.map((cosigner) => el("li", { class: cosigner.state }, mark(cosigner.state, cosigner.text), " ", el("b", {}, cosigner.name), cosigner.time ? ` at ${moment(cosigner.time)} UTC` : "", el("span", { class: "quiet" }, cosigner.key)))) : el("p", { class: "none" }, "None"));
}

function leasesTable(story, entries) {
  return table("leases", {
    caption: "Requests and leases, newest first", what: "request", rows: [...story.requests.values()], sorted: 0, descending: true,
    columns: [
      { name: "Asked", value: (row) => row.time, show: (row) => moment(row.time), text: (row) => `${moment(row.time)} ${row.reason} ${row.purpose} ${row.ticket} ${row.digest}` },
      { name: "Version", value: (row) => row.version },
      { name: "For", value: (row) => row.who },
      { name: "Asked by", value: (row) => row.requester },
      { name: "Approved by", value: (row) => by(row, "approve").join(", ") || "nobody" },
      { name: "Stands", value: (row) => row.state, show: (row) => el("span", { class: `state ${kindOf(row)}` }, row.state) },
      { name: "Sessions", value: (row) => row.sessions.size, numeric: true },
      { name: "Bytes", value: servedOf, show: meter, numeric: true },
    ],
    details: (row) => [
      facts([["Why", row.reason ? `${row.purpose}: ${row.reason}` : "the request document is not in this page"], ["Ticket", row.ticket || "none"], ["Lease ends", row.ends ? `${moment(row.ends)} UTC` : "unknown"],
        ["Denied by", [...by(row, "deny"), ...by(row, "veto")].join(", ") || "nobody"], ["Request", row.digest], ["Lease", row.lease]]),
      el("h4", {}, "Its entries"),
      el("ul", { class: "trail" }, row.entries.map((found) => el("li", {}, el("button", { type: "button", class: "link", onclick: () => entries.reveal(found) }, `Entry ${found.index}`), " ", mark(found.state, ""), ` ${moment(seconds(found.entry.time))} ${who(found.entry)} ${what(found.entry)}`))),
    ],
  });
}

function entriesTable(data, page) {
  const say = (found, words) => (found.entry ? words(found.entry) : "NOT AN ENTRY");
  const wrong = new Map();
  for (const finding of data.audit.findings) wrong.set(finding.entry, [...(wrong.get(finding.entry) ?? []), finding]);
  return table("entries", {
    caption: "Entries of the log, newest first", what: "entry", many: "entries", rows: page.entries, sorted: 0, descending: true,
    columns: [
      { name: "Entry", value: (found) => found.index, numeric: true },
      { name: "Checked here", value: (found) => ["bad", "unchecked", "ok"].indexOf(found.state), show: (found) => mark(found.state, LABELS[found.state]), text: (found) => LABELS[found.state] },
      { name: "Time", value: (found) => found.entry?.time ?? "", show: (found) => say(found, (entry) => moment(seconds(entry.time))), time: true },
      { name: "Type", value: (found) => say(found, (entry) => entry.type) },
      { name: "Who", value: (found) => say(found, who) },
      { name: "What", value: (found) => say(found, what) },
    ],
    details: (found) => [
      checkList([...found.checks, ...(wrong.get(found.index) ?? []).map((finding) => ({ state: "bad", text: `audit: ${finding.text}` }))]),
      found.entry ? facts([["leaf hash", found.leaf], ...rowsOf(found.entry)]) : null,
      found.documents.map((document) => [el("h4", {}, `Document: ${document.kind}`), facts(rowsOf(document.says))]),
    ],
  });
}

const LABELS = { ok: "verified", unchecked: "in the log", bad: "NOT VALID" };

main().catch((error) => {
  document.documentElement.dataset.state = "bad";
  document.getElementById("banner").className = "banner bad";
  put(clear("headline"), `This page is damaged: ${error.message}`);
});
