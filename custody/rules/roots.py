"""Which trust root follows which (DESIGN: trust anchors; compare the TUF specification, section 5.3).

Genesis is pinned by digest and signed by everybody it names. Every later root has the next epoch, names the digest of
the one before, keeps the deployment, and is signed by the governance quorum of the one before *and* by every person it
newly names or gives a new device, so that nobody can be enrolled, or their key replaced, without that key's holder.
"""

from collections.abc import Iterable, Sequence

from custody.crypto import keys
from custody.documents.dsse import Envelope
from custody.documents.root import GOVERNANCE, Root, Roster
from custody.errors import FormatError, IntegrityError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.policy import Policy

__all__ = ["accept_root", "final_checkpoint", "follow_roots", "policies_of", "quorum_met"]


def quorum_met(roster: Roster, persons: Iterable[str]) -> bool:
    """Tell whether distinct ``persons`` meet every group's threshold."""
    present = set(persons)
    return all(len(present.intersection(group.members)) >= group.threshold for group in roster.groups)


def accept_root(previous: Root | None, envelope: Envelope, *, deployment: str, genesis: str) -> Root:
    """Return the root in ``envelope`` if it may follow ``previous`` (or is the pinned genesis when that is ``None``).

    Raises ``IntegrityError`` saying which rule it breaks.
    """
    root = envelope.document(Root)
    if root.deployment != deployment:
        message = f"trust root is of deployment {root.deployment}, not of {deployment}"
        raise IntegrityError(message)
    signed = _signatures(envelope, previous, root)
    if previous is None:
        if envelope.digest != genesis:
            message = f"genesis trust root is {envelope.digest[:16]}…, but {genesis[:16]}… is pinned"
            raise IntegrityError(message, hint="never accept another genesis: ask who gave you this root")
        _require_all(root, (person.id for person in root.persons), signed)
        return root
    if root.epoch != previous.epoch + 1 or root.previous != previous.digest:
        message = f"trust root of epoch {root.epoch} does not follow epoch {previous.epoch}"
        raise IntegrityError(message)
    if root.created < previous.created:
        message = f"trust root of epoch {root.epoch} is older than the one before it"
        raise IntegrityError(message)
    final_checkpoint(previous, root)
    governance = previous.roster(GOVERNANCE)
    by_old_keys = {person for person, key in signed if _holds(previous, person, key)}
    if governance is None or not quorum_met(governance, by_old_keys):
        message = f"trust root of epoch {root.epoch} lacks the governance quorum of epoch {previous.epoch}"
        raise IntegrityError(message)
    for key, (person, device) in root.devices.items():
        # Compared with its person: a key that moves to another person is new there.
        if not _holds(previous, person.id, key) and (person.id, key) not in signed:
            message = f"trust root of epoch {root.epoch}: {person.id} did not sign with the new device {device.name}"
            raise IntegrityError(message)
    return root


def follow_roots(envelopes: Iterable[Envelope], *, deployment: str, genesis: str) -> list[Root]:
    """Verify a chain of roots from the pinned genesis on. Raises ``IntegrityError``; an empty chain is one."""
    roots: list[Root] = []
    for envelope in envelopes:
        roots.append(accept_root(roots[-1] if roots else None, envelope, deployment=deployment, genesis=genesis))
    if not roots:
        message = "there is no trust root"
        raise IntegrityError(message)
    return roots


def final_checkpoint(previous: Root, root: Root) -> Checkpoint | None:
    """Return where the log of ``previous`` ended if ``root`` names a successor; ``None`` where the log is the same.

    The successor's root holds that checkpoint, with the log's signature and the witness quorum that ``previous`` asks
    for. Raises ``IntegrityError`` for anything else.
    """
    if root.log_name == previous.log_name:
        if root.log.predecessor != previous.log.predecessor:
            message = f"trust root of epoch {root.epoch}: the log is the same, but another one is said to be before it"
            raise IntegrityError(message)
        return None
    if root.log.predecessor is None:
        message = f"trust root of epoch {root.epoch} names another log, and not where {previous.log_name} ended"
        raise IntegrityError(message)
    try:
        return previous.checkpoint_policy.check(root.log.predecessor).checkpoint
    except (FormatError, IntegrityError) as error:
        message = f"trust root of epoch {root.epoch}: the final checkpoint of {previous.log_name}: {error.message}"
        raise IntegrityError(message) from error


def policies_of(roots: Sequence[Root]) -> Sequence[Policy]:
    """Return what a checkpoint satisfies that covers the change from the first of these roots to the last.

    That is the policy of each. But a log that ends cannot sign for its successor: its own word is the final checkpoint,
    so only the roots that name the last one's log count.
    """
    return [root.checkpoint_policy for root in roots if root.log_name == roots[-1].log_name]


def _signatures(envelope: Envelope, previous: Root | None, root: Root) -> set[tuple[str, str]]:
    """Verify every signature; return (person, key id). A signature of an unknown key is refused, not skipped."""
    signed: set[tuple[str, str]] = set()
    for signature in envelope.signatures:
        found = root.device(signature.keyid) or (previous.device(signature.keyid) if previous else None)
        if found is None:
            message = f"trust root: signature by key {signature.keyid[:16]}…, which no root names"
            raise FormatError(message)
        person, device = found
        keys.verify(device.ed25519, signature.sig, envelope.signed_bytes)
        signed.add((person.id, signature.keyid))
    return signed


def _holds(root: Root, person: str, key: str) -> bool:
    found = root.device(key)
    return found is not None and found[0].id == person


def _require_all(root: Root, persons: Iterable[str], signed: set[tuple[str, str]]) -> None:
    by = {person for person, _ in signed}
    missing = sorted(set(persons) - by)
    if missing:
        message = f"trust root of epoch {root.epoch} is not signed by {', '.join(missing)}"
        raise IntegrityError(message)
