// Signed documents: DSSE envelopes, the trust roots, and who signed what with which key.

import { concat, ed25519, fromBase64, hex, lp, parseCanonical, sha256, utf8 } from "./bytes.mjs";
import { bad, ok, unchecked } from "./checks.mjs";

const TYPE = /^application\/vnd\.custody\.([a-z-]+)\.v1\+json$/;

export async function keyId(signing, xwing = new Uint8Array()) {
  return hex(await sha256(lp(utf8("custody/v1/keyid")), signing, xwing));
}

// PAE(type, payload) = "DSSEv1" SP len(type) SP type SP len(payload) SP payload
export function pae(type, payload) {
  return concat(utf8(`DSSEv1 ${utf8(type).length} ${type} ${payload.length} `), payload);
}

export async function openEnvelope(text) {
  const envelope = parseCanonical(text);
  const match = TYPE.exec(envelope.payloadType);
  if (!match || Object.keys(envelope).length !== 3) throw new Error("not an envelope of a document");
  const payload = fromBase64(envelope.payload);
  const message = pae(envelope.payloadType, payload);
  return {
    kind: match[1],
    message,
    digest: hex(await sha256(message)),
    envelope: hex(await sha256(utf8(text))),
    says: parseCanonical(new TextDecoder("utf-8", { fatal: true }).decode(payload)),
    signatures: envelope.signatures.map(({ keyid, sig }) => ({ keyid, sig: fromBase64(sig) })),
  };
}

async function readRoot(document) {
  const keys = new Map();
  for (const person of document.says.persons) {
    for (const device of person.devices) {
      const signing = fromBase64(device.ed25519);
      keys.set(await keyId(signing, fromBase64(device.xwing)), { who: `person:${person.id}`, person: person.id, key: signing });
    }
  }
  for (const broker of document.says.brokers) {
    const signing = fromBase64(broker.ed25519);
    keys.set(await keyId(signing), { who: `broker:${broker.id}`, key: signing });
  }
  return { digest: document.digest, says: document.says, keys };
}

const met = (groups, persons) =>
  groups.every((group) => group.members.filter((member) => persons.has(member)).length >= group.threshold);

// Verify that each trust root follows from the one before it, the first being the one that is pinned.
export async function followRoots(texts, genesis) {
  const roots = new Map();
  const checks = [];
  let before = null;
  for (const text of texts) {
    try {
      const document = await openEnvelope(text);
      const root = await readRoot(document);
      const signed = new Map();
      for (const { keyid, sig } of document.signatures) {
        const signer = root.keys.get(keyid) ?? before?.keys.get(keyid);
        if (!signer?.person || !(await ed25519(signer.key, sig, document.message))) throw new Error("a signature does not verify");
        signed.set(keyid, signer.person);
      }
      must(document.kind === "root", "not a trust root");
      if (before === null) {
        must(document.digest === genesis, "it is not the genesis that is pinned");
        const all = new Set(signed.values());
        must(root.says.persons.every((person) => all.has(person.id)), "not signed by everybody it names");
      } else {
        follows(root, before, signed);
      }
      roots.set(root.digest, root);
      checks.push(ok(`trust root of epoch ${root.says.epoch}: ${before ? "follows, signed by the quorum of governance" : "the pinned genesis, signed by everybody it names"}`));
      before = root;
    } catch (error) {
      checks.push(bad(`a trust root does not verify: ${error.message}`));
      break;
    }
  }
  return { roots, newest: before, checks };
}

function follows(root, before, signed) {
  must(root.says.previous === before.digest && BigInt(root.says.epoch) === BigInt(before.says.epoch) + 1n, "it does not follow the one before");
  const governance = before.says.rosters.find((roster) => roster.name === "governance");
  const old = new Set([...signed].filter(([id, person]) => before.keys.get(id)?.person === person).map(([, person]) => person));
  must(governance && met(governance.groups, old), "no quorum of governance signed it");
  for (const [id, { person }] of root.keys) {
    if (person && before.keys.get(id)?.person !== person) must(signed.get(id) === person, "somebody new has not signed it");
  }
}

function must(condition, text) {
  if (!condition) throw new Error(text);
}

// Verify who signed a document, by the keys of one trust root. Certificates of workloads are not judged here.
export async function checkSigner(document, claimed, root) {
  if (!root) return unchecked(`${document.kind}: its trust root is not verified here`);
  if (claimed.startsWith("spiffe://")) return unchecked(`${document.kind}: signed with a certificate, which this page does not judge`);
  if (document.signatures.length !== 1) return bad(`${document.kind}: not signed by exactly one key`);
  const [{ keyid, sig }] = document.signatures;
  const signer = root.keys.get(keyid);
  if (signer?.who !== claimed) return bad(`${document.kind}: not signed with a key of ${claimed}`);
  if (!(await ed25519(signer.key, sig, document.message))) return bad(`${document.kind}: the signature of ${claimed} is FORGED`);
  return ok(`${document.kind}: signed by ${claimed}`);
}

export function actorOf(actor) {
  if (actor?.actor === "person") return `person:${actor.person}`;
  if (actor?.actor === "broker") return `broker:${actor.broker}`;
  return actor?.spiffe ?? "";
}
