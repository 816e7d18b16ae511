// Entries and figures in words. What is not printable is written as \u{...}; nothing is ever read as markup.

const UNSEEN = /[\p{C}\p{Zl}\p{Zp}]/gu;
const UNITS = [[2 ** 50, "PiB"], [2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [1024, "KiB"]];
const SPANS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

export const visible = (text) =>
  String(text).replace(UNSEEN, (letter) => `\\u{${letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}}`);

export function size(bytes) {
  for (const [unit, name] of UNITS) if (bytes >= unit) return `${(bytes / unit).toFixed(1)} ${name}`;
  return `${bytes} B`;
}

export function span(seconds) {
  for (const [unit, name] of SPANS) if (seconds >= unit) return `${Math.round(seconds / unit)} ${name}`;
  return "0 s";
}

export const seconds = (time) => Date.parse(time) / 1000;

export const moment = (at) => (Number.isFinite(at) && at > 0 && at < 8e12 ? new Date(at * 1000).toISOString().slice(0, 19).replace("T", " ") : "unknown");

export const short = (digest) => (digest ? `${digest.slice(0, 12)}\u2026` : "none");

export const name = (id) => id.replace(/^person:/, "").replace(/^broker:/, "broker ");

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

export const who = (entry) => (entry.actor ? name(entry.actor.id) : `broker ${entry.broker}`);

export const servedBy = (entry) => (entry.served ?? []).reduce((sum, item) => sum + Number(item.bytes), 0);

const WORDS = {
  root: (entry) => `trust root ${short(entry.documents[0].document)} enters into force`,
  manifest: (entry) => `sealed ${entry.version}`,
  request: (entry) => `asks for ${entry.version} for ${entry.beneficiary}`,
  "release-key": (entry) => `new release key for request ${short(entry.request)}`,
  decision: (entry) => `${{ approve: "approves", deny: "denies", veto: "vetoes" }[entry.verdict]} ${entry.version}`,
  release: (entry) => `sends the share of slot ${entry.slot.group}/${entry.slot.index}`,
  grant: (entry) => `grants ${entry.version} to ${entry.beneficiary}: approved by ${entry.persons.join(", ")}`,
  "opening-intent": (entry) => `rebuilds the key of ${entry.version} with the shares of ${entry.persons.join(", ")}`,
  "opening-outcome": (entry) => (entry.outcome === "ok" ? `lease ${short(entry.terms)} is open` : `opening failed: ${entry.reason}`),
  "session-intent": (entry) => `opens a session of ${entry.version}, at most ${size(Number(entry.ceiling))}`,
  "session-outcome": (entry) => `session ended ${entry.outcome}${entry.reason ? ` (${entry.reason})` : ""}: ${size(servedBy(entry))} served`,
  stop: (entry) => `stops ${entry.terms ? `lease ${short(entry.terms)}` : `request ${short(entry.request)}`}: ${entry.reason}`,
  close: (entry) => `closes ${entry.terms ? `lease ${short(entry.terms)}` : `request ${short(entry.request)}`}: ${entry.reason}`,
  hello: () => "asks which trust root is in force",
  system: (entry) => `${entry.reason}${entry.count === undefined ? "" : `, ${entry.count} times`}`,
};

export function what(entry) {
  try {
    return Object.hasOwn(WORDS, entry.type) ? WORDS[entry.type](entry) : entry.type;
  } catch {
    return `${entry.type}, which says less than it must`;
  }
}
