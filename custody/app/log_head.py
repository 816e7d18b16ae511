"""How far a log goes: the checkpoint that a ledger made again from it must remember having signed.

::

    published    the largest checkpoint with a witness quorum, found by the audit of the log
    signed       what the lost ledger had signed last: published, or more

A ledger made again must not sign another tree of a size that was signed before: that is a fork, and no witness who saw
the first would ever cosign again. Whoever may have seen more is asked: the witnesses, and the log store itself. A
checkpoint counts by the log's own signature only. A larger one is taken where the log holds its tiles and entries, as
it does when a crash came between signing and publishing; where it does not, the log is an older copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from custody.app.witness_claims import Claim
from custody.audit.report import Report
from custody.audit.source import Source
from custody.audit.verify import Pins, Way, verify_log
from custody.errors import ConfigError, CustodyError, FormatError, IntegrityError, NotFoundError
from custody.publishing.history import open_signed
from custody.publishing.release import checkpoint_key
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import root_hash
from custody.tlog.note import Note, VKey
from custody.tlog.reader import TileReader
from custody.tlog.tiles import TILE_WIDTH

__all__ = ["Head", "Progress", "audited", "furthest", "published_head", "shown_reader"]

_UNREADABLE: Final = (FormatError, IntegrityError, NotFoundError)
_SHOWN: Final = "checkpoint"


class Progress(Protocol):
    """Told what was done to how many entries of how many."""

    def __call__(self, what: str, done: int, total: int, /) -> None:
        """Take a word such as ``verified``, and the two numbers."""
        ...


@dataclass(frozen=True, slots=True)
class Head:
    """A checkpoint with the log's signature alone, as a ledger keeps it, and the tiles that lead to its root."""

    note: bytes
    checkpoint: Checkpoint
    reader: TileReader


def audited(source: Source, pins: Pins, progress: Progress) -> Report:
    """Audit the whole log. ``IntegrityError`` where anything is wrong, ``NotFoundError`` where there is none."""
    way = Way(progress=lambda done, total: progress("verified", done, total))
    report, _ = verify_log(source, pins, way=way)
    if not report.ok:
        first = report.findings[0].text if report.findings else "not every entry could be judged"
        more = f" (and {report.found - 1} more findings)" if report.found > 1 else ""
        raise IntegrityError(
            f"the log is not what it must be: {first}{more}; nothing was written",
            hint="custody log verify LOG lists all findings; another copy of the log may be good",
        )
    return report


def published_head(source: Source, report: Report, log_key: VKey) -> Head:
    """Return the largest published checkpoint of an audited log. ``ConfigError`` where ``log_key`` did not sign it."""
    for path in (checkpoint_key(report.size), _SHOWN):
        try:
            note = source.fetch(path)
            if Checkpoint.parse(Note.parse(note).text).root != report.root:
                continue
        except _UNREADABLE:
            continue
        try:
            return _head(source, note, open_signed(note, [log_key], log_key.name), log_key)
        except IntegrityError as error:
            raise ConfigError(
                f"the log key that is configured did not sign this log: {error.message}",
                hint="[log] key in the configuration must be the key of this log",
            ) from error
    raise IntegrityError(f"the log has lost its checkpoint of size {report.size}", hint="use another copy of the log")


def shown_reader(source: Source, log_key: VKey) -> TileReader | None:
    """Return the tiles under the checkpoint that the log shows, if its key signed that; only to tell, not to trust."""
    try:
        checkpoint = open_signed(source.fetch(_SHOWN), [log_key], log_key.name)
        return TileReader(source.fetch, checkpoint)
    except _UNREADABLE:
        return None


def furthest(source: Source, published: Head, claims: Sequence[Claim], log_key: VKey) -> Head:
    """Return the largest checkpoint that the log's key signed, among the published one and those that others show.

    Raises ``IntegrityError`` for a larger one whose tree the log does not hold, and for a fork.
    """
    known: list[tuple[Checkpoint, Claim]] = []
    for claim in claims:
        try:
            known.append((open_signed(claim.note, [log_key], log_key.name), claim))
        except CustodyError:
            continue  # without the log's own signature it proves nothing
    head = published
    if known:
        checkpoint, claim = max(known, key=lambda item: item[0].size)
        if checkpoint.size > head.checkpoint.size:
            head = _larger(source, published, checkpoint, claim, log_key)
    for checkpoint, claim in known:
        if root_hash(checkpoint.size, head.reader.hash_at) != checkpoint.root:
            raise IntegrityError(
                f"fork: {claim.where} holds a checkpoint of size {checkpoint.size} signed by this log's key whose root"
                " is not the one of this log",
                hint="the log ends here: keep the log and that checkpoint as evidence",
            )
    return head


def _larger(source: Source, published: Head, checkpoint: Checkpoint, claim: Claim, log_key: VKey) -> Head:
    """Take a larger checkpoint than the published one, if the log holds what it covers."""
    size = published.checkpoint.size
    try:
        head = _head(source, claim.note, checkpoint, log_key)
        for index in range(size // TILE_WIDTH, -(-checkpoint.size // TILE_WIDTH)):
            head.reader.bundle(index)
    except _UNREADABLE as error:
        raise IntegrityError(
            f"{claim.where} holds a checkpoint of size {checkpoint.size} signed by this log's key, but this log ends at"
            f" {size}: it is an older copy, and a ledger made from it would fork the log",
            hint="find the newer copy of the log, and give that one with --from",
        ) from error
    if root_hash(size, head.reader.hash_at) != published.checkpoint.root:
        raise IntegrityError(
            f"fork: {claim.where} holds a checkpoint of size {checkpoint.size} signed by this log's key that does not"
            f" continue the published one of size {size}",
            hint="the log ends here: keep the log and that checkpoint as evidence",
        )
    return head


def _head(source: Source, note: bytes, checkpoint: Checkpoint, log_key: VKey) -> Head:
    """Keep the log's signature and nothing else; it was verified."""
    parsed = Note.parse(note)
    mine = [line for line in parsed.signatures if (line.name, line.key_id) == (log_key.name, log_key.key_id)]
    return Head(Note(parsed.text, tuple(mine[:1])).encode(), checkpoint, TileReader(source.fetch, checkpoint))
