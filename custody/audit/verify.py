"""One pass over a published log: entries in order, memory flat.

For each bundle: its entries; the leaf hash of each, compared with the tiles where these lead to the newest checkpoint;
the tree, made again; the documents and the rules; and at each size of which a checkpoint was published, that
checkpoint: its root must be the one made here, its signatures those that the trust roots *found on the way* demand. So
all kept checkpoints are consistent with each other because each is the root of a prefix of the same entries: no proof
is needed, and none believed.

Which of two things that disagree is wrong? An entry is, where authenticated tiles state another leaf hash (its bytes
are replaced by nothing, its place in the tree by that hash). Where the tiles lead to no root, the entries are believed
until a checkpoint shows whether they make its root.

What needs no knowledge of earlier entries is done ahead, on all cores where there is a pool (``examine``); the fold is
one after the other. A run that remembers an earlier one begins where that ended, if the tiles of the newest checkpoint
lead to the very tree that was seen; else everything is judged anew, and compared with all that was ever seen.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from custody.audit.checkpoints import Claim, kept_sizes
from custody.audit.claims import first_log, largest, read_shown
from custody.audit.conclusion import conclude
from custody.audit.examine import Bundle, Examine, Examined, Task, inline
from custody.audit.heads import Heads
from custody.audit.judge import Judge
from custody.audit.report import Finding, Report
from custody.audit.saved import Memory, Saved, Seen
from custody.audit.source import Source
from custody.audit.tree import TileCheck
from custody.errors import FormatError, IntegrityError, NotFoundError
from custody.ports import Policy
from custody.rules.state import State
from custody.tlog.merkle import Frontier, root_hash
from custody.tlog.reader import TileReader
from custody.tlog.tiles import TILE_WIDTH
from custody.values import U64

__all__ = ["Pins", "Way", "verify_log"]

_UNREADABLE: Final = (FormatError, IntegrityError, NotFoundError)
_TOGETHER: Final = 4
"""Bundles of one task: about a thousand entries, and some megabytes with their documents."""


@dataclass(frozen=True, slots=True)
class Pins:
    """What the auditor was told out of band: the digest of the genesis root, and the deployment id.

    Without a deployment id the one that the log claims is required of genesis, which the digest binds to it.
    """

    genesis: str
    deployment: str | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """How to go about it.

    ``examine`` is what examines bundles: here and now, unless a pool is given. With ``structure`` only hashes, tiles,
    checkpoints, trust roots and the end of a log are verified, no other entry. ``progress`` is told how many entries of
    how many are done. ``policies`` are those that the auditor has, by digest; what they answered is derived again.
    """

    examine: Examine | None = None
    structure: bool = False
    progress: Callable[[int, int], None] | None = None
    policies: Mapping[str, Policy] = field(default_factory=dict)


def verify_log(source: Source, pins: Pins, saved: Saved | None = None, way: Way = Way()) -> tuple[Report, Saved | None]:
    """Verify a log from its first entry, or from where ``saved`` ends, to its newest checkpoint.

    Whatever is wrong with the log is a finding. Returns what the next run may go on from: ``None`` where the tree is
    not sound or only its structure was verified. Raises ``NotFoundError`` where there is no log at all,
    ``UnavailableError`` where it cannot be read, ``IntegrityError`` for a ``saved`` state of another deployment,
    ``FormatError`` for one that cannot be read.
    """
    sizes, strange = kept_sizes(source)
    report = Report(structure=way.structure)
    for name in strange[:1]:
        report.remark("name", f"{name} is no name of a checkpoint")
    shown = read_shown(source, report)
    first = shown or largest(source, sizes or [])
    if first is None and report.found:  # there is one, and nothing can be made of it
        report.deployment, report.sound_tree = pins.deployment or "", False
        return report, None
    if first is None:
        raise NotFoundError("there is no log here: no checkpoint can be read", hint="name the directory of the log")
    if shown is None and report.found == 0:
        report.find(Finding(None, "checkpoint-missing", "the newest checkpoint is missing", "checkpoint"))
    report.deployment = pins.deployment or first_log(source, sizes) or first.checkpoint.origin
    if saved is not None:
        saved.require_pins(report.deployment, pins.genesis)
    walk = _Walk(source, report, pins, way, shown=shown, sizes=sizes, saved=saved)
    if saved is not None and saved.memory and not way.structure and _continues(source, first, saved.newest):
        walk.resume(Memory.parse(saved.memory), saved.newest)
    walk.run(first)
    return report, walk.saved()


class _Walk:
    """The state of one pass."""

    def __init__(
        self,
        source: Source,
        report: Report,
        pins: Pins,
        way: Way,
        *,
        shown: Claim | None,
        sizes: Sequence[int] | None,
        saved: Saved | None,
    ) -> None:
        self._source = source
        self._report = report
        self._pins = pins
        self._way = way
        self._examine = way.examine or inline(source)
        self._earlier = saved.seen if saved else ()
        self._heads = Heads(source, report, shown=shown, sizes=sizes, seen=self._earlier)
        self._tree = TileCheck(source, report)
        self._judge = Judge(source, report, State(report.deployment, pins.genesis), way.policies)
        self._stopped = False

    def resume(self, memory: Memory, seen: Seen) -> None:
        """Go on where an earlier run ended."""
        report, size = self._report, int(seen.size)
        self._tree = TileCheck(self._source, report, Frontier(size, memory.edge), memory.rows)
        self._judge = Judge(self._source, report, memory.state, self._way.policies)
        self._judge.broken, self._judge.unread = memory.broken, memory.unread
        self._heads.resume(size)
        report.begun = size
        report.root = bytes.fromhex(seen.root)
        report.audited, report.hashed, report.checkpoints = memory.audited, size, memory.checkpoints
        report.types = Counter(memory.types)
        report.asked, report.unasked = Counter(memory.asked), Counter(memory.unasked)
        report.findings += memory.findings
        report.found += memory.found
        report.remarks += memory.remarks

    def saved(self) -> Saved | None:
        """Return what the next run may go on from."""
        report, judge = self._report, self._judge
        largest = int(self._earlier[-1].size) if self._earlier else 0
        if not report.sound_tree or self._stopped or report.structure or report.size < largest or judge.pending:
            return None
        memory = Memory(
            state=judge.state,
            edge=self._tree.edge,
            rows=self._tree.rows,
            broken=judge.broken,
            unread=judge.unread,
            audited=report.audited,
            checkpoints=report.checkpoints,
            types=dict(report.types),
            asked=dict(report.asked),
            unasked=dict(report.unasked),
            found=report.found,
            findings=report.findings,
            remarks=report.lasting(),
        )
        now = Seen(size=U64(report.size), root=report.root.hex())
        seen = self._earlier if self._earlier and self._earlier[-1] == now else (*self._earlier, now)
        return Saved(report.deployment, self._pins.genesis, seen, memory.encode())

    def run(self, first: Claim) -> None:
        """Walk to the newest checkpoint, and to those that were kept and are newer."""
        self._stage(first)
        for size in self._heads.beyond(first.checkpoint.size):
            claim = None if self._stopped else self._newer(size, first)
            if claim is not None:
                self._stage(claim)
        self._close()

    def _newer(self, size: int, first: Claim) -> Claim | None:
        """Accept a kept checkpoint beyond the one shown if the trust root in force says so."""
        claim = self._heads.kept(size)
        state = self._judge.state
        if claim is None or not state.roots or not self._heads.accept(claim, state, self._tree.size):
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
        if size == 0:
            self._report.find(Finding(None, "empty", "the log holds no entry, so there is no trust root", claim.path))
            self._stopped = True
            return
        if self._tree.size == size:  # nothing is new: what is shown is judged all the same
            self._heads.check(size, self._tree, self._judge)
        with closing(self._examine(self._tasks(claim))) as bundles:
            for bundle in bundles:
                self._bundle(bundle)
                if self._stopped:
                    break
                if self._way.progress:
                    self._way.progress(self._tree.size, size)
        if self._tree.size == size:
            self._tree.finish()

    def _tasks(self, claim: Claim) -> Iterator[Task]:
        """Cut what is left into tasks. The first is one bundle: after it there are trust roots to examine under."""
        begin, size = self._tree.size, claim.checkpoint.size
        first, end = begin // TILE_WIDTH, -(-size // TILE_WIDTH)
        while first < end and not self._stopped:
            last = min(end, first + _TOGETHER if self._judge.state.roots else first + 1)
            kept = self._heads.within(max(begin, first * TILE_WIDTH), min(size, last * TILE_WIDTH))
            yield Task(claim.checkpoint, first, last, begin, self._judge.anchors, self._way.structure, kept)
            first = last

    def _bundle(self, bundle: Bundle) -> None:
        for finding in bundle.findings:
            self._report.find(finding)
        if bundle.entries is None:
            self._report.remark("stopped", f"nothing from entry {self._tree.size} on could be judged")
            self._stopped = True
            return
        self._heads.expect(bundle.kept)
        for examined in bundle.entries:
            self._entry(examined, bundle)
            if not self._judge.state.roots:
                self._report.remark("stopped", "without the pinned genesis trust root nothing else can be judged")
                self._stopped = True
                return

    def _entry(self, examined: Examined, bundle: Bundle) -> None:
        """Take the next entry of a bundle."""
        index, report = self._tree.size, self._report
        ended = self._tree.root() if self._judge.state.ended else b""
        self._tree.append(examined.stated or examined.leaf)
        report.hashed += 1
        if examined.stated is not None:
            text = (
                f"its leaf hash is {examined.leaf.hex()[:16]}…, the log was signed with {examined.stated.hex()[:16]}…"
            )
            report.find(Finding(index, "entry-altered", text, bundle.path))
            self._judge.lost(index, examined.data)
        elif report.structure and not examined.data:
            self._judge.skip()
        else:
            self._judge.entry(index, examined, bundle.epoch)
            report.audited += 1
            self._compare_predecessor(index, ended)
        if not self._judge.state.roots:
            return
        if index == 0:
            self._heads.check(0, self._tree, self._judge)
        self._heads.check(index + 1, self._tree, self._judge)

    def _compare_predecessor(self, index: int, ended: bytes) -> None:
        """Where a successor has just begun, require that the final checkpoint it names is of the tree so far."""
        final = self._judge.state.root.log.predecessor if ended and not self._judge.state.ended else None
        if final is None:
            return
        stated = Claim.read("the trust root", final).checkpoint.root
        if stated != ended:
            text = f"its final checkpoint has root {stated.hex()}, the entries before it make {ended.hex()}"
            self._report.find(Finding(index, "fork", f"the successor does not go on where the log ended: {text}"))

    def _close(self) -> None:
        """Say what only the end can say."""
        report, state = self._report, self._judge.state
        self._heads.close()
        if self._earlier and int(self._earlier[-1].size) > report.size:
            saved = self._earlier[-1]
            text = f"an earlier run saw size {saved.size} with root {saved.root}, this log has size {report.size}"
            report.find(Finding(None, "rollback", f"{text} with root {report.root.hex()}"))
        conclude(report, state)


def _continues(source: Source, claim: Claim, seen: Seen) -> bool:
    """Tell whether the tiles that lead to a checkpoint's root show that its tree begins with the one that was seen."""
    try:
        reader = TileReader(source.fetch, claim.checkpoint)
        return claim.checkpoint.size >= seen.size and root_hash(int(seen.size), reader.hash_at).hex() == seen.root
    except _UNREADABLE:
        return False
