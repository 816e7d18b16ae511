"""A custodian's acts: look, decide, send a share. Each verifies first, signs second, and sends last.

What was shown is looked at again before anything is signed: first the log answers a nonce, so that the trust root is
the one in force, then the request is fetched and judged anew, and it must be the same in all that is signed. A share is
opened in a process of its own, and compared with its commitment before it is wrapped for anybody.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from custody.crypto.secret import SecretBytes
from custody.custodian.desk import Desk, Freshness
from custody.custodian.fold import RequestView
from custody.custodian.review import (
    Review,
    require_decidable,
    require_same,
    require_valid_when_logged,
    review,
)
from custody.custodian.rewrap import rewrap_aside
from custody.custodian.rewrap_child import Job
from custody.custodian.signing import draft_release, require_nothing_hidden, require_releasable, share_job
from custody.documents.actor import Workload
from custody.documents.decision import Decision
from custody.documents.dsse import Envelope, sign
from custody.entries.receipt import Verified
from custody.errors import ConflictError, CustodyError, IntegrityError
from custody.ports import Clock
from custody.tlog.policy import quorum_time

__all__ = ["Acted", "Device", "Rewrap", "decide", "look", "release"]

Rewrap = Callable[[Job, SecretBytes], tuple[bytes, ...]]


class Device(Protocol):
    """An unlocked device (``custody.custodian.keys.DeviceSigner``)."""

    @property
    def key_id(self) -> str:
        """Its key id, hex."""
        ...

    @property
    def xwing_seed(self) -> SecretBytes:
        """The seed that opens shares wrapped to it."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Sign."""
        ...


@dataclass(frozen=True, slots=True)
class Acted:
    """What was sent and receipted: the decision's entry and the release's.

    ``freshness`` is how new the trust root was that it was done under. ``later`` says why no share went, ``refused``
    what went wrong with one that should have: the decision stands all the same.
    """

    freshness: Freshness
    decision: Verified | None
    release: Verified | None
    later: str = ""
    refused: CustodyError | None = None


def look(desk: Desk, view: RequestView, *, person: str, device: str, clock: Clock, compare: bool = False) -> Review:
    """Review a request that the desk has judged. ``compare`` also fetches the last lease of the same beneficiary."""
    found = view.found
    logbook = desk.logbook()
    for actor, logged in (
        (found.request.requester, view.logged[0]),
        (view.version.version.content.sealer, view.version.logged),
    ):
        if isinstance(actor, Workload):
            require_valid_when_logged(actor, logged, logbook.witnessed(logged))
    last = desk.last_lease(view) if compare else None
    return review(view, person=person, device=device, now=clock(), freshness=desk.freshness(), last=last)


def decide(
    desk: Desk, shown: Review, decision: Decision, device: Device, *, clock: Clock, rewrap: Rewrap = rewrap_aside
) -> Acted:
    """Sign and send a decision on what was shown; with an approval, the share too, where the roster says so.

    Nothing is sent before all that can fail here has not: the hello, the second look, the share and its commitment.
    """
    if (decision.terms, decision.request) != (shown.terms_digest, shown.view.found.digest):
        raise ValueError("a decision on something else than was shown")
    _, seen = _again(desk, shown, device, clock)
    require_decidable(seen, veto=decision.verdict == "veto")
    _require_about(decision, seen)
    with_share = decision.verdict == "approve" and seen.release_mode == "with-decision"
    sent = _wrap(seen, device, clock, rewrap) if with_share else None
    receipt = desk.decide(sign(decision, [device]))
    if sent is None:
        later = "after the grant and the cool-off: custody release" if decision.verdict == "approve" else ""
        return Acted(seen.freshness, receipt, None, later)
    try:
        return Acted(seen.freshness, receipt, desk.release(*sent))
    except ConflictError as error:
        return Acted(seen.freshness, receipt, None, error.message)
    except CustodyError as error:
        return Acted(seen.freshness, receipt, None, error.message, error)


def release(desk: Desk, shown: Review, device: Device, *, clock: Clock, rewrap: Rewrap = rewrap_aside) -> Acted:
    """Send the share again, or for the first time where that comes after the quorum, without deciding again.

    The tool verifies for itself: signed decisions of a quorum and the logged grant (the fold did), the cool-off by
    cosignature time, and that the log holds nothing which stopped it, whatever the broker shows.
    """
    hello, seen = _again(desk, shown, device, clock)
    logbook = desk.logbook()
    grant = seen.view.entry("grant")
    require_releasable(seen, hello=hello, granted=logbook.witnessed(grant) if grant else None)
    first = seen.view.logged[0].index
    require_nothing_hidden(seen, logbook.entries_of(seen.view.found.digest, first, hello.checkpoint))
    return Acted(seen.freshness, None, desk.release(*_wrap(seen, device, clock, rewrap)))


def _again(desk: Desk, shown: Review, device: Device, clock: Clock) -> tuple[Verified, Review]:
    """Greet, look again, and require the same; returns the answer to the greeting and the second look."""
    if device.key_id != shown.device:
        raise ValueError("another device than the one that was shown")
    hello = desk.greet(shown.person, device)
    view = desk.request(shown.view.found.digest)
    earliest, _ = quorum_time(hello.cosigned)
    freshness = Freshness(proven=True, witnessed=earliest, size=hello.checkpoint.size)
    seen = review(view, person=shown.person, device=shown.device, now=clock(), freshness=freshness)
    # Wraps are not kept between looks: what a broker gave before it was known to be honest is fetched anew.
    fresh = desk.version(view.found.request.version)
    seen = replace(seen, view=replace(seen.view, version=fresh))
    require_same(shown, seen)
    return hello, seen


def _require_about(decision: Decision, seen: Review) -> None:
    about = (decision.terms, decision.sharing, decision.root, decision.slot, decision.person)
    version = seen.view.version.version
    if about != (seen.terms_digest, version.sharing_digest, seen.view.state.root_digest, seen.slot, seen.person):
        raise IntegrityError("the decision is about something else than the request as it stands")


def _wrap(seen: Review, device: Device, clock: Clock, rewrap: Rewrap) -> tuple[Envelope, bytes]:
    """Wrap the share to the release key and sign the release of it."""
    (wrapped,) = rewrap(share_job(seen), device.xwing_seed)
    return sign(draft_release(seen, wrapped, issued=clock()), [device]), wrapped
