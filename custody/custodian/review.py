"""A custodian's review: what is asked, by whom, who has decided, and whether this person may. Pure.

``review`` is given what the log says, judged already (``custody.custodian.fold``), and adds what concerns the person
who looks: slot, device, standing. What may be signed follows from a review and from nothing else; ``require_same``
compares two of them, so that what is signed is what was shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from custody.crypto.svid import validity
from custody.custodian.desk import Freshness
from custody.custodian.fold import RequestView
from custody.custodian.logbook import Witnessed
from custody.documents.actor import Broker, Workload
from custody.documents.root import Root, Roster
from custody.documents.sharing import Slot
from custody.documents.terms import Terms
from custody.entries.receipt import Verified
from custody.errors import ConflictError, DeniedError, IntegrityError
from custody.rules.deciding import release_mode
from custody.rules.quorum import counted, excluded, met
from custody.rules.signers import verify_actor
from custody.rules.state import Decided

__all__ = ["Review", "require_decidable", "require_same", "require_valid_when_logged", "review"]


@dataclass(frozen=True, slots=True)
class Review:
    """A verified request as one person sees it at one time.

    ``terms`` are those granted, or those that may be. ``slot`` is the person's in the sharing, ``device`` the key id of
    the device that would sign. ``counts`` are the verdicts by person that count now. ``last`` is the newest earlier
    lease of the same beneficiary.
    """

    view: RequestView
    terms: Terms
    terms_digest: str
    person: str
    device: str
    slot: Slot | None
    barred: frozenset[str]
    counts: Mapping[str, str]
    freshness: Freshness
    now: int
    last: RequestView | None = None

    @property
    def root(self) -> Root:
        """The trust root in force."""
        return self.view.state.root

    @property
    def roster(self) -> Roster | None:
        """The roster of the sharing, if the trust root still has it."""
        return self.root.roster(self.view.version.version.sharing.roster)

    @property
    def release_mode(self) -> str:
        """When shares travel: ``with-decision`` or ``after-quorum``."""
        return release_mode(self.root, self.view.version.version.sharing)

    @property
    def own(self) -> Decided | None:
        """The person's decision on these terms that counts now, if there is one."""
        return next(
            (
                item
                for item in reversed(self.view.found.decisions)
                if item.decision.person == self.person
                and item.decision.terms == self.terms_digest
                and self.person in self.counts
            ),
            None,
        )

    @property
    def quorum(self) -> bool:
        """Whether the approvals that count now are enough."""
        approved = {who for who, verdict in self.counts.items() if verdict == "approve"}
        return met(self.view.version.version.sharing, approved)


def review(
    view: RequestView, *, person: str, device: str, now: int, freshness: Freshness, last: RequestView | None = None
) -> Review:
    """Look at a request as ``person`` with the device of this key id (both ``""`` for somebody who only looks).

    Raises ``IntegrityError`` where the release key is not of a broker in force, ``DeniedError`` where the trust root
    does not name the person with this device.
    """
    found, root = view.found, view.state.root
    if found.phase != "closed":
        # Logged it was; but the key must also be that of a broker which the trust root in force still names.
        verify_actor(found.release_key_envelope, Broker(broker=found.release_key.broker), root, now)
    if device:
        holder = root.device(device)
        if holder is None or holder[0].id != person:
            raise DeniedError(
                f"the trust root in force does not name this device as one of {person}",
                hint="a device counts from the trust root on that names it: ask governance",
            )
    digest = found.granted or next(iter(found.terms))
    sharing = view.version.version.sharing
    return Review(
        view=view,
        terms=found.terms[digest],
        terms_digest=digest,
        person=person,
        device=device,
        slot=sharing.slot_of(person) if person else None,
        barred=excluded(root, found.request),
        counts=counted(view.state, found, digest, now),
        freshness=freshness,
        now=now,
        last=last,
    )


def require_decidable(seen: Review, *, veto: bool = False) -> Slot:
    """Require that the person may decide on these terms now, and return the slot. Raises saying why not."""
    found, person = seen.view.found, seen.person
    if seen.slot is None:
        raise DeniedError(
            f"{person} holds no share of {found.request.version}",
            hint=f"it is guarded by {seen.view.version.version.sharing.quorum_text()}",
        )
    if person in seen.barred:
        raise DeniedError(f"{person} may not decide: requester, or an owner of {found.request.beneficiary}")
    if found.phase == "closed" or found.stopped:
        raise DeniedError(f"the request is over: {found.reason or found.stopped}")
    if seen.own is not None:
        raise ConflictError(
            f"{person} has decided on these terms already: {seen.own.decision.verdict}", hint=_instead(seen)
        )
    if veto:
        return seen.slot
    if found.phase != "requested":
        raise ConflictError(f"the request is {found.phase} already", hint="to end a lease: custody lease revoke")
    if seen.now >= seen.terms.open_before:
        raise DeniedError(f"the start window ended at {seen.terms.open_before}", hint="a new request is needed")
    return seen.slot


def _instead(seen: Review) -> str:
    """Say what is left to somebody whose decision stands: sending the share again, or ending what came of it."""
    revoke = f"custody lease revoke {seen.terms_digest[:8]} --reason TEXT"
    end = f"to end the lease: {revoke}" if seen.view.found.phase == "granted" else f"once granted, to end it: {revoke}"
    approved = seen.own is not None and seen.own.decision.verdict == "approve"
    return f"it stands; {end}" + ("; to send your share again: custody release" if approved else "")


def require_same(shown: Review, now: Review) -> None:
    """Require that nothing a signature is about has changed since it was shown. ``ConflictError`` naming it."""
    before, after = shown.view, now.view
    for what, old, new in (
        ("the trust root", before.state.root_digest, after.state.root_digest),
        ("the sharing", before.version.version.sharing_digest, after.version.version.sharing_digest),
        ("the terms", shown.terms_digest, now.terms_digest),
        ("the release key", before.found.release_key_digest, after.found.release_key_digest),
        ("whether it was stopped", before.found.stopped, after.found.stopped),
        ("the phase", before.found.phase, after.found.phase),
        ("your device", shown.device, now.device),
    ):
        if old != new:
            raise ConflictError(f"{what} changed while you looked; nothing was signed", hint="look at it again")


def require_valid_when_logged(actor: Workload, logged: Verified, witnessed: Witnessed) -> None:
    """Require that a workload's certificate was valid when witnesses saw the entry with its signature.

    The entry's own time is the broker's word; a certificate that has ended could be used with an earlier one. Raises
    ``IntegrityError``.
    """
    begin, end = validity(actor.x5c[0])
    if not begin <= witnessed.earliest <= witnessed.latest <= end:
        raise IntegrityError(
            f"the certificate of {actor.spiffe} was not valid when witnesses first saw entry {logged.index}"
        )
