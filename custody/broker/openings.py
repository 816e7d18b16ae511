"""Opening a granted lease: the intent is witnessed, then the opener rebuilds the key, then the outcome is logged.

Done when the first session asks, so that keys live no longer than somebody uses them.
"""

from custody.broker.context import Context
from custody.broker.keeper import Keeper
from custody.broker.opener import BadShareError, FileKeys
from custody.broker.opener_child import Job, JobShare
from custody.crypto.hpke import release_info
from custody.documents.request import indexes
from custody.documents.sharing import Slot
from custody.entries.entry import Parent
from custody.errors import CustodyError, DeniedError, UnavailableError
from custody.rules.facts import find_lease
from custody.rules.opening import check_window, releasers
from custody.rules.quorum import met
from custody.rules.state import RequestState, State

__all__ = ["ensure_open"]


def ensure_open(context: Context, lease: str) -> None:
    """Open a lease unless it is open. Raises ``DeniedError`` when it may not be (yet), ``IntegrityError`` naming the
    custodian whose share was bad, ``UnavailableError`` when the log cannot witness the intent.
    """
    with context.vault.opening(lease):
        if context.vault.has_lease(lease):
            return
        job, intent, parent, slots = _begin(context, lease)
        try:
            # Nothing secret happens before witnesses have seen that it is about to.
            context.ledger.receipt(intent, context.receipt_timeout)
            seed = context.vault.seed(job[0])
            opener = context.opener
            keys = opener.open_kept(job[1], seed) if job[2] else opener.open(job[1], seed)
        except CustodyError as error:
            _failed(context, lease, parent, error)
            raise _told(error, slots) from None
        _finish(context, lease, parent, keys)


def _begin(context: Context, lease: str) -> tuple[tuple[str, Job, bool], int, Parent, dict[Slot, str]]:
    """Log the intent and return (request digest, job, whether it is for direct mode), the intent's index and place, and
    who holds which slot.
    """
    ledger = context.ledger
    with ledger.reading() as state:
        found = find_lease(state, lease)
        version = state.versions[found.request.version]
        if found.granted != lease:
            message = f"the lease is not granted: the request is {found.phase}"
            raise DeniedError(message)
        if found.phase == "closed":
            message = f"the lease is closed: {found.reason}"
            raise DeniedError(message, hint="file a new request")
        if found.digest in context.shut:
            message = "the lease was stopped; that is not in the log yet"
            raise DeniedError(message, hint="file a new request")
        if found.opening is not None:
            # Nobody else opens it now: an attempt failed, and that could not be logged then.
            _failed(context, lease, found.opening, UnavailableError("the ledger was down"))
        check_window(found, ledger.clock())
        persons = releasers(state, found)
        if not met(version.sharing, persons):
            message = f"shares of {', '.join(persons) or 'nobody'} are at hand; needed: {version.sharing.quorum_text()}"
            raise DeniedError(message, hint="custodians who approved send theirs with: custody release")
        job = _job(context, state, found)
        index = ledger.append(
            "opening-intent",
            version=found.request.version,
            content=found.request.content,
            sharing=version.sharing_digest,
            request=found.digest,
            terms=lease,
            release_key=found.release_key_digest,
            persons=persons,
            parent=found.grant_entry,
        )
        parent = found.opening
        if parent is None:
            raise AssertionError
        slots = {slot: str(holder.person) for slot, holder in version.sharing.slots().items()}
        return (found.digest, job, found.lease.mode == "direct"), index, parent, slots


def _job(context: Context, state: State, found: RequestState) -> Job:
    version = state.versions[found.request.version]
    content, sharing = version.content, version.sharing
    wrapped = context.ledger.shares(found.digest)
    shares = []
    for slot, released in sorted(found.releases.items()):
        holder = next(item for item in released.release.recipients if item.broker == found.release_key.broker)
        info = release_info(
            bytes.fromhex(found.digest),
            bytes.fromhex(found.granted),
            bytes.fromhex(holder.release_key),
            bytes.fromhex(version.sharing_digest),
            slot.group,
            slot.index,
            bytes.fromhex(released.credential),
        )
        signed = bytes.fromhex(holder.wrapped)
        shares.append(JobShare(slot.group, slot.index, info, wrapped.get(str(slot), b""), signed))
    return Job(
        do="open",
        deployment=content.deployment,
        version=content.version,
        vid=bytes.fromhex(content.vid),
        key_commit=bytes.fromhex(content.key_commit),
        groups=tuple((group.threshold, len(group.slots)) for group in sharing.groups),
        commitments=tuple(
            (slot.group, slot.index, bytes.fromhex(holder.commitment)) for slot, holder in sharing.slots().items()
        ),
        shares=tuple(shares),
        files=tuple(indexes(found.lease.files)),
    )


def _failed(context: Context, lease: str, parent: Parent, error: CustodyError) -> None:
    ledger = context.ledger
    with ledger.reading() as state:
        found = find_lease(state, lease)
        if found.opening != parent:
            return  # a stop or a close was faster
        ledger.append(
            "opening-outcome",
            request=found.digest,
            terms=lease,
            parent=parent,
            outcome="failed",
            reason=_code(error),
            slot=error.slot if isinstance(error, BadShareError) else None,
        )


def _code(error: CustodyError) -> str:
    if isinstance(error, BadShareError):
        return "bad-share"
    return "unavailable" if isinstance(error, UnavailableError) else type(error).__name__.removesuffix("Error").lower()


def _told(error: CustodyError, slots: dict[Slot, str]) -> CustodyError:
    """Say whose share it was."""
    if isinstance(error, BadShareError):
        who = slots.get(error.slot, "?")
        return type(error)(f"the share of {who} is bad: {error.message}", error.slot)
    return error


def _finish(context: Context, lease: str, parent: Parent, keys: dict[int, FileKeys] | Keeper) -> None:
    ledger = context.ledger
    kept = False
    try:
        with ledger.reading() as state:
            found = find_lease(state, lease)
            version = state.versions[found.request.version]
            shut = found.stopped or found.digest in context.shut
            if shut or found.phase != "granted" or found.opening != parent:
                message = f"the lease was stopped while it was opened: {found.stopped or found.reason or found.phase}"
                raise DeniedError(message)
            ledger.append(
                "opening-outcome",
                request=found.digest,
                terms=lease,
                parent=parent,
                outcome="ok",
                persons=releasers(state, found),
                key_commit=version.content.key_commit,
                # The shares have done their work: neither they nor the seed that opens them are needed again.
                also=lambda transaction: transaction.delete_shares(found.digest),
                publish=False,  # the session's intent follows
            )
            context.vault.put_lease(lease, keys)
            kept = True
            request = found.digest
    finally:
        if not kept:
            for holder in (keys,) if isinstance(keys, Keeper) else keys.values():
                holder.close()
    context.vault.drop_seed(request)
