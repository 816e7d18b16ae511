"""What published checkpoints claim, and who must have signed them.

A checkpoint satisfies the policy of every trust root in force between the one before it and itself: so the first one
that covers a change of log key or witnesses satisfies the old and the new (design, Trust anchors).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from custody.audit.source import Source
from custody.errors import FormatError, IntegrityError
from custody.rules.state import State
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import Note
from custody.tlog.policy import Policy

__all__ = ["Claim", "Cosigned", "Kept", "cosigned", "epochs_between", "kept_path", "kept_sizes"]

_LAST_TIME: Final = 253402300799  # 9999-12-31T23:59:59Z: what a document can say
_KEPT: Final = re.compile(r"checkpoints/(0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Claim:
    """A checkpoint that was read from ``path``; nobody has verified it."""

    path: str
    note: bytes
    checkpoint: Checkpoint

    @classmethod
    def read(cls, path: str, note: bytes) -> "Claim":
        """Read the text. Raises ``FormatError``, or ``IntegrityError`` for an impossible empty tree."""
        checkpoint = Checkpoint.parse(Note.parse(note).text)
        checkpoint.require_sound_root()
        return cls(path, note, checkpoint)


@dataclass(frozen=True, slots=True)
class Cosigned:
    """The earliest and the latest time (POSIX seconds) that counted witnesses state, and their names."""

    earliest: int
    latest: int
    witnesses: tuple[str, ...]


class Kept(NamedTuple):
    """A kept checkpoint that was read ahead, and who cosigned it, if only the trust root of ``epoch`` (-1: none) is in
    force; ``None`` where there is no quorum, and the judge says why.
    """

    claim: Claim
    by: Cosigned | None
    epoch: int


def kept_path(size: int) -> str:
    """Return where the first published checkpoint of a size is kept."""
    return f"checkpoints/{size}"


def kept_sizes(source: Source) -> tuple[list[int] | None, list[str]]:
    """List the sizes of which a checkpoint is kept, ascending, and names there that are no sizes.

    ``None`` where the source cannot be listed.
    """
    if source.names is None:
        return None, []
    sizes, strange = [], []
    for name in source.names("checkpoints/"):
        match = _KEPT.fullmatch(name)
        if match:
            sizes.append(int(match[1]))
        else:
            strange.append(name)
    return sorted(sizes), strange


def epochs_between(state: State, old: int, new: int) -> range:
    """Return the epochs of the trust roots whose policies a checkpoint of size ``new`` satisfies when the one before it
    has size ``old``.

    ``state`` holds all roots that were accepted in the first ``new`` entries, at least genesis.
    """
    places = [int(entry.index) for entry in state.root_entries]
    first = max((epoch for epoch, index in enumerate(places) if index < old), default=0)
    last = max((epoch for epoch, index in enumerate(places) if index < new), default=0)
    return range(first, last + 1)


def cosigned(claim: Claim, policies: Iterable[Policy]) -> Cosigned:
    """Require the log's signature and a witness quorum under every policy. Raises ``IntegrityError``."""
    times: dict[str, set[int]] = {}
    for policy in policies:
        try:
            checked = policy.check(claim.note)
        except FormatError as error:
            raise IntegrityError(error.message) from error
        for name, time in checked.cosigned.items():
            times.setdefault(name, set()).add(time)
    stated = [time for found in times.values() for time in found]
    if max(stated) > _LAST_TIME:
        raise IntegrityError(f"{claim.path}: a witness states second {max(stated)}, which is no time")
    return Cosigned(min(stated), max(stated), tuple(sorted(times)))
