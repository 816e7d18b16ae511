// Inclusion proofs (RFC 9162 section 2.1.3.2). Hashes are hex here, since they are compared and used as keys.

import { fromHex, hex, sha256 } from "./bytes.mjs";

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

export const leafHash = async (entry) => hex(await sha256(LEAF, entry));

// Neighbours share most of their path: each pair of children is hashed once.
export function hasher() {
  const known = new Map();
  return async (left, right) => {
    const pair = left + right;
    let parent = known.get(pair);
    if (parent === undefined) {
      parent = hex(await sha256(NODE, fromHex(left), fromHex(right)));
      known.set(pair, parent);
    }
    return parent;
  };
}

export async function included(index, size, leaf, path, root, nodeHash) {
  if (!Number.isSafeInteger(index) || index < 0 || index >= size) return false;
  let [first, last, hash] = [index, size - 1, leaf];
  for (const sibling of path) {
    if (last === 0) return false;
    if (first % 2 === 1 || first === last) {
      hash = await nodeHash(sibling, hash);
      while (first % 2 === 0 && first !== 0) [first, last] = [first / 2, Math.floor(last / 2)];
    } else {
      hash = await nodeHash(hash, sibling);
    }
    [first, last] = [Math.floor(first / 2), Math.floor(last / 2)];
  }
  return last === 0 && hash === root;
}
