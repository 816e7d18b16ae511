"""What every use case of the broker stands on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from custody.broker.ledger import Ledger
from custody.broker.opener import Opener
from custody.broker.sessions import Sessions
from custody.broker.upload_sessions import Uploads
from custody.broker.vault import Vault
from custody.documents.dsse import Envelope
from custody.errors import DeniedError
from custody.ports import LockMode, Policy, Presigner, Store
from custody.rules.state import State

__all__ = ["Context", "LockRule", "Peer", "known_peer"]


@dataclass(frozen=True, slots=True)
class Peer:
    """Who calls, as TLS has proved it: a SPIFFE ID, and the SHA-256 of the certificate (hex). It may read what concerns
    it; acting takes signed documents.
    """

    identity: str
    credential: str


@dataclass(frozen=True, slots=True)
class LockRule:
    """What a retention class means: who may end the lock early (``None``: there is none), and seconds it lasts."""

    mode: LockMode | None
    seconds: int


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of one broker. ``store`` holds ciphertext, ``log`` what is published of the log.

    ``stops`` is the folder of stop tombstones; ``receipt_timeout`` is in seconds. ``shut`` holds requests that were
    stopped here and are not closed in the log yet: nothing opens them. ``unlogged`` are their stops, by digest;
    ``unpublished`` the index of each stop that is logged and whose tombstone still lies there. ``locks`` are the rules
    of object lock by retention class. ``direct`` is how jobs reach the ciphertext themselves: the store's directory as
    they see it, or what presigns URLs; or not at all.
    """

    ledger: Ledger
    store: Store
    log: Store
    policy: Policy
    opener: Opener
    stops: Path
    receipt_timeout: float = 10.0
    direct: str | Presigner | None = None
    vault: Vault = field(default_factory=Vault)
    sessions: Sessions = field(default_factory=Sessions)
    uploads: Uploads = field(default_factory=Uploads)
    locks: Mapping[str, LockRule] = field(default_factory=dict)
    shut: set[str] = field(default_factory=set)
    unlogged: dict[str, Envelope] = field(default_factory=dict)
    unpublished: dict[str, int] = field(default_factory=dict)


def known_peer(state: State, peer: Peer) -> str:
    """Return the id of the person whose TLS identity this is, or "" for a workload of the trust domain.

    Raises ``DeniedError`` for anybody else; it tells a stranger nothing.
    """
    root = state.root
    for person in root.persons:
        if person.identity == peer.identity:
            return person.id
    if not peer.identity.startswith(f"spiffe://{root.trust_domain}/"):
        message = "not permitted"
        raise DeniedError(message)
    return ""
