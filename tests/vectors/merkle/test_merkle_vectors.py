"""The proofs of transparency-dev/merkle, most of which must fail."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from custody.errors import IntegrityError
from custody.tlog.merkle import verify_consistency, verify_inclusion

# The set holds 98 of each kind, 6 of them valid.
_COUNT = 98
_VALID = 6


def _run(folder: Path, verify: Callable[[dict[str, Any], list[bytes]], None]) -> None:
    wrong: list[str] = []
    valid = count = 0
    for path in sorted(folder.rglob("*.json")):
        vector = json.loads(path.read_bytes())
        proof = [base64.b64decode(line) for line in vector["proof"] or ()]
        try:
            verify(vector, proof)
            refused = False
        except IntegrityError:
            refused = True
        count += 1
        valid += not refused
        if refused != vector["wantErr"]:
            wrong.append(f"{path.parent.name}: {vector['desc']}")
    assert wrong == []
    assert (count, valid) == (_COUNT, _VALID)


def test_inclusion_proofs_are_judged_as_published(vectors: Callable[[str], Path]) -> None:
    def verify(vector: dict[str, Any], proof: list[bytes]) -> None:
        leaf, root = base64.b64decode(vector["leafHash"]), base64.b64decode(vector["root"])
        verify_inclusion(leaf, vector["leafIdx"], vector["treeSize"], proof, root)

    _run(vectors("merkle") / "inclusion", verify)


def test_consistency_proofs_are_judged_as_published(vectors: Callable[[str], Path]) -> None:
    def verify(vector: dict[str, Any], proof: list[bytes]) -> None:
        old_root, root = base64.b64decode(vector["root1"]), base64.b64decode(vector["root2"])
        verify_consistency(vector["size1"], vector["size2"], proof, old_root, root)

    _run(vectors("merkle") / "consistency", verify)
