// Bytes and their spellings. One value has one spelling; whatever else decodes to it is refused.

const encoder = new TextEncoder();
const subtle = globalThis.crypto?.subtle;

export const utf8 = (text) => encoder.encode(text);

export function concat(...parts) {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    joined.set(part, place);
    place += part.length;
  }
  return joined;
}

// u64(n): eight bytes, big-endian. lp(x): u64(len(x)) || x.
export function u64(number) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(number));
  return bytes;
}

export const lp = (bytes) => concat(u64(bytes.length), bytes);

export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

export function fromHex(text) {
  if (!/^(?:[0-9a-f]{2})*$/.test(text)) throw new Error("not lower-case hex");
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

export function base64(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

export function fromBase64(text) {
  if (typeof text !== "string") throw new Error("base64 expected");
  let bytes;
  try {
    bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  } catch {
    throw new Error("not base64");
  }
  if (base64(bytes) !== text) throw new Error("base64 is not canonical");
  return bytes;
}

export async function sha256(...parts) {
  return new Uint8Array(await subtle.digest("SHA-256", concat(...parts)));
}

// RFC 8785 as the documents use it: sorted keys, no floats, no white space.
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.keys(value).sort();
  return `{${members.map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`).join(",")}}`;
}

// JSON that is the canonical spelling of what it says; duplicate keys and white space are not.
export function parseCanonical(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error("not JSON");
  }
  if (canonical(value) !== text) throw new Error("not canonical JSON");
  return value;
}

const imported = new Map();

// Whether a signature is one of this key over this message.
export async function ed25519(key, signature, message) {
  const name = hex(key);
  if (!imported.has(name)) imported.set(name, subtle.importKey("raw", key, "Ed25519", false, ["verify"]));
  return subtle.verify("Ed25519", await imported.get(name), signature, message);
}

// What this page needs: a secure context, and Ed25519 in it.
export async function able() {
  try {
    await subtle.importKey("raw", fromBase64("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="), "Ed25519", false, ["verify"]);
    return true;
  } catch {
    return false;
  }
}
