"""The worked values beside the specifications: computed again, they must be the same bytes.

For whoever writes a client in another language. All entropy is SHAKE-256 of a label, 8 bytes of counter appended, so
that nothing in them is anybody's secret. HPKE is randomized: there the stored ciphertext must open.

After a deliberate change: ``CUSTODY_WRITE_VECTORS=1 pytest tests/unit/crypto/test_worked_values.py`` and read the diff.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from custody.crypto import digests, hpke, keys, schedule
from custody.crypto.floe import OVERHEAD, Encryptor, Params, floe_aad, segment_count, segment_range
from custody.crypto.keyfile import KeyFile
from custody.crypto.secret import RandomInto, SecretBytes
from custody.crypto.sharing import Group, Share, random_scalar, recover, share_commitment, split

VID = bytes(range(32))
DEPLOYMENT = "custody.example.org/log"
VERSION = "frontier/llm@2026-11"


def stream(label: str) -> Callable[[int], bytes]:
    drawn = 0

    def draw(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_256(label.encode() + drawn.to_bytes(8, "big")).digest(size)

    return draw


def filler(label: str) -> RandomInto:
    draw = stream(label)

    def fill(out: memoryview) -> None:
        out[:] = draw(len(out))

    return fill


def show(secret: SecretBytes) -> str:
    return bytes(secret.view).hex()


def take(content: bytes) -> SecretBytes:
    return SecretBytes.take(bytearray(content))


def key_schedule(_: dict[str, Any]) -> dict[str, Any]:
    s = random_scalar(filler("key-schedule"))
    version_key = schedule.version_key(s, VID, DEPLOYMENT, VERSION)
    return {
        "s": show(s),
        "vid": VID.hex(),
        "deployment": DEPLOYMENT,
        "version": VERSION,
        "version_key": show(version_key),
        "key_commit": schedule.key_commit(version_key).hex(),
        "file_keys": [show(schedule.file_key(version_key, j)) for j in range(3)],
        "digest_keys": [show(schedule.digest_key(version_key, j)) for j in range(3)],
    }


def sharing(_: dict[str, Any]) -> dict[str, Any]:
    draws: list[str] = []
    fill = filler("sharing")

    def recorded(out: memoryview) -> None:
        fill(out)
        draws.append(out.hex())

    secret = random_scalar(filler("secret"))
    groups = [Group(2, 3), Group(1, 2)]
    dealt = split(secret, groups, recorded)
    shares = [Share(g, i, y) for g, values in enumerate(dealt) for i, y in enumerate(values, 1)]
    with recover([shares[0], shares[2], shares[4]], groups) as again:
        assert show(again) == show(secret)
    return {
        "secret": show(secret),
        "groups": [{"threshold": group.threshold, "size": group.size} for group in groups],
        "uniform_draws": draws,
        "vid": VID.hex(),
        "shares": [
            {
                "group": share.group,
                "slot": share.slot,
                "value": show(share.value),
                "commitment": share_commitment(VID, share.group, share.slot, share.value.view).hex(),
            }
            for share in shares
        ],
    }


def hpke_(stored: dict[str, Any]) -> dict[str, Any]:
    seed, share = (take(stream(label)(32)) for label in ("hpke seed", "share"))
    pair = take(stream("file key")(32) + stream("digest key")(32))
    public = hpke.public_key(seed)
    key_id = keys.key_id(keys.public_from_seed(seed), public)
    request, terms, release_key, sharing_digest, leaf = (hashlib.sha256(bytes([n])).digest() for n in range(5))
    infos = {
        "wrap": hpke.wrap_info(sharing_digest, 0, 2, key_id),
        "release": hpke.release_info(request, terms, release_key, sharing_digest, 0, 2, key_id),
        "direct": hpke.direct_info(request, leaf, 5),
    }
    sealed: dict[str, str] = {}
    for name, info in infos.items():
        plaintext = pair if name == "direct" else share
        before = stored.get("messages", {}).get(name, {}).get("sealed", "")
        fits = len(before) == 2 * (len(plaintext) + hpke.OVERHEAD)
        sealed[name] = before if fits else hpke.seal(public, info, plaintext.view).hex()
        with SecretBytes(len(plaintext)) as out:
            hpke.open_into(seed, info, bytes.fromhex(sealed[name]), out)
            assert show(out) == show(plaintext)
    return {
        "seed": show(seed),
        "public_key": public.hex(),
        "ed25519_seed": show(seed),
        "key_id": key_id.hex(),
        "request_digest": request.hex(),
        "terms_digest": terms.hex(),
        "release_key_digest": release_key.hex(),
        "sharing_digest": sharing_digest.hex(),
        "intent_leaf_hash": leaf.hex(),
        "group": 0,
        "slot": 2,
        "file_index": 5,
        "plaintext": show(share),
        "direct_plaintext": show(pair),
        "messages": {name: {"info": info.hex(), "sealed": sealed[name]} for name, info in infos.items()},
    }


def key_file(_: dict[str, Any]) -> dict[str, Any]:
    passphrase = "correct horse battery staple"
    file = KeyFile.generate(bytearray(passphrase.encode()), "laptop of alice", filler("key-file"))
    with file.unlock(bytearray(passphrase.encode())) as key:
        return {
            "passphrase": passphrase,
            "ed25519_seed": show(key.ed25519_seed),
            "xwing_seed": show(key.xwing_seed),
            "key_id": key.key_id.hex(),
            "signature_of_empty_message": key.sign(b"").hex(),
            "file": file.encode().decode(),
        }


def floe(_: dict[str, Any]) -> dict[str, Any]:
    segment = 64
    file_key, digest_key = (take(stream(label)(32)) for label in ("file key", "digest key"))
    files = []
    for index, size in enumerate((0, 64, 150)):
        plaintext = bytes(n % 251 for n in range(size))
        count = segment_count(size, segment)
        aad = floe_aad(VID, index, size, count)
        with Encryptor(file_key, aad, Params(segment), stream(f"floe {index}")) as encryptor:
            stored, listed = encryptor.header, b""
            for i in range(count):
                where = segment_range(size, segment, i)
                part = memoryview(plaintext)[where.offset : where.offset + where.length]
                out = memoryview(bytearray(where.length + OVERHEAD))
                encryptor.encrypt_into(i, where.is_final, part, out)
                stored += out
                listed += digests.segment_digest(digest_key, i, part)
        files.append(
            {
                "index": index,
                "size": size,
                "segment_count": count,
                "aad": aad.hex(),
                "plaintext": plaintext.hex(),
                "stored": stored.hex(),
                "stored_digest": digests.digest([stored]).hex(),
                "digest_list": listed.hex(),
                "digest_list_digest": digests.digest([listed]).hex(),
            }
        )
    return {
        "segment": segment,
        "vid": VID.hex(),
        "file_key": show(file_key),
        "digest_key": show(digest_key),
        "files": files,
    }


@pytest.mark.parametrize(
    ("name", "compute"),
    [
        ("key-schedule", key_schedule),
        ("sharing", sharing),
        ("hpke", hpke_),
        ("key-file", key_file),
        ("floe", floe),
    ],
)
def test_worked_values_are_what_the_code_computes(
    repository: Path, name: str, compute: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    path = repository / "proto" / "spec" / "vectors" / f"{name}.json"
    if os.environ.get("CUSTODY_WRITE_VECTORS"):
        stored = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(compute(stored), indent=2) + "\n")
    text = path.read_text()
    assert json.dumps(compute(json.loads(text)), indent=2) + "\n" == text
