"""The checkpoints of a log, compared with the tree that its entries make, one after another as the walk comes by.

All of them are consistent with each other because each is the root of a prefix of the same entries: no proof is needed,
and none believed. A root that differs is held back until a later checkpoint shows which of two things that disagree is
wrong: where the entries make the later root, the earlier checkpoint was of another log; where they make none, they are.

What is read and verified ahead (``Kept``) counts only where the trust root in force is the one it was verified under.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

from custody.audit.checkpoints import Claim, Cosigned, Kept, cosigned, epochs_between
from custody.audit.claims import read_kept
from custody.audit.judge import Judge
from custody.audit.report import Finding, Report
from custody.audit.saved import Seen
from custody.audit.source import Source
from custody.audit.tree import TileCheck
from custody.errors import IntegrityError
from custody.rules.roots import policies_of
from custody.rules.state import State

__all__ = ["Heads"]


class Heads:
    """Judges what was published at each size. ``matched`` is the largest size whose root the entries make."""

    def __init__(
        self,
        source: Source,
        report: Report,
        *,
        shown: Claim | None,
        sizes: Sequence[int] | None,
        seen: Iterable[Seen] = (),
    ) -> None:
        """``shown`` is the newest checkpoint as the log shows it, ``sizes`` those of which one is kept, ascending
        (``None`` where that cannot be told: each is tried), ``seen`` the trees of earlier runs.
        """
        self.matched = 0
        self._source = source
        self._report = report
        self._shown = shown
        self._sizes = sizes or ()
        self._points = None if sizes is None else {*sizes, *([shown.checkpoint.size] if shown else [])}
        self._seen = {int(tree.size): tree.root for tree in seen}
        self._before = 0
        self._differing: list[tuple[Claim, bytes, bool]] = []
        self._ahead: Mapping[int, Kept] = {}

    def resume(self, size: int) -> None:
        """Go on where an earlier run ended."""
        self._before = self.matched = size

    def within(self, begin: int, end: int) -> tuple[int, ...]:
        """Return the sizes above ``begin``, up to ``end``, of which a checkpoint is kept."""
        return tuple(self._sizes[bisect_right(self._sizes, begin) : bisect_right(self._sizes, end)])

    def beyond(self, size: int) -> Sequence[int]:
        """Return the sizes above ``size`` of which a checkpoint is kept."""
        return self._sizes[bisect_right(self._sizes, size) :]

    def expect(self, kept: Iterable[Kept]) -> None:
        """Take what was read ahead of the stretch that comes now."""
        self._ahead = {item.claim.checkpoint.size: item for item in kept}

    def kept(self, size: int) -> Claim | None:
        """Read a kept checkpoint; ``None`` where there is none, and after a finding."""
        shown = self._shown is not None and self._shown.checkpoint.size == size
        if self._points is not None and not shown and size not in self._points:
            return None
        return read_kept(self._source, self._report, size, shown=shown)

    def accept(self, claim: Claim, state: State, size: int) -> bool:
        """Tell whether a kept checkpoint beyond those judged is signed as the trust roots in force at ``size`` say."""
        try:
            cosigned(claim, policies_of([state.roots[epoch] for epoch in epochs_between(state, self._before, size)]))
        except IntegrityError as error:
            self._report.find(Finding(None, "checkpoint-signature", error.message, claim.path))
            return False
        return True

    def check(self, size: int, tree: TileCheck, judge: Judge) -> None:
        """Judge what was published at ``size``: that which the tree has now, or 0 once there is a trust root."""
        if self._points is None or size in self._points:
            self._published(size, tree, judge)
        if size in self._seen:
            self._compare_seen(size, tree.root().hex())

    def _published(self, size: int, tree: TileCheck, judge: Judge) -> None:
        ahead = self._ahead.get(size)
        kept = ahead.claim if ahead else self.kept(size)
        shown = self._shown if self._shown and self._shown.checkpoint.size == size else None
        if shown and kept and shown.note == kept.note:
            shown = None
        epochs = epochs_between(judge.state, self._before, size)
        for claim in (kept, shown):
            if claim is None:
                continue
            by: Cosigned | None = None
            if ahead is not None and claim is kept and list(epochs) == [ahead.epoch]:
                by = ahead.by
            try:
                by = by or cosigned(claim, policies_of([judge.state.roots[epoch] for epoch in epochs]))
            except IntegrityError as error:
                self._report.find(Finding(None, "checkpoint-signature", error.message, claim.path))
            self._compare_root(claim, by, tree.root(), judge)
        if self.matched == size:
            self._settle()

    def _compare_root(self, claim: Claim, by: Cosigned | None, root: bytes, judge: Judge) -> None:
        """Compare a checkpoint's root with that of the tree at this size."""
        size = claim.checkpoint.size
        if size and claim.checkpoint.root != root:  # the empty tree has one root, which was compared when it was read
            self._differing.append((claim, root, by is not None))
            return
        self._settle()
        self.matched = size
        self._report.root = root
        if by is not None:
            self._report.checkpoints += 1
            judge.covered(size, by)
            self._before = size
            self._report.cosigned, self._report.witnesses = (by.earliest, by.latest), by.witnesses

    def _settle(self) -> None:
        """The entries so far make a checkpoint's root: earlier checkpoints that differ were never of this log."""
        newest = self._report.size
        for claim, root, signed in self._differing:
            text = (
                f"{claim.path} states root {claim.checkpoint.root.hex()} for size {claim.checkpoint.size}, "
                f"but the log of size {newest} has {root.hex()} there"
            )
            if signed:
                self._report.find(Finding(None, "fork", f"two histories, both signed: {text}", claim.path))
            else:
                self._report.find(Finding(None, "checkpoint-inconsistent", text, claim.path))
        self._differing.clear()

    def _compare_seen(self, size: int, root: str) -> None:
        """Compare the tree with the one that an earlier run saw at this size."""
        if root != self._seen[size]:
            text = f"an earlier run saw root {self._seen[size]} for size {size}, this log has {root} there"
            self._report.find(Finding(None, "fork", f"two histories: {text}"))

    def close(self) -> None:
        """Name the checkpoints whose roots the entries do not make, when no later one was made either."""
        if self._differing:
            claim, root, _ = self._differing[0]
            more = len(self._differing) - 1
            later = f", nor the roots of {more} later checkpoints" if more else ""
            text = (
                f"the entries do not make the root that {claim.path} states: {root.hex()} instead of "
                f"{claim.checkpoint.root.hex()}{later}; up to entry {self.matched} they make that of a checkpoint"
            )
            self._report.find(Finding(self.matched, "tree", text, claim.path))
        if self.matched != self._report.size:
            self._report.sound_tree = False
