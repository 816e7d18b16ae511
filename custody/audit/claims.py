"""Checkpoints as a log shows them: read and parsed, not believed yet."""

from collections.abc import Sequence
from typing import Final

from custody.audit.checkpoints import Claim, kept_path
from custody.audit.report import Finding, Report
from custody.audit.source import Source
from custody.errors import FormatError, IntegrityError, NotFoundError

__all__ = ["first_log", "largest", "read_kept", "read_shown"]

_UNREADABLE: Final = (FormatError, IntegrityError, NotFoundError)


def read_shown(source: Source, report: Report) -> Claim | None:
    """Read the newest checkpoint; ``None`` where there is none, and after a finding."""
    try:
        return Claim.read("checkpoint", source.fetch("checkpoint"))
    except NotFoundError:
        return None
    except (FormatError, IntegrityError) as error:
        report.find(Finding(None, "checkpoint-format", error.message, "checkpoint"))
        return None


def read_kept(source: Source, report: Report, size: int, *, shown: bool) -> Claim | None:
    """Read the checkpoint kept of a size; ``None`` where there is none, and after a finding.

    ``shown``: the newest checkpoint states this size, so it must have been kept.
    """
    path = kept_path(size)
    try:
        claim = Claim.read(path, source.fetch(path))
    except NotFoundError:
        if shown:
            text = f"checkpoint states size {size}, but {path} was not kept"
            report.find(Finding(None, "checkpoint-missing", text, path))
        return None
    except (FormatError, IntegrityError) as error:
        report.find(Finding(None, "checkpoint-format", error.message, path))
        return None
    if claim.checkpoint.size != size:
        report.find(Finding(None, "checkpoint-format", f"{path} states size {claim.checkpoint.size}", path))
        return None
    return claim


def first_log(source: Source, sizes: Sequence[int] | None) -> str | None:
    """Return which log the oldest kept checkpoint claims to be of; the first log is named like the deployment."""
    size = sizes[0] if sizes else 0
    try:
        return Claim.read(kept_path(size), source.fetch(kept_path(size))).checkpoint.origin
    except _UNREADABLE:
        return None


def largest(source: Source, sizes: Sequence[int]) -> Claim | None:
    """Return the largest kept checkpoint that can be read."""
    for size in reversed(sizes):
        try:
            claim = Claim.read(kept_path(size), source.fetch(kept_path(size)))
        except _UNREADABLE:
            continue
        if claim.checkpoint.size == size:
            return claim
    return None
