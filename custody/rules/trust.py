"""What a tool that trusts nobody believes: what follows from a pinned genesis and from cosigned checkpoints.

A tool pins the deployment id and the genesis digest, and remembers the highest epoch and tree size it has seen. From a
broker it takes roots and receipts; each is verified here, or refused. This room does no I/O: whoever calls fetches,
and stores ``seen`` afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from custody.documents.dsse import Envelope
from custody.documents.root import Root
from custody.entries.receipt import Receipt, Verified, verify
from custody.errors import ConfigError, FormatError, IntegrityError
from custody.rules.roots import follow_roots
from custody.tlog.note import VKey
from custody.tlog.policy import Policy

__all__ = ["Seen", "Trust", "policy_of", "require_receipts"]


@dataclass(frozen=True, slots=True)
class Seen:
    """The highest root epoch and the largest tree a tool has seen; it never goes back."""

    epoch: int = 0
    size: int = 0


def policy_of(root: Root) -> Policy:
    """Return the log key and witness policy of a root. Raises ``ConfigError`` where its two statements differ."""
    return _policy(root.witness_policy, root.log.vkey)


@lru_cache(maxsize=64)
def _policy(lines: tuple[str, ...], vkey: str) -> Policy:
    """A publisher asks in every round, for the same few roots."""
    policy = Policy.parse("".join(f"{line}\n" for line in lines).encode())
    key = VKey.parse(vkey)
    if [item.vkey for item in policy.logs] != [key]:
        raise ConfigError("trust root: its witness policy does not name its log, and no other")
    return policy


class Trust:
    """Verified roots and the policy in force. Not thread-safe."""

    def __init__(self, deployment: str, genesis: str, seen: Seen) -> None:
        self.deployment = deployment
        self.genesis = genesis
        self.seen = seen
        self._roots: list[Root] = []
        self._digests: list[str] = []
        self._policy: Policy | None = None

    @property
    def root(self) -> Root:
        """The newest verified root."""
        if not self._roots:
            raise ConfigError("no trust root has been verified yet")
        return self._roots[-1]

    @property
    def roots(self) -> tuple[Root, ...]:
        """Every verified root, genesis first."""
        return tuple(self._roots)

    @property
    def root_digest(self) -> str:
        """Its document digest."""
        return self._digests[-1]

    @property
    def policy(self) -> Policy:
        """Log key and witness policy of the newest root."""
        if self._policy is None:
            raise ConfigError("no trust root has been verified yet")
        return self._policy

    def load(self, envelopes: Sequence[Envelope]) -> None:
        """Take a chain of roots from genesis on. Raises ``IntegrityError`` for any that must not follow, and for a
        chain that ends before an epoch seen earlier.
        """
        roots = follow_roots(envelopes, deployment=self.deployment, genesis=self.genesis)
        epoch = int(roots[-1].epoch)
        if epoch < self.seen.epoch:
            raise IntegrityError(
                f"rollback: the newest trust root shown is of epoch {epoch}, epoch {self.seen.epoch} was seen before",
                hint="somebody serves old data; ask the operators, and do not sign",
            )
        self._policy = policy_of(roots[-1])
        self._roots, self._digests = roots, [envelope.digest for envelope in envelopes]
        self.seen = Seen(epoch, self.seen.size)

    def take_roots(self, logged: Sequence[tuple[Envelope, Receipt]]) -> None:
        """Take a chain of roots with the receipts of their entries: each root must also be in the log."""
        self.load([envelope for envelope, _ in logged])
        for envelope, receipt in logged:
            verified = self.check(receipt)
            if verified.entry.type != "root" or verified.entry.document("root").document != envelope.digest:
                raise IntegrityError("a trust root's receipt is of another entry")

    def check(self, receipt: Receipt) -> Verified:
        """Verify a receipt under the root in force. Raises ``IntegrityError``; remembers the tree size."""
        verified = verify(receipt, self.policy)
        if verified.entry.root not in self._digests:
            raise IntegrityError("the entry names a trust root that does not follow from the pinned genesis")
        self.seen = Seen(self.seen.epoch, max(self.seen.size, verified.checkpoint.size))
        return verified

    def check_document(self, receipt: Receipt, kind: str, envelope: Envelope) -> Verified:
        """Verify that the receipt's entry is of type ``kind`` and names exactly this envelope."""
        verified = self.check(receipt)
        if verified.entry.type != kind or envelope.envelope_digest not in {
            item.envelope for item in verified.entry.documents
        }:
            raise IntegrityError(f"the receipt is of another entry, not the {kind} asked for")
        return verified

    def check_current(self, receipt: Receipt, hello: Envelope) -> None:
        """Verify the answer to an own hello: the newest verified root must be the one in force, in a tree no smaller
        than any seen. Raises ``IntegrityError``.
        """
        smallest = self.seen.size
        verified = self.check_document(receipt, "hello", hello)
        if verified.entry.root != self.root_digest:
            raise IntegrityError(
                "the log names another trust root in force than the newest one shown",
                hint="somebody holds back a newer trust root; do not sign",
            )
        if verified.checkpoint.size < smallest:
            raise IntegrityError(f"rollback: a log of {verified.checkpoint.size} entries, {smallest} were seen before")


def require_receipts(receipts: Sequence[Receipt], trust: Trust) -> list[Verified]:
    """Verify several receipts of one view, which must be in log order. Raises as ``Trust.check``."""
    verified = [trust.check(receipt) for receipt in receipts]
    order = [item.index for item in verified]
    if order != sorted(set(order)):
        raise FormatError("the receipts are not in the order of the log")
    return verified
