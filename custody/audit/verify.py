"""One pass over a published log: entries in order, memory flat.

For each bundle: its entries; the leaf hash of each, compared with the tiles where these lead to the newest checkpoint;
the tree, made again; the documents and the rules; and at each size of which a checkpoint was published, that
checkpoint: its root must be the one made here, its signatures those that the trust roots *found on the way* demand. So
all kept checkpoints are consistent with each other because each is the root of a prefix of the same entries: no proof
is needed, and none believed.

Which of two things that disagree is wrong? An entry is, where authenticated tiles state another leaf hash (its bytes
are replaced by nothing, its place in the tree by that hash). Where the tiles lead to no root, the entries are believed
until a checkpoint shows whether they make its root.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from custody.audit.checkpoints import Claim, Cosigned, cosigned, kept_path, kept_sizes, policies_between
from custody.audit.judge import Judge
from custody.audit.report import Finding, Report
from custody.audit.saved import Saved
from custody.audit.source import Source
from custody.audit.tree import Bundles, TileCheck
from custody.errors import FormatError, IntegrityError, NotFoundError
from custody.tlog.merkle import leaf_hash
from custody.tlog.reader import TileReader
from custody.tlog.tiles import ENTRIES, TILE_WIDTH, tile_width

__all__ = ["Pins", "verify_log"]

_UNREADABLE = (FormatError, IntegrityError, NotFoundError)


@dataclass(frozen=True, slots=True)
class Pins:
    """What the auditor was told out of band: the digest of the genesis root, and the deployment id.

    Without a deployment id the one that the log claims is required of genesis, which the digest binds to it.
    """

    genesis: str
    deployment: str | None = None


def verify_log(
    source: Source, pins: Pins, saved: Saved | None = None, *, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Verify a log from its first entry to its newest checkpoint.

    Whatever is wrong with the log is a finding. Raises ``NotFoundError`` where there is no log at all,
    ``UnavailableError`` where it cannot be read, ``IntegrityError`` for a ``saved`` state of another deployment.
    ``progress`` is told how many entries of how many were judged.
    """
    sizes, strange = kept_sizes(source)
    report = Report()
    for name in strange[:1]:
        report.remark("name", f"{name} is no name of a checkpoint")
    shown = _shown(source, report)
    first = shown or _largest(source, sizes or [])
    if first is None:
        raise NotFoundError("there is no log here: no checkpoint can be read", hint="name the directory of the log")
    if shown is None and report.found == 0:
        report.find(Finding(None, "checkpoint-missing", "the newest checkpoint is missing", "checkpoint"))
    report.deployment = pins.deployment or _first_log(source, sizes) or first.checkpoint.origin
    if saved is not None:
        saved.require_pins(report.deployment, pins.genesis)
    _Walk(source, report, pins, shown=shown, sizes=sizes, saved=saved, progress=progress).run(first)
    return report


class _Walk:
    """The state of one pass."""

    def __init__(
        self,
        source: Source,
        report: Report,
        pins: Pins,
        *,
        shown: Claim | None,
        sizes: Sequence[int] | None,
        saved: Saved | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._progress = progress
        self._source = source
        self._report = report
        self._shown = shown
        self._sizes = None if sizes is None else frozenset(sizes)
        self._saved = saved
        self._tree = TileCheck(source, report)
        self._bundles = Bundles(source, report)
        self._judge = Judge(source, report, report.deployment, pins.genesis)
        self._before = 0
        self._stopped = False
        self._differing: list[tuple[Claim, bytes, bool]] = []
        self._matched = 0

    def run(self, first: Claim) -> None:
        """Walk to the newest checkpoint, and to those that were kept and are newer."""
        self._stage(first)
        for size in sorted(size for size in self._sizes or () if size > first.checkpoint.size):
            claim = None if self._stopped else self._newer(size, first)
            if claim is not None:
                self._stage(claim)
        self._close()

    def _newer(self, size: int, first: Claim) -> Claim | None:
        """Accept a kept checkpoint beyond the one shown if the trust root in force says so."""
        claim = self._kept(size)
        if claim is None or not self._judge.state.roots:
            return None
        try:
            cosigned(claim, policies_between(self._judge.state, self._before, self._tree.size))
        except IntegrityError as error:
            self._report.find(Finding(None, "checkpoint-signature", error.message, claim.path))
            return None
        self._report.remark(
            "shown-older",
            f"{first.path} states size {first.checkpoint.size}, but {claim.path} is newer and witnessed: publishing "
            "was interrupted, the log grew while it was read, or an old checkpoint was put in its place",
        )
        return claim

    def _stage(self, claim: Claim) -> None:
        """Judge the entries up to a checkpoint."""
        size = claim.checkpoint.size
        self._report.size = size
        authority = _authority(self._source, claim)
        if size == 0:
            self._report.find(Finding(None, "empty", "the log holds no entry, so there is no trust root", claim.path))
            self._stopped = True
        while self._tree.size < size and not self._stopped:
            index = self._tree.size // TILE_WIDTH
            width = tile_width(ENTRIES, index, size)
            found = self._bundles.read(index, width)
            if found is None:
                self._report.remark("stopped", f"nothing from entry {self._tree.size} on could be judged")
                self._stopped = True
                break
            path, entries = found
            leaves = _leaves(authority, index, width)
            self._bundles.compare_partials(index, leaves or [leaf_hash(entry) for entry in entries])
            for offset in range(self._tree.size % TILE_WIDTH, width):
                self._entry(entries[offset], leaves[offset] if leaves else None, path)
                if not self._judge.state.roots:
                    self._report.remark("stopped", "without the pinned genesis trust root nothing else can be judged")
                    self._stopped = True
                    return
            if self._progress:
                self._progress(self._tree.size, size)
        if self._tree.size == size:
            self._tree.finish()

    def _entry(self, data: bytes, leaf: bytes | None, path: str) -> None:
        """Take the next entry of the bundle at ``path``; ``leaf`` is its authenticated hash, if there is one."""
        index, actual = self._tree.size, leaf_hash(data)
        if leaf is not None and leaf != actual:
            text = f"its leaf hash is {actual.hex()[:16]}…, the log was signed with {leaf.hex()[:16]}…"
            self._report.find(Finding(index, "entry-altered", text, path))
            self._tree.append(leaf)
            self._judge.lost(index, data)
        else:
            ended = self._tree.root() if self._judge.state.ended else b""
            self._tree.append(actual)
            self._judge.entry(index, data)
            self._report.audited += 1
            self._compare_predecessor(index, ended)
        if not self._judge.state.roots:
            return
        if index == 0:
            self._checkpoint(0, self._before)
        self._checkpoint(index + 1, self._before)
        self._compare_saved()

    def _checkpoint(self, size: int, before: int) -> None:
        """Judge what was published at this size."""
        kept = self._kept(size)
        shown = self._shown if self._shown and self._shown.checkpoint.size == size else None
        if shown and kept and shown.note == kept.note:
            shown = None
        policies = policies_between(self._judge.state, before, size)
        for claim in (kept, shown):
            if claim is None:
                continue
            by: Cosigned | None = None
            try:
                by = cosigned(claim, policies)
            except IntegrityError as error:
                self._report.find(Finding(None, "checkpoint-signature", error.message, claim.path))
            self._compare_root(claim, by)
        if self._matched == size:
            self._settle()

    def _compare_root(self, claim: Claim, by: Cosigned | None) -> None:
        """Compare a checkpoint's root with that of the tree at this size."""
        size, root = claim.checkpoint.size, self._tree.root()
        if size and claim.checkpoint.root != root:  # the empty tree has one root, which was compared when it was read
            self._differing.append((claim, root, by is not None))
            return
        self._settle()
        self._matched = size
        self._report.root = root
        if by is not None:
            self._report.checkpoints += 1
            self._judge.covered(size, by)
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

    def _compare_predecessor(self, index: int, ended: bytes) -> None:
        """Where a successor has just begun, require that the final checkpoint it names is of the tree so far."""
        final = self._judge.state.root.log.predecessor if ended and not self._judge.state.ended else None
        if final is None:
            return
        stated = Claim.read("the trust root", final).checkpoint.root
        if stated != ended:
            text = f"its final checkpoint has root {stated.hex()}, the entries before it make {ended.hex()}"
            self._report.find(Finding(index, "fork", f"the successor does not go on where the log ended: {text}"))

    def _compare_saved(self) -> None:
        saved = self._saved
        if saved is None or saved.size != self._tree.size:
            return
        root = self._tree.root().hex()
        if root != saved.root:
            text = f"an earlier run saw root {saved.root} for size {saved.size}, this log has {root} there"
            self._report.find(Finding(None, "fork", f"two histories: {text}"))

    def _close(self) -> None:
        """Say what only the end can say."""
        report, state = self._report, self._judge.state
        if self._differing:
            claim, root, _ = self._differing[0]
            more = len(self._differing) - 1
            later = f", nor the roots of {more} later checkpoints" if more else ""
            text = (
                f"the entries do not make the root that {claim.path} states: {root.hex()} instead of "
                f"{claim.checkpoint.root.hex()}{later}; up to entry {self._matched} they make that of a checkpoint"
            )
            report.find(Finding(self._matched, "tree", text, claim.path))
        if self._matched != report.size:
            report.sound_tree = False
        saved = self._saved
        if saved is not None and saved.size > report.size:
            text = f"an earlier run saw size {saved.size} with root {saved.root}, this log has size {report.size}"
            report.find(Finding(None, "rollback", f"{text} with root {report.root.hex()}"))
        if state.roots:
            report.epoch, report.root_digest = int(state.root.epoch), state.root_digest
            self._remark_trust()

    def _remark_trust(self) -> None:
        root = self._judge.state.root
        counted = root.checkpoint_policy.counted()
        if len(counted) == 1:
            self._report.remark(
                "one-witness",
                f"{counted[0].name} is the only witness: if those who run the log run it too, they can rewrite history",
            )
        if self._judge.state.roots[0].log.vkey != root.log.vkey:
            self._report.remark("log-key", "the log's key was changed on the way")

    def _kept(self, size: int) -> Claim | None:
        """Read a kept checkpoint; ``None`` where there is none, and after a finding."""
        path = kept_path(size)
        shown = self._shown is not None and self._shown.checkpoint.size == size
        if self._sizes is not None and size not in self._sizes and not shown:
            return None
        try:
            claim = Claim.read(path, self._source.fetch(path))
        except NotFoundError:
            if shown:
                text = f"checkpoint states size {size}, but {path} was not kept"
                self._report.find(Finding(None, "checkpoint-missing", text, path))
            return None
        except (FormatError, IntegrityError) as error:
            self._report.find(Finding(None, "checkpoint-format", error.message, path))
            return None
        if claim.checkpoint.size != size:
            self._report.find(Finding(None, "checkpoint-format", f"{path} states size {claim.checkpoint.size}", path))
            return None
        return claim


def _shown(source: Source, report: Report) -> Claim | None:
    """Read the newest checkpoint; ``None`` where there is none, and after a finding."""
    try:
        return Claim.read("checkpoint", source.fetch("checkpoint"))
    except NotFoundError:
        return None
    except (FormatError, IntegrityError) as error:
        report.find(Finding(None, "checkpoint-format", error.message, "checkpoint"))
        return None


def _first_log(source: Source, sizes: Sequence[int] | None) -> str | None:
    """Return which log the oldest kept checkpoint claims to be of; the first log is named like the deployment."""
    size = sizes[0] if sizes else 0
    try:
        return Claim.read(kept_path(size), source.fetch(kept_path(size))).checkpoint.origin
    except _UNREADABLE:
        return None


def _largest(source: Source, sizes: Sequence[int]) -> Claim | None:
    """Return the largest kept checkpoint that can be read."""
    for size in reversed(sizes):
        try:
            claim = Claim.read(kept_path(size), source.fetch(kept_path(size)))
        except _UNREADABLE:
            continue
        if claim.checkpoint.size == size:
            return claim
    return None


def _authority(source: Source, claim: Claim) -> TileReader | None:
    """Return the tiles that lead to a checkpoint's root, where they do."""
    try:
        return TileReader(source.fetch, claim.checkpoint)
    except _UNREADABLE:
        return None


def _leaves(authority: TileReader | None, index: int, width: int) -> Sequence[bytes] | None:
    """Return the leaf hashes of a bundle that lead to the checkpoint's root, where they can be told."""
    if authority is None:
        return None
    first = index * TILE_WIDTH
    try:
        return [authority.hash_at(0, first + offset) for offset in range(width)]
    except _UNREADABLE:
        return None
