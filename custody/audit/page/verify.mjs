// From bytes to verdicts: what of this page's data verifies, entry by entry. Nothing here draws.

import { able, fromBase64, hex, parseCanonical, utf8 } from "./bytes.mjs";
import { bad, ok, unchecked, worst } from "./checks.mjs";
import { actorOf, checkSigner, followRoots, openEnvelope } from "./documents.mjs";
import { hasher, included, leafHash } from "./merkle.mjs";
import { checkCheckpoint } from "./note.mjs";

const STEP = 200;
const SIGNERS = { request: "requester", terms: "issuer", stop: "actor", hello: "actor", content: "sealer", sharing: "signer" };
const SIGNED = new Set(["root", "manifest", "request", "release-key", "decision", "release", "session-intent", "stop", "hello"]);
const ALONE = new Set(["opening-intent", "opening-outcome", "session-outcome", "close", "system"]);
const REPEATED = ["version", "content", "sharing", "request", "terms", "beneficiary", "verdict"];

// `data` is the page's JSON. `progress(done, all)` is awaited now and then, so that the page can draw meanwhile.
export async function verifyPage(data, progress = async () => {}) {
  const page = { able: await able(), roots: { roots: new Map(), newest: null, checks: [] }, checkpoint: null, entries: [] };
  if (page.able) {
    page.roots = await followRoots(data.roots, data.genesis);
    page.checkpoint = await checkCheckpoint(data.checkpoint, page.roots.newest?.says.witness_policy ?? []);
  } else {
    const why = unchecked("this browser cannot verify Ed25519 here: open the page in a current one, from a file or over https");
    page.roots.checks.push(why);
    page.checkpoint = { checks: [why], cosigners: [], accepted: false };
  }
  const hashes = data.hashes.map((text) => hex(fromBase64(text)));
  const nodeHash = hasher();
  for (const [done, item] of data.entries.entries()) {
    page.entries.push(await checkEntry(item, { data, page, hashes, nodeHash }));
    if (done % STEP === 0) await progress(done, data.entries.length);
  }
  checkQuorums(page);
  for (const found of page.entries) found.state = worst(found.checks);
  await progress(data.entries.length, data.entries.length);
  return page;
}

// An entry of a shape that can be shown. Whether it has what its type needs is for the audit to say.
function shaped(entry) {
  const text = (value) => typeof value === "string";
  const list = (value, each) => value === undefined || (Array.isArray(value) && value.every(each));
  const record = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  const good =
    record(entry) && entry.schema === "custody/entry/v1" && [entry.type, entry.broker, entry.root].every(text) && Number.isFinite(Date.parse(entry.time)) &&
    (entry.actor === undefined || (record(entry.actor) && text(entry.actor.id))) && list(entry.persons, text) && list(entry.served, record) &&
    list(entry.documents, (item) => record(item) && [item.kind, item.document, item.envelope].every(text)) &&
    ["version", "beneficiary", "request", "terms", "session", "reason", "verdict"].every((name) => entry[name] === undefined || text(entry[name]));
  if (!good) throw new Error("not of the shape of one");
  return entry;
}

export const entryBytes = (item) => (item.text === undefined ? fromBase64(item.bytes) : utf8(item.text));

async function checkEntry(item, around) {
  const found = { index: item.index, entry: null, leaf: "", inLog: false, documents: [], checks: [], state: "unchecked" };
  try {
    found.entry = shaped(parseCanonical(item.text ?? ""));
  } catch (error) {
    found.checks.push(bad(`not an entry: ${error.message}`));
  }
  if (!around.page.able) {
    found.checks.push(unchecked("nothing is verified in this browser"));
    return found;
  }
  found.leaf = await leafHash(entryBytes(item));
  const { size, root, accepted } = around.page.checkpoint;
  const path = item.proof.map((place) => around.hashes[place] ?? "");
  const stands = size !== undefined && (await included(item.index, size, found.leaf, path, root, around.nodeHash));
  found.inLog = stands && accepted;
  found.checks.push(
    !stands
      ? bad("its proof does not lead to the checkpoint: NOT AN ENTRY OF THIS LOG")
      : accepted
        ? ok(`in the log: its proof leads to the checkpoint of size ${size}`)
        : bad("its proof leads to a checkpoint that is not accepted"),
  );
  if (found.entry && !found.entry.documents) found.checks.push(...withoutDocuments(found.entry.type));
  for (const reference of found.entry?.documents ?? []) await checkDocument(found, reference, around);
  return found;
}

// A grant rests on decisions (see below); what a broker says by itself is its word; all else must name documents.
function withoutDocuments(type) {
  if (type === "grant") return [];
  if (SIGNED.has(type)) return [bad(`a ${type} that names no document: nobody has signed it`)];
  const word = ALONE.has(type) ? "what it says is the word of the broker, which the audit has judged by the rules" : "of a type that this page does not know";
  return [unchecked(word)];
}

async function checkDocument(found, reference, { data, page }) {
  const text = Object.hasOwn(data.documents, reference.envelope) ? data.documents[reference.envelope] : undefined;
  if (text === undefined) {
    const root = reference.kind === "root" && page.roots.roots.has(reference.document);
    found.checks.push(root ? ok("root: verified with the chain of trust roots") : unchecked(`${reference.kind}: the document is not in this page`));
    return;
  }
  try {
    const document = await openEnvelope(text);
    if (document.envelope !== reference.envelope || document.digest !== reference.document || document.kind !== reference.kind) {
      throw new Error("not the document that the entry names");
    }
    found.documents.push(document);
    const claimed = Object.hasOwn(SIGNERS, document.kind) ? actorOf(document.says[SIGNERS[document.kind]]) : claimedBy(document);
    found.checks.push(claimed ? await checkSigner(document, claimed, page.roots.roots.get(found.entry.root)) : unchecked(`${document.kind}: its signature is not checked here`));
    if (document.kind === (found.entry.type === "manifest" ? "content" : found.entry.type)) found.checks.push(...repeats(found.entry, document.says, claimed));
  } catch (error) {
    found.checks.push(bad(`${reference.kind}: ${error.message}`));
  }
}

function claimedBy({ kind, says }) {
  if (kind === "decision" || kind === "release") return `person:${says.person}`;
  return kind === "release-key" ? `broker:${says.broker}` : "";
}

// An entry repeats what its document says, and its actor is who signed it.
function repeats(entry, says, claimed) {
  const wrong = REPEATED.filter((name) => name in says && name in entry && says[name] !== entry[name]);
  if (claimed && entry.actor?.id !== claimed) wrong.push("actor");
  return wrong.length ? [bad(`the entry differs from its document: ${wrong.join(", ")}`)] : [];
}

// A grant needs approvals by distinct persons, one quorum of each group of the sharing, all on its terms.
function checkQuorums(page) {
  const sharings = new Map();
  const approvals = new Map();
  for (const found of page.entries) {
    for (const document of found.documents) if (document.kind === "sharing") sharings.set(document.digest, document.says);
    if (found.entry?.type === "decision" && found.documents.length && found.entry.verdict === "approve" && found.inLog && worst(found.checks) === "ok") {
      const key = `${found.entry.request} ${found.entry.terms} ${found.entry.sharing} ${found.entry.root}`;
      approvals.set(key, [...(approvals.get(key) ?? []), { index: found.index, person: found.documents[0].says.person }]);
    }
  }
  for (const found of page.entries) {
    if (found.entry?.type === "grant") found.checks.push(quorum(found, sharings, approvals));
  }
}

function quorum({ entry, index }, sharings, approvals) {
  const sharing = sharings.get(entry.sharing);
  if (!entry.persons) return bad("a grant that names nobody");
  if (!sharing) return unchecked("the sharing that says what a quorum is, is not in this page");
  const key = `${entry.request} ${entry.terms} ${entry.sharing} ${entry.root}`;
  const given = new Set((approvals.get(key) ?? []).filter((item) => item.index < index).map((item) => item.person));
  const persons = entry.persons.filter((person) => given.has(person));
  const enough = sharing.groups.every(
    (group) => group.slots.filter((slot) => persons.includes(slot.person)).length >= group.threshold,
  );
  if (persons.length < entry.persons.length || !enough) return bad(`no quorum of verified approvals: only ${persons.join(", ") || "nobody"}`);
  return ok(`a quorum of verified approvals: ${persons.join(", ")}`);
}
