"""What a broker could log that is canonical JSON and no entry."""

import json
from typing import Any

from tests.unit.audit.busy import published

__all__ = ["odd_entries"]


def odd_entries() -> list[bytes]:
    """Return the bytes of each, of one cause each."""
    grant = next(entry for entry in published().world.log.entries if entry.type == "grant")
    said = json.loads(grant.encode())
    changes: list[dict[str, Any]] = [
        *({"documents": 5}, {"documents": [None]}, {"actor": "alice"}, {"persons": "alice"}, {"served": [5]}),
        *({"time": "soon"}, {"type": 7}, {"schema": "custody/entry/v2"}, {"request": {}}, {"root": None}),
        *({"type": "constructor"}, {"type": "__proto__"}, {"type": "decision"}, {"type": "release"}),
    ]
    odd = [json.dumps(said | change, sort_keys=True, separators=(",", ":")).encode() for change in changes]
    del said["persons"]
    return [b"null", b"5", b"[]", b'"x"', b"{}", *odd, json.dumps(said, sort_keys=True, separators=(",", ":")).encode()]
