"""Direct mode: a job is given the keys of whole files, sealed to its own X-Wing key, and reads the store itself.

What was handed out cannot be called back. So each file is charged whole, after the intent was witnessed and before a
key is sealed; and what can still be stopped is: no key, no place and no URL is given once the session is over.

Where a job finds the ciphertext: in a directory that it shares with the broker, or at URLs that the store presigned,
each for one blob as it was when this session first asked (its version is pinned), for a quarter of an hour at most and
never beyond the lease. A URL is a bearer token: nothing here logs one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from custody.broker.closing import end_session
from custody.broker.context import Context, Peer
from custody.broker.requests import log_release_key
from custody.broker.sessions import Session
from custody.crypto.hpke import check_public
from custody.entries.receipt import Receipt
from custody.errors import DeniedError, IntegrityError, UnavailableError
from custody.ports import Presigned, Presigner
from custody.segments.layout import FilePlan
from custody.tlog.merkle import leaf_hash

__all__ = ["MAX_FILES", "URL_SECONDS", "Place", "check_direct", "hand_out", "locate"]

URL_SECONDS: Final = 900
"""A URL's life at most; what signed it may end it before."""


MAX_FILES: Final = 8192
"""Files of a session: their sealed keys, of 1,200 bytes each, travel in one message."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file lies: below a ``folder`` under the store's keys, or at two URLs, for its ciphertext and digests."""

    folder: str = ""
    ciphertext: Presigned | None = None
    digests: Presigned | None = None


def check_direct(context: Context, xwing: bytes, files: int) -> None:
    """Check what a direct session needs, before it is logged. Raises ``DeniedError``, ``FormatError`` for the key."""
    if files > MAX_FILES:
        message = f"direct mode: {files} files in one session, at most {MAX_FILES} are possible"
        raise DeniedError(message, hint="open several sessions, each of some of the files")
    if context.direct is None:
        message = "this broker serves no direct mode: its store is not open to jobs"
        raise DeniedError(message, hint="[store] direct in the broker's configuration; or ask for mode stream")
    check_public(xwing)


def hand_out(context: Context, session: Session, receipt: Receipt) -> Mapping[int, bytes]:
    """Charge the files of a session whole and return their keys, sealed to its job for this witnessed intent.

    Raises ``DeniedError`` when the session was stopped meanwhile, ``UnavailableError`` when the keys are lost.
    """
    if session.xwing is None:
        raise AssertionError
    files = sorted(session.files)
    keeper = context.vault.keeper(session.lease)
    for file in files:
        session.charge(file, int(session.content.files[file].size), context.ledger.clock())
    try:
        sealed = keeper.seal(session.xwing, bytes.fromhex(session.request), leaf_hash(receipt.entry), files)
    except UnavailableError:
        if not context.vault.has_lease(session.lease):
            message = "the lease was stopped"
            raise DeniedError(message) from None
        _lost(context, session)
        raise
    session.require_live(context.ledger.clock())  # a stop may have come while it was sealed
    return sealed


def locate(context: Context, peer: Peer, digest: str, file: int) -> Place:
    """Say where a session's job finds a file, and for how long; asked again, the URLs are fresh and the blobs the same.

    Raises ``DeniedError`` when the session is over or not of this kind, ``IntegrityError`` for a blob of another size.
    """
    session = context.sessions.get(digest, peer.identity)
    if not session.direct or file not in session.files:
        message = f"file {file} is not in this session" if session.direct else "the session is not of direct mode"
        raise DeniedError(message)
    session.require_live(context.ledger.clock())
    if context.direct is None:
        raise AssertionError
    if isinstance(context.direct, str):
        return Place(folder=context.direct)
    plan = FilePlan.of(session.content, file)
    return Place(
        ciphertext=_presigned(context, context.direct, session, plan.ciphertext_key, plan.stored_size),
        digests=_presigned(context, context.direct, session, plan.digests_key, plan.digests_size),
    )


def _presigned(context: Context, presigner: Presigner, session: Session, key: str, size: int) -> Presigned:
    blob = session.pinned(key) or session.pin(presigner.pin(key))
    if blob.size != size:
        message = f"store: {key} has {blob.size} bytes, not {size}"
        raise IntegrityError(message)
    left = session.not_after - context.ledger.clock()
    session.require_live(context.ledger.clock())  # the store may have taken its time
    return presigner.presign_get(blob, min(URL_SECONDS, left))


def _lost(context: Context, session: Session) -> None:
    """The process with the lease's keys has died. The lease goes back to granted, as when a broker dies."""
    context.vault.drop_lease(session.lease)
    for other in context.sessions.of_lease(session.lease):
        end_session(context, other, "aborted", "broker-lost")
    ledger = context.ledger
    with ledger.reading() as state:
        found = state.requests[session.request]
        if found.phase != "open":
            return
        ledger.append("close", request=found.digest, terms=found.granted, reason="broker-lost", parent=found.entry)
        deployment = state.deployment
    log_release_key(context, deployment, session.request)
