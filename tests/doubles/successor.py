"""The log of a ``World`` ends, and another one goes on: each step apart, so that one can be made wrong."""

from collections.abc import Sequence
from typing import Any

from custody.documents.root import Log, Root
from custody.entries.entry import Entry
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import MemoryTree
from custody.tlog.note import ED25519, NoteSigner
from tests.doubles.world import World

__all__ = ["end_log", "final_checkpoint", "successor_key", "successor_root"]


def successor_key(world: World, name: str = "custody.example.org/log-2") -> NoteSigner:
    """Make the key of another log."""
    return NoteSigner(name, ED25519, world.rng(32))


def end_log(world: World, **changes: Any) -> Entry:
    """Log the last entry of a log."""
    return world.append("system", **({"reason": "log-end", "actor": world.party("broker-1")} | changes))


def final_checkpoint(
    world: World,
    size: int | None = None,
    *,
    key: NoteSigner | None = None,
    witnesses: Sequence[NoteSigner] | None = None,
    root: bytes | None = None,
) -> bytes:
    """Return the checkpoint of the world's log at a size (all of it), cosigned by two witnesses."""
    signer, tree = key or world.log_key, MemoryTree()
    for entry in world.log.entries:
        tree.append(bytes.fromhex(entry.leaf))
    size = tree.size if size is None else size
    text = Checkpoint(signer.vkey.name, size, root or tree.root(size)).encode()
    cosigners = world.witnesses[:2] if witnesses is None else witnesses
    return text + b"\n" + signer.sign(text) + b"".join(witness.sign(text, world.now) for witness in cosigners)


def successor_root(world: World, key: NoteSigner, predecessor: bytes | None, **changes: Any) -> Root:
    """Return the root that names a successor of the log, with the same witnesses."""
    vkey = key.vkey.encode()
    policy = (f"log {vkey}", *(line for line in world.state.root.witness_policy if not line.startswith("log ")))
    log = Log(vkey=vkey, predecessor=predecessor)
    return world.next_root(**({"log": log, "witness_policy": policy} | changes))
