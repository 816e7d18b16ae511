"""What a custodian signs, made from a review: decisions and releases, and when a release may be. Pure."""

import hashlib
from collections.abc import Sequence
from typing import Final

from custody.crypto.hpke import release_info, wrap_info
from custody.custodian.logbook import Witnessed
from custody.custodian.review import Review
from custody.custodian.rewrap_child import Job, Target
from custody.documents.decision import Decision, Verdict
from custody.documents.manifest import WRAPPED_SHARE
from custody.documents.release import Recipient, Release
from custody.entries.entry import Entry
from custody.entries.receipt import Verified
from custody.errors import ConflictError, DeniedError, IntegrityError
from custody.tlog.policy import quorum_time
from custody.values import Time

__all__ = ["draft_decision", "draft_release", "require_nothing_hidden", "require_releasable", "share_job"]

_ENDS: Final = frozenset({"stop", "close"})


def draft_decision(seen: Review, verdict: Verdict, note: str, *, issued: int, expires: int | None = None) -> Decision:
    """Write a decision on exactly what was reviewed. It counts until the start window ends, unless told otherwise."""
    if seen.slot is None:
        raise DeniedError(f"{seen.person} holds no share of {seen.terms.version}")
    latest = int(seen.terms.not_after if verdict == "veto" else seen.terms.open_before)
    until = latest if expires is None else min(expires, latest)
    if until <= issued:
        raise DeniedError(f"the start window ended at {Time(latest)}", hint="a new request is needed")
    decision = Decision(
        deployment=seen.terms.deployment,
        request=seen.view.found.digest,
        terms=seen.terms_digest,
        sharing=seen.view.version.version.sharing_digest,
        root=seen.view.state.root_digest,
        person=seen.person,
        slot=seen.slot,
        verdict=verdict,
        note=note,
        issued=Time(issued),
        expires=Time(until),
    )
    return Decision.parse(decision.encode())  # what a parser would refuse is refused before anybody signs it


def share_job(seen: Review) -> Job:
    """Say how the person's own share is to be opened, what it must be, and for what it is wrapped again.

    Raises ``IntegrityError`` where the broker did not give a wrap of this slot for this device.
    """
    version, found, slot = seen.view.version, seen.view.found, seen.slot
    if slot is None:
        raise DeniedError(f"{seen.person} holds no share of {seen.terms.version}")
    wrapped = version.wraps.get((slot, seen.device))
    if wrapped is None or len(wrapped) != WRAPPED_SHARE:
        raise IntegrityError(
            f"the broker gave no wrapped share of slot {slot} for this device",
            hint="was this device in the trust root when the version was sealed?",
        )
    device, sharing = bytes.fromhex(seen.device), bytes.fromhex(version.version.sharing_digest)
    info = release_info(
        bytes.fromhex(found.digest),
        bytes.fromhex(seen.terms_digest),
        bytes.fromhex(found.release_key_digest),
        sharing,
        slot.group,
        slot.index,
        device,
    )
    return Job(
        vid=bytes.fromhex(version.version.content.vid),
        group=slot.group,
        index=slot.index,
        commitment=bytes.fromhex(version.version.sharing.slots()[slot].commitment),
        info=wrap_info(sharing, slot.group, slot.index, device),
        wrapped=wrapped,
        targets=(Target(found.release_key.xwing, info),),
    )


def draft_release(seen: Review, wrapped: bytes, *, issued: int) -> Release:
    """Write the release of a share that was wrapped to the request's release key."""
    found, slot = seen.view.found, seen.slot
    if slot is None:
        raise DeniedError(f"{seen.person} holds no share of {seen.terms.version}")
    recipient = Recipient(
        broker=found.release_key.broker,
        release_key=found.release_key_digest,
        wrapped=hashlib.sha256(wrapped).hexdigest(),
    )
    return Release(
        deployment=seen.terms.deployment,
        request=found.digest,
        terms=seen.terms_digest,
        sharing=seen.view.version.version.sharing_digest,
        person=seen.person,
        slot=slot,
        recipients=(recipient,),
        issued=Time(issued),
    )


def require_releasable(seen: Review, *, hello: Verified, granted: Witnessed | None) -> None:
    """Require that the person's share may be sent now without deciding again. Raises saying why not.

    ``hello`` is the log's answer to a nonce of this tool, so its cosignatures say what time it is; ``granted`` is the
    first checkpoint that covers the grant. A cool-off is over when the one lies that long after the other: neither the
    broker's clock nor this computer's is asked.
    """
    found, terms = seen.view.found, seen.terms
    if not any(
        item.decision.person == seen.person
        and item.decision.terms == seen.terms_digest
        and item.decision.verdict == "approve"
        for item in found.decisions
    ):
        raise DeniedError(
            f"{seen.person} has not approved these terms", hint=f"look at them: custody approve {found.digest[:16]}"
        )
    if found.phase == "closed" or found.stopped:
        raise DeniedError(f"the request is over: {found.reason or found.stopped}")
    if seen.view.claimed == "open":
        raise ConflictError("the lease is open already; no share is needed")
    now, _ = quorum_time(hello.cosigned)
    if max(now, seen.now) >= terms.not_after:
        raise DeniedError(f"the lease ended at {terms.not_after}")
    lost = any(item.entry.type == "close" and item.entry.reason == "broker-lost" for item in seen.view.logged)
    if max(now, seen.now) >= terms.open_before and not lost:
        raise DeniedError(f"the start window ended at {terms.open_before}", hint="a new request is needed")
    if seen.release_mode == "with-decision":
        return
    if not found.granted or granted is None:
        raise DeniedError(
            "shares of this roster are sent only after a quorum has decided, and the log holds no grant yet",
            hint=f"custody show {found.digest[:16]} says who has decided",
        )
    cool_off = int(seen.roster.cool_off) if seen.roster else 0
    if now < granted.latest + cool_off:
        raise DeniedError(
            f"the cool-off is not over: the witnesses saw the grant at {Time(granted.latest)}, and it lasts {cool_off}"
            " seconds",
            hint=f"send your share after {Time(granted.latest + cool_off)}",
        )


def require_nothing_hidden(seen: Review, logged: Sequence[tuple[int, Entry]]) -> None:
    """Compare a view with all that the log itself says of the request: stops, closes and vetoes must not be missing.

    Raises ``IntegrityError`` naming the entry that the broker left out.
    """
    shown = {item.index for item in seen.view.logged}
    for index, entry in logged:
        ends = entry.type in _ENDS or (entry.type == "decision" and entry.verdict == "veto")
        if ends and index not in shown:
            raise IntegrityError(
                f"the broker left out entry {index} of the log, a {entry.verdict or entry.type} of this request",
                hint="do not send anything; tell the operators and the other custodians",
            )
