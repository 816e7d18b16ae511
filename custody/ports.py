"""What the core asks of the outside world. Adapters fulfil these; contract suites in ``tests/contracts`` check them."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, Protocol, runtime_checkable

__all__ = [
    "BlobReader",
    "BlobWriter",
    "Clock",
    "Facts",
    "Journal",
    "JournalRow",
    "JournalTransaction",
    "LockMode",
    "Pinned",
    "Policy",
    "Presigned",
    "Presigner",
    "Pruned",
    "Retainer",
    "Rng",
    "Settler",
    "Store",
    "Sweeper",
    "Witness",
]

Clock = Callable[[], int]
"""Seconds since 1970, UTC."""

Rng = Callable[[int], bytes]
"""That many bytes from a cryptographic generator."""


class BlobReader(Protocol):
    """An open blob; many threads may read it at once."""

    @property
    def size(self) -> int:
        """Bytes in the blob."""
        ...

    def read_into(self, offset: int, buffer: memoryview, /) -> None:
        """Fill the whole buffer from ``offset``.

        Raises ``IntegrityError`` when the blob is shorter, ``UnavailableError`` when the store does not answer.
        """
        ...

    def close(self) -> None:
        """Give up the handle: later reads raise ``ValueError``. One that another thread has under way ends before; one
        that waits for a network may raise it too.
        """
        ...


class BlobWriter(Protocol):
    """A new blob while it is being written, by one thread at a time."""

    def write(self, data: bytes | memoryview, /) -> None:
        """Append all of ``data``; the buffer may be reused afterwards. Raises ``UnavailableError``.

        When it raises, nothing was appended and the same may be written again; or the blob is lost, and every later
        write raises, as does the end of the block. A part of ``data`` never stays.
        """
        ...


class Store(Protocol):
    """Immutable blobs under keys like ``versions/<vid>/0.floe``, and a few mutable names (``put``).

    Keys are made by us from digests and numbers, never from what a user typed: parts of ``a-z 0-9 . _ -`` joined by
    ``/``, none empty or starting with a dot. Any other key raises ``FormatError`` before it reaches a path or a URL.
    Every method may raise ``UnavailableError``, and ``IntegrityError`` where the store was tampered with.
    """

    def put_new(self, key: str, source: BinaryIO | bytes) -> None:
        """Store a blob under a key that must not exist. When this returns the blob is durable and visible whole.

        The same bytes again are fine, so whoever lost the answer asks again; other bytes raise ``ConflictError``.
        When this raises, a part of the blob is never visible; all of it may be, where only the answer was lost.
        """
        ...

    def put_all(self, blobs: Mapping[str, bytes]) -> None:
        """Do as ``put_new`` does for many small blobs by key, in any order, at the cost of few. When this returns all
        of them are durable; when it raises, some may be.
        """
        ...

    def writer(self, key: str) -> AbstractContextManager[BlobWriter]:
        """Write a new blob piece by piece. The end of the block makes the promises of ``put_new``.

        When the block raises, nothing is visible.
        """
        ...

    def put(self, key: str, data: bytes) -> None:
        """Replace a small blob atomically and durably (the checkpoint)."""
        ...

    def get(self, key: str, limit: int = 16 << 20) -> bytes:
        """Return a small blob whole. Raises ``NotFoundError``; ``IntegrityError`` when it is larger than ``limit``."""
        ...

    def open(self, key: str) -> BlobReader:
        """Open a blob for ranged reads. Raises ``NotFoundError``."""
        ...

    def exists(self, key: str) -> bool:
        """Tell whether the key holds a blob."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Yield keys that start with ``prefix``, sorted."""
        ...

    def delete(self, key: str, *, durable: bool = True) -> None:
        """Remove a blob; fine when there is none. If not ``durable``, it may be there again after a power cut."""
        ...

    def close(self) -> None:
        """Give up descriptors, connections and threads. A second call does nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Pinned:
    """A blob as it was when it was looked at: reads of this ``version`` give those ``size`` bytes or fail.

    ``version`` means something to its store only: the id of an object version, or where there are none an entity tag.
    """

    key: str
    size: int
    version: str


@dataclass(frozen=True, slots=True)
class Presigned:
    """One HTTP request that anybody may make until ``expires`` (seconds since 1970), with exactly these ``headers``.

    The URL is a bearer token: it is never logged and not shown by ``repr``. A GET may add ``Range``, which is not
    signed. Who holds it renews it a while before it ends.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    expires: int


@runtime_checkable
class Presigner(Protocol):
    """A store that lets others read and write one blob without credentials of their own, over HTTP.

    A store that cannot (a directory) does not have these methods: ``isinstance`` tells. ``seconds`` are at most 900; a
    URL may end before, because the credentials that signed it end: ``expires`` tells. Every method may raise
    ``UnavailableError``.
    """

    def pin(self, key: str) -> Pinned:
        """Look at a blob. Raises ``NotFoundError``."""
        ...

    def presign_get(self, blob: Pinned, seconds: int) -> Presigned:
        """Permit reading a blob, or ranges of it; another version of it is answered 404 or 412, never with bytes."""
        ...

    def presign_put(self, key: str, size: int, seconds: int) -> Presigned:
        """Permit writing a new blob of exactly ``size`` bytes at once; a key that exists is answered 412."""
        ...

    def begin_parts(self, key: str) -> str:
        """Begin a blob that comes in parts and return the name of this upload. Nothing is visible until it is ended."""
        ...

    def presign_part(self, key: str, upload: str, number: int, size: int, seconds: int) -> Presigned:
        """Permit writing part ``number`` (from 1) of exactly ``size`` bytes; the same part again replaces it."""
        ...

    def finish_parts(self, key: str, upload: str, size: int) -> None:
        """Make the blob of all parts visible, durably; fine when that has happened already.

        Raises ``ConflictError`` when the key exists with other content, ``IntegrityError`` when the parts are not
        together ``size`` bytes.
        """
        ...

    def abort_parts(self, key: str, upload: str) -> None:
        """Throw the parts away; fine when there are none."""
        ...


@runtime_checkable
class Settler(Protocol):
    """A store that makes many new blobs durable at once, for less than each by itself. ``settles`` says whether it can.

    For blobs to which nothing leads before they are settled: those of a version whose manifest is still to come.
    """

    @property
    def settles(self) -> bool:
        """Whether ``settle`` does more than ``writer`` has done."""
        ...

    def unsettled_writer(self, key: str) -> AbstractContextManager[BlobWriter]:
        """As ``Store.writer``; but until ``settle`` has returned, a crash may leave any bytes under the key."""
        ...

    def settle(self) -> None:
        """Make durable what unsettled writers have written until now."""
        ...


@runtime_checkable
class Sweeper(Protocol):
    """A store in which a killed writer leaves something that no key names."""

    def sweep(self, now: int, age: int = 24 * 3600) -> int:
        """Remove what nobody has touched for ``age`` seconds before ``now``; return how many. For a start-up."""
        ...


LockMode = Literal["governance", "compliance"]
"""Who may end a lock before its time: someone with that special right, or nobody at all."""


@runtime_checkable
class Retainer(Protocol):
    """A store that can refuse everybody, its administrators included, to delete a blob before a time."""

    def retain(self, key: str, mode: LockMode, until: int) -> None:
        """Lock a blob until then (seconds since 1970). A later time than that of an earlier lock extends it.

        Raises ``ConfigError`` when the bucket was made without object lock, ``NotFoundError``.
        """
        ...


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One entry as stored: its index, leaf bytes and row MAC (empty where the log's store gave it, under a root)."""

    index: int
    entry: bytes
    mac: bytes


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many entries, from the first on, are only in the log's store; and the root (32 bytes) of their tree."""

    size: int
    root: bytes


class JournalTransaction(Protocol):
    """An open write transaction. Nothing of it is seen by anybody before it commits."""

    @property
    def size(self) -> int:
        """How many entries the journal holds, those appended here included."""
        ...

    def append(self, entry: bytes) -> int:
        """Append an entry with its MAC and return its index."""
        ...

    def add_document(self, envelope_digest: str, envelope: bytes) -> None:
        """Store a document envelope; fine when it is there already."""
        ...

    def put_share(self, request: str, slot: str, wrapped: bytes) -> None:
        """Store a wrapped share of a request until it is opened, replacing an older one of the slot."""
        ...

    def delete_shares(self, request: str) -> None:
        """Forget the wrapped shares of a request."""
        ...


class Journal(Protocol):
    """The ledger: an append-only journal of entries and the documents behind them. The database is a cache of the
    log; what it holds beyond them (wrapped shares) may be lost without losing anything granted.
    """

    def transaction(self) -> AbstractContextManager[JournalTransaction]:
        """Begin the one write transaction there may be at a time; commits durably when the block ends, rolls back
        when it raises. Raises ``UnavailableError`` when the database is busy, full or gone.
        """
        ...

    def rows(self, start: int, limit: int) -> Sequence[JournalRow]:
        """Return up to ``limit`` rows from index ``start``, in order, each MAC verified. Raises ``IntegrityError`` on a
        row that was edited, inserted or reordered, on gaps, and for rows that are not there because they were pruned.
        """
        ...

    def size(self) -> int:
        """How many entries are committed."""
        ...

    def document(self, envelope_digest: str, entry: int | None = None) -> bytes:
        """Return a stored envelope, its digest verified. Raises ``NotFoundError``, ``IntegrityError``.

        ``entry`` is the index of an entry that names it: so it is found where that was pruned.
        """
        ...

    def documents(self, named: Mapping[str, int]) -> Mapping[str, bytes]:
        """Return those of these envelopes that are stored, by digest, verified as ``document`` does.

        ``named`` holds for each digest the index of an entry that names it.
        """
        ...

    def shares(self, request: str) -> Mapping[str, bytes]:
        """Return the wrapped shares held for a request, by slot (``0/1``)."""
        ...

    def checkpoint(self) -> bytes | None:
        """Return the newest checkpoint this journal signed (log signature only), if any."""
        ...

    def swap_checkpoint(self, old: bytes | None, new: bytes) -> None:
        """Compare and swap the newest signed checkpoint. Raises ``ConflictError`` when ``old`` is not it."""
        ...

    def pruned(self) -> Pruned | None:
        """Return what was pruned, its MAC verified; ``None`` where all entries are there. Raises ``IntegrityError``."""
        ...

    def prune(self, to: Pruned, documents: Collection[str]) -> None:
        """Forget the entries below ``to.size`` and documents by envelope digest, and remember ``to``: all in one
        transaction. Whoever asks has made sure that the log's store has them.

        Raises ``ConflictError`` unless more is pruned than before and at least one entry stays.
        """
        ...

    def close(self) -> None:
        """Give up the database."""
        ...


class Witness(Protocol):
    """A witness (c2sp.org/tlog-witness) as the publisher sees it. A witness is not trusted: answers are verified."""

    @property
    def name(self) -> str:
        """The witness's name in the policy."""
        ...

    def add_checkpoint(self, old: int, proof: Sequence[bytes], checkpoint: bytes) -> Sequence[bytes]:
        """Ask for a cosignature; returns signature lines. Raises ``ConflictError`` with attribute ``size`` when the
        witness is at another size, ``IntegrityError`` when it refuses, ``UnavailableError`` when it does not answer in
        time.
        """
        ...


Facts = Mapping[str, str | int | bool | Sequence[str]]


class Policy(Protocol):
    """The deployment's policy (Cedar). Default deny; a forbid overrides."""

    @property
    def digest(self) -> str:
        """SHA-256 of the policy bundle, which the trust root names."""
        ...

    def check(self, action: str, principal: str, resource: str, facts: Facts) -> None:
        """Return when the policy allows ``action``; raise ``DeniedError`` naming the deciding policy otherwise."""
        ...
