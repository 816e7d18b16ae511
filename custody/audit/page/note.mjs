// Checkpoints: signed notes (c2sp.org/signed-note), cosignatures (tlog-cosignature) and witness policies (tlog-policy).

import { concat, ed25519, fromBase64, hex, sha256, utf8 } from "./bytes.mjs";
import { bad, ok, unchecked } from "./checks.mjs";

const DASH = "\u2014 ";
const ED25519 = 1;
const COSIGNATURE = 4;

export function parseNote(note) {
  const split = note.lastIndexOf("\n\n");
  if (split < 0 || !note.endsWith("\n") || split + 2 === note.length) throw new Error("no text, empty line and signatures");
  const lines = note.slice(split + 2, -1).split("\n");
  return { text: note.slice(0, split + 1), signatures: lines.map(parseSignature) };
}

function parseSignature(line) {
  const parts = line.slice(DASH.length).split(" ");
  if (!line.startsWith(DASH) || parts.length !== 2) throw new Error("a signature line is malformed");
  const blob = fromBase64(parts[1]);
  if (blob.length <= 4) throw new Error("a signature is too short");
  return { name: parts[0], id: hex(blob.slice(0, 4)), signature: blob.slice(4) };
}

export async function parseKey(text) {
  const [name, id, ...rest] = text.split("+");
  const material = fromBase64(rest.join("+"));
  const computed = hex((await sha256(utf8(`${name}\n`), material)).slice(0, 4));
  if (computed !== id || material.length !== 33) throw new Error(`the key of ${name} is malformed`);
  return { name, id, type: material[0], key: material.slice(1) };
}

export function parseCheckpoint(text) {
  const match = /^([^\n]+)\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n$/.exec(text);
  if (!match) throw new Error("not a checkpoint");
  return { origin: match[1], size: Number(match[2]), root: hex(fromBase64(match[3])) };
}

export async function parsePolicy(lines) {
  const policy = { logs: [], witnesses: [], groups: [], quorum: "" };
  for (const line of lines) {
    const [keyword, ...rest] = line.split(/[ \t]+/).filter(Boolean);
    if (keyword === "log") policy.logs.push(await parseKey(rest[0]));
    if (keyword === "witness") policy.witnesses.push({ name: rest[0], key: await parseKey(rest[1]) });
    if (keyword === "quorum") policy.quorum = rest[0];
    if (keyword === "group") policy.groups.push(parseGroup(rest));
  }
  return policy;
}

function parseGroup([name, how, ...members]) {
  const threshold = how === "all" ? members.length : how === "any" ? 1 : Number(how);
  return { name, threshold, members };
}

export function satisfied(policy, names) {
  const met = new Set(names);
  for (const group of policy.groups) {
    if (group.members.filter((member) => met.has(member)).length >= group.threshold) met.add(group.name);
  }
  return met.has(policy.quorum);
}

async function verifies(signer, text, signature) {
  if (signer.type === ED25519) return { good: await ed25519(signer.key, signature, utf8(text)) };
  if (signer.type !== COSIGNATURE || signature.length !== 72) return { good: false };
  const time = new DataView(signature.buffer, signature.byteOffset).getBigUint64(0);
  const message = concat(utf8(`cosignature/v1\ntime ${time}\n`), utf8(text));
  return { good: await ed25519(signer.key, signature.slice(8), message), time: Number(time) };
}

// Verify a checkpoint under the policy of a trust root: every signature that it must bear, and the quorum.
export async function checkCheckpoint(note, lines) {
  const result = { checks: [], cosigners: [], accepted: false };
  try {
    const { text, signatures } = parseNote(note);
    const policy = await parsePolicy(lines);
    Object.assign(result, parseCheckpoint(text));
    const find = async (key) => {
      const found = signatures.filter((line) => line.name === key.name && line.id === key.id);
      if (found.length === 0) return null;
      const verdicts = await Promise.all(found.map((line) => verifies(key, text, line.signature)));
      return verdicts.find((verdict) => !verdict.good) ?? verdicts[0];
    };
    const [log] = policy.logs;
    const signed = log && log.name === result.origin ? await find(log) : null;
    result.checks.push(signed?.good ? ok(`signed by the key of the log, ${log.name}`) : bad("not signed by the key of the log"));
    for (const witness of policy.witnesses) {
      const verdict = await find(witness.key);
      const state = verdict === null ? unchecked("has not cosigned") : verdict.good ? ok("cosigned") : bad("its cosignature is FORGED");
      result.cosigners.push({ name: witness.name, key: witness.key.name, time: verdict?.time ?? null, ...state });
    }
    const counted = result.cosigners.filter((cosigner) => cosigner.state === "ok").map((cosigner) => cosigner.name);
    const forged = result.cosigners.filter((cosigner) => cosigner.state === "bad");
    for (const cosigner of forged) result.checks.push(bad(`the cosignature of ${cosigner.name} does not verify`));
    result.checks.push(
      satisfied(policy, counted)
        ? ok(`cosigned by a quorum of witnesses: ${counted.join(", ")}`)
        : bad(`no quorum of witnesses, only ${counted.join(", ") || "none"}`),
    );
    result.accepted = result.checks.every((check) => check.state === "ok");
  } catch (error) {
    result.checks.push(bad(`the checkpoint cannot be read: ${error.message}`));
  }
  return result;
}
