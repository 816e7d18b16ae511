"""Sessions of a lease, and the bytes they are served."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from custody.broker.closing import close_overdue, end_session
from custody.broker.context import Context, Peer
from custody.broker.direct import check_direct, hand_out
from custody.broker.openings import ensure_open
from custody.broker.sessions import Session, StoredFile
from custody.crypto.sodium import wipe
from custody.documents.dsse import Envelope
from custody.documents.session import OpenSession
from custody.entries.receipt import Receipt
from custody.errors import ConflictError, CustodyError, DeniedError, FormatError
from custody.rules.asking import ask, session_question
from custody.rules.facts import find_lease
from custody.rules.opening import check_open, session_size
from custody.rules.signers import verify_actor
from custody.rules.state import State, VersionState
from custody.segments.decrypt import Fetched, SegmentDecryptor
from custody.segments.layout import FilePlan

__all__ = [
    "Opened",
    "abandon_session",
    "close_session",
    "fetch_segments",
    "is_far",
    "open_session",
    "plan_of",
    "read_digests",
    "read_segment",
]

_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Opened:
    """An open session: the receipt the job must verify first, and for each file the key of its segment digests; in
    direct mode instead both keys, sealed to the job.
    """

    session: str
    receipt: Receipt
    content: Envelope
    digest_keys: Mapping[int, bytes]
    sealed_keys: Mapping[int, bytes]


def open_session(context: Context, peer: Peer, envelope: Envelope) -> Opened:
    """Open a session of a lease for the job that TLS and signature agree on.

    The intent is published and witnessed before anything is returned. When that fails the session is over at once and
    counts nothing.
    """
    document = envelope.document(OpenSession)
    ledger = context.ledger
    if document.workload.spiffe != peer.identity:
        message = "the open document is of another workload"
        raise DeniedError(message)
    with ledger.reading() as state:
        verify_actor(envelope, document.workload, state.root, ledger.clock())
        found = find_lease(state, document.lease)
        if found.granted != document.lease:
            message = f"the lease is not granted: the request is {found.phase}"
            raise DeniedError(message)
        check_open(found, document, session_size(state, found, document.files), ledger.clock())
        if document.xwing is not None:
            check_direct(context, document.xwing, sum(item.last - item.first + 1 for item in document.files))
        ask(context.policy, session_question(found.request, found.lease, int(document.bytes)))
    ensure_open(context, document.lease)
    session, index, version = _begin(context, envelope, document)
    try:
        receipt = ledger.receipt(index, context.receipt_timeout)
        content = ledger.envelope(version.content_envelope, int(version.entry.index))
        if session.direct:
            lent, sealed = {}, hand_out(context, session, receipt)
        else:
            lent, sealed = {file: _digest_key(context, session, file) for file in sorted(session.files)}, {}
        session.witnessed = True
    except CustodyError:
        end_session(context, session, "aborted", "unavailable")
        raise
    return Opened(session.digest, receipt, content, lent, sealed)


def abandon_session(context: Context, peer: Peer, opened: Opened) -> None:
    """End a session that nobody was told of: its call had broken off. What was not served does not count then."""
    with suppress(CustodyError):  # it has ended since; or the log is down, and it counts its whole ceiling
        session = context.sessions.get(opened.session, peer.identity)
        end_session(context, session, "aborted", "unavailable")
        close_overdue(context, session.request)


def _begin(context: Context, envelope: Envelope, document: OpenSession) -> tuple[Session, int, VersionState]:
    ledger = context.ledger
    begun: list[Session] = []

    def log(state: State) -> tuple[Session, int, VersionState]:
        found = find_lease(state, document.lease)
        version = state.versions[found.request.version]
        index = ledger.append(
            "session-intent",
            actor=verify_actor(envelope, document.workload, state.root, ledger.clock()),
            documents={"open": envelope},
            version=found.request.version,
            content=found.request.content,
            request=found.digest,
            terms=document.lease,
            session=envelope.digest,
            beneficiary=document.workload.spiffe,
            files=document.files,
            ceiling=document.bytes,
            mode=None if document.xwing is None else "direct",
            parent=found.grant_entry,
        )
        entry = found.sessions[envelope.digest].entry
        session = Session(
            document,
            digest=envelope.digest,
            request=found.digest,
            content=version.content,
            entry=entry,
            not_after=int(found.lease.not_after),
        )
        context.sessions.add(session)  # here, where no stop can come between: one that comes later finds it
        begun.append(session)
        return session, index, version

    try:
        return ledger.together(log)
    except BaseException:
        for session in begun:  # another with this document, which began before, goes on
            context.sessions.remove(session.digest)
        raise


def _digest_key(context: Context, session: Session, file: int) -> bytes:
    """The digest key leaves for the job, which checks with it what it is served; it decrypts nothing."""
    return bytes(context.vault.file_keys(session.lease, file).digest_key.view)


def plan_of(session: Session, file: int) -> FilePlan:
    """Return the layout of a file of the session. Raises ``DeniedError`` for a file that is not in it."""
    if file not in session.files:
        message = f"file {file} is not in this session"
        raise DeniedError(message)
    return FilePlan.of(session.content, file)


def is_far(context: Context, session: Session, file: int) -> bool:
    """Open a file of the session, unless it is open; tell whether its store is waited for.

    Raises ``DeniedError`` in direct mode and when the session is over, ``IntegrityError`` for a blob that is not the
    version's, ``UnavailableError`` when the store does not answer.
    """
    with _lent(context, session, _streamed(session, file)) as decryptor:
        return decryptor.far


def fetch_segments(context: Context, session: Session, file: int, segments: range) -> Fetched:
    """Fetch the ciphertext of adjacent segments of a file. Nobody pays for it: it leaves with nobody.

    Raises as ``is_far``; of what went wrong with a segment, whoever reads it is told.
    """
    session.require_live(context.ledger.clock())
    with _lent(context, session, _streamed(session, file)) as decryptor:
        return decryptor.fetch(segments)


def read_segment(
    context: Context, session: Session, file: int, segment: int, out: memoryview, *, fetched: Fetched | None = None
) -> int:
    """Decrypt one segment into ``out`` and return its plaintext size; lease and budget are checked and charged first.

    It is charged once its ciphertext is here: a store that is down for an hour spends no lease. ``out`` has room for
    the segment; its ciphertext may have been ``fetched``. Raises ``DeniedError`` when the session is over,
    ``IntegrityError`` for ciphertext that is not the version's, ``UnavailableError`` when the store does not answer.
    """
    plan = _streamed(session, file)
    if not 0 <= segment < plan.count:
        message = f"file {file} has segments 0 to {plan.count - 1}"
        raise FormatError(message)
    size, clock = plan.locate(segment).length, context.ledger.clock
    session.require_left(size, clock())
    with _lent(context, session, plan) as decryptor:
        try:
            return decryptor.decrypt_segment_into(segment, out, fetched, lambda: session.charge(file, size, clock()))
        except ValueError:
            wipe(out)
            raise


def _streamed(session: Session, file: int) -> FilePlan:
    """Return the layout of a file that is read here. ``DeniedError`` where none is, or not this one."""
    if session.direct:
        message = "in direct mode the job reads the store itself"
        raise DeniedError(message)
    return plan_of(session, file)


@contextmanager
def _lent(context: Context, session: Session, plan: FilePlan) -> Iterator[SegmentDecryptor]:
    """Have a file of the session open for the length of a block. ``DeniedError`` when the session is over, also where
    its files were closed and its keys wiped under the block: the lease was stopped.
    """

    def open_file() -> StoredFile:
        file_key = context.vault.file_keys(session.lease, plan.index).file_key
        blob = context.store.open(plan.ciphertext_key)
        try:
            return StoredFile(blob, SegmentDecryptor(plan, file_key, blob))
        except BaseException:
            blob.close()
            raise

    try:
        with session.file(plan.index, open_file) as stored:
            yield stored.decryptor
    except ValueError:
        session.require_live(context.ledger.clock())
        raise


def read_digests(context: Context, session: Session, file: int) -> Iterator[bytes]:
    """Yield the digest list of a file in pieces. It is not secret; the job checks it against the content."""
    plan = plan_of(session, file)
    reader = context.store.open(plan.digests_key)
    try:
        for offset in range(0, plan.digests_size, _PIECE):
            piece = bytearray(min(_PIECE, plan.digests_size - offset))
            reader.read_into(offset, memoryview(piece))
            yield bytes(piece)
    finally:
        reader.close()


def close_session(context: Context, peer: Peer, digest: str) -> int:
    """End a session for its job and return the index of the outcome's entry, also when it was ended before.

    ``DeniedError`` for what is no session of this job; ``ConflictError`` for one that has no outcome, or whose intent
    was never witnessed, so that the job was told that it did not open.
    """
    ended = context.sessions.ended(digest, peer.identity)
    if ended is not None and not ended.witnessed:
        message = "the session did not open"
        raise ConflictError(message)
    if ended is not None:
        index = ended.outcome
    else:
        session = context.sessions.get(digest, peer.identity)
        index = end_session(context, session, "ok", None)
        close_overdue(context, session.request)  # the last session of a lease takes its keys with it
    if index is None:
        message = "the session is over, and has no outcome: its lease ended first"
        raise ConflictError(message, hint="it counts its whole ceiling")
    return index
