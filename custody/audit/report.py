"""What an audit says.

A *finding* is a contradiction: the log is not what it must be. A *remark* is what could not be checked, or what a
reader should know; it makes no log wrong. The code of a finding says which check failed:

::

    checkpoint-missing       a checkpoint that must be there is not
    checkpoint-format        bytes that are no checkpoint, or one of another size than its name says
    checkpoint-signature     not signed by the log's key and the witness quorum of each root in force
    checkpoint-inconsistent  its root is not that of the log, and not even the log signed it
    fork                     two histories under one size, both signed by the log, or seen by an earlier run
    rollback                 an earlier run saw a larger log
    tree                     entries that do not make the root that a checkpoint states
    tile, tile-missing       a hash tile other than the entries make it, or none
    bundle, bundle-missing   an entry bundle that is none, or differs from another one of the same entries
    entry-altered            not the entry that the checkpoint covers
    entry-format             bytes that are no entry
    document-missing         a document that an entry names is not there
    document-altered         other bytes under a document's name, or another document than the entry says
    rule-<type>              an entry of this type breaks a rule (custody.rules)
    time                     an entry states a later time than the witnesses who cosigned it, or an earlier one at
                             which something was allowed that was over when they did
    certificate              not valid when the entry was cosigned
    policy                   the policy in force denies what the entry says it allowed
    empty                    the log holds no entry, so no trust root
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["MAX_LISTED", "Finding", "Open", "Remark", "Report"]

MAX_LISTED: Final = 1000
"""Findings that are listed; further ones are counted."""

_LASTING: Final = frozenset({"uncovered"})
_TREE: Final = frozenset({"fork", "rollback", "tree", "empty"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One contradiction.

    ``entry`` is an index or ``None``, ``place`` the path of the object that is wrong or "", ``documents`` envelope
    digests. ``follows`` is the index of an earlier entry that was wrong: this one builds on it, and may be wrong for
    that reason only.
    """

    entry: int | None
    code: str
    text: str
    place: str = ""
    documents: tuple[str, ...] = ()
    follows: int | None = None

    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "code": self.code,
            "documents": list(self.documents),
            "entry": self.entry,
            "follows": self.follows,
            "place": self.place,
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to know that is no contradiction."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Open:
    """An intent that has no outcome yet, which is no fault: of an opening or a session, of which lease, and how many
    bytes count as spent.
    """

    entry: int
    type: str
    lease: str
    ceiling: int

    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"ceiling": self.ceiling, "entry": self.entry, "lease": self.lease, "type": self.type}


@dataclass(slots=True)
class Report:
    """The result. ``size`` is what the newest checkpoint states, ``hashed`` how many entries were taken into the tree,
    ``audited`` how many were judged; up to ``begun`` an earlier run did that. With ``structure`` only trust roots and
    the ends of logs were.

    ``root`` (32 bytes) is the tree's, made from the entries; ``cosigned`` the earliest and latest time, POSIX seconds,
    that the counted witnesses of the newest good checkpoint state; ``types`` counts entries.
    """

    deployment: str = ""
    size: int = 0
    hashed: int = 0
    audited: int = 0
    begun: int = 0
    structure: bool = False
    root: bytes = b""
    checkpoints: int = 0
    cosigned: tuple[int, int] | None = None
    witnesses: tuple[str, ...] = ()
    epoch: int | None = None
    root_digest: str = ""
    types: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    """What the policy was asked again, by its digest."""
    unasked: Counter[str] = field(default_factory=Counter)
    """What it was not, since the auditor has no policy of this digest."""
    open: list[Open] = field(default_factory=list)
    """Intents without an outcome, at the end of the log."""
    found: int = 0
    sound_tree: bool = True
    """No finding is about checkpoints or the tree: what may be remembered for a later run."""

    @property
    def ok(self) -> bool:
        """Everything was judged (of its structure, where only that was asked for), and nothing is wrong."""
        return self.found == 0 and (self.hashed if self.structure else self.audited) == self.size > 0

    def find(self, finding: Finding) -> None:
        """Add a finding."""
        self.found += 1
        if finding.code in _TREE or finding.code.startswith("checkpoint"):
            self.sound_tree = False
        if len(self.findings) < MAX_LISTED:
            self.findings.append(finding)

    def remark(self, code: str, text: str) -> None:
        """Add a remark, each code once."""
        if all(remark.code != code for remark in self.remarks):
            self.remarks.append(Remark(code, text))

    def lasting(self) -> list[Remark]:
        """Return the remarks that still hold in a later run that goes on from here."""
        return [remark for remark in self.remarks if remark.code in _LASTING]

    def data(self) -> dict[str, Any]:
        """Return it for JSON: times POSIX seconds, digests hex."""
        return {
            "audited": self.audited,
            "begun": self.begun,
            "checkpoints": self.checkpoints,
            "cosigned": list(self.cosigned) if self.cosigned else None,
            "deployment": self.deployment,
            "epoch": self.epoch,
            "findings": [finding.data() for finding in self.findings],
            "found": self.found,
            "hashed": self.hashed,
            "ok": self.ok,
            "open": [item.data() for item in self.open],
            "policies": {
                digest: {"asked": self.asked[digest], "unasked": self.unasked[digest]}
                for digest in sorted({*self.asked, *self.unasked})
            },
            "remarks": [{"code": remark.code, "text": remark.text} for remark in self.remarks],
            "root": self.root.hex(),
            "size": self.size,
            "structure": self.structure,
            "trust_root": self.root_digest,
            "types": dict(sorted(self.types.items())),
            "witnesses": list(self.witnesses),
        }
