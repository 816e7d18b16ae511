"""The worked values beside the specifications are what this code makes; ``CUSTODY_WRITE_VECTORS=1`` writes them."""

import json
import os
from pathlib import Path
from typing import Any

from custody.tlog.checkpoint import EMPTY_ROOT, Checkpoint
from custody.tlog.merkle import leaf_hash, verify_consistency, verify_inclusion
from custody.tlog.note import NoteSigner, VKey, open_note
from custody.tlog.policy import Group, LogKey, Policy, Witness
from custody.tlog.proof import Proof, verify_proof
from custody.tlog.tiles import Tile, changed_bundles, changed_tiles, encode_bundle
from custody.tlog.witness_protocol import Accepted, AddCheckpoint, LogState, Refused, update
from tests.doubles.tlog import TIME, Log, log_signer, witness_signer

_LOG = Log(7)
_WITNESSES = [witness_signer(number) for number in (1, 2, 3)]


def _policy() -> Policy:
    witnesses = tuple(
        Witness(f"w{number}", signer.vkey, f"https://w{number}.example/witness")
        for number, signer in enumerate(_WITNESSES, start=1)
    )
    group = Group("majority", 2, tuple(witness.name for witness in witnesses))
    return Policy((LogKey(log_signer().vkey),), witnesses, (group,), "majority")


def _values() -> dict[str, Any]:
    text = _LOG.head().encode()
    checkpoint = _LOG.checkpoint(cosigners=_WITNESSES[:2])
    fork = Log(7, branch=2)
    return {
        "comment": "Every seed here is SHA-256 of a short name: keys for tests, good for nothing else.",
        "note": {
            "log": {"skey": log_signer().encode_secret(), "vkey": log_signer().vkey.encode()},
            "witnesses": [{"skey": s.encode_secret(), "vkey": s.vkey.encode()} for s in _WITNESSES],
            "time": str(TIME),
            "checkpoint": checkpoint.decode(),
        },
        "checkpoint": {
            "origin": _LOG.head().origin,
            "size": str(_LOG.head().size),
            "root": _LOG.head().root.hex(),
            "text": text.decode(),
            "empty_root": EMPTY_ROOT.hex(),
        },
        "tiles": {
            "entries": [entry.decode() for entry in _LOG.entries],
            "bundle": encode_bundle(_LOG.entries).hex(),
            "leaf_hashes": [leaf_hash(entry).hex() for entry in _LOG.entries],
            "roots": [_LOG.tree.root(size).hex() for size in range(8)],
            "paths": {str(index): Tile(0, index).path() for index in (0, 999, 1000, 1234067)},
            "of_size_70000": [tile.path() for tile in changed_tiles(69_999, 70_000) + changed_bundles(69_999, 70_000)],
        },
        "proof": {
            "entry": _LOG.entries[4].decode(),
            "proof": _LOG.receipt(4, checkpoint).encode().decode(),
        },
        "witness": {
            "state": {"size": "3", "root": _LOG.tree.root(3).hex()},
            "accepted": _LOG.request(3).encode().decode(),
            "refused": {
                "409": _LOG.request(2).encode().decode(),
                "422": fork.request(3).encode().decode(),
            },
        },
        "witness_policy": {"text": _policy().encode().decode()},
    }


def _file(repository: Path) -> Path:
    return repository / "proto" / "spec" / "vectors" / "tlog.json"


def test_the_worked_values_are_what_this_code_makes(repository: Path) -> None:
    made = json.dumps(_values(), indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("CUSTODY_WRITE_VECTORS"):
        _file(repository).write_text(made, encoding="utf-8")
    assert _file(repository).read_text(encoding="utf-8") == made


def test_the_worked_values_verify_from_the_file_alone(repository: Path) -> None:
    values = json.loads(_file(repository).read_bytes())
    note, tiles, witness = values["note"], values["tiles"], values["witness"]
    keys = [VKey.parse(note["log"]["vkey"]), *(VKey.parse(key["vkey"]) for key in note["witnesses"])]
    assert [NoteSigner.parse(key["skey"]).vkey for key in (note["log"], *note["witnesses"])] == keys
    opened = open_note(note["checkpoint"].encode(), keys)
    head = Checkpoint.parse(opened.text)
    assert [time for _, time in opened.verified] == [None, int(note["time"]), int(note["time"])]

    policy = Policy.parse(values["witness_policy"]["text"].encode())
    proof = Proof.parse(values["proof"]["proof"].encode())
    verify_proof(proof, leaf_hash(values["proof"]["entry"].encode()), policy.check)
    roots = [bytes.fromhex(root) for root in tiles["roots"]]
    assert head.root == roots[head.size]
    leaf = bytes.fromhex(tiles["leaf_hashes"][proof.index])
    verify_inclusion(leaf, proof.index, head.size, proof.hashes, head.root)

    state = LogState(int(witness["state"]["size"]), bytes.fromhex(witness["state"]["root"]))
    request = AddCheckpoint.parse(witness["accepted"].encode())
    verify_consistency(request.old, head.size, request.proof, state.root, head.root)
    assert isinstance(update(state, request, keys[:1]), Accepted)
    for status, body in witness["refused"].items():
        answer = update(state, AddCheckpoint.parse(body.encode()), keys[:1])
        assert isinstance(answer, Refused)
        assert answer.status == int(status)
