"""What the witnesses have seen of our log: asked when a ledger is made again, and when one is begun.

A ledger that holds nothing, beside a log store that holds nothing, looks like a new deployment. It may as well be an
old one whose disk was lost: then every checkpoint it signed would contradict what the witnesses have cosigned, and no
receipt would ever come. So an empty ledger asks them first. A witness that does not answer holds up nobody: a new
deployment has granted nothing before that witness's first cosignature, and where it has seen more it refuses then.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from custody.adapters.witness_http import HttpWitness
from custody.app.broker_config import BrokerConfig
from custody.documents.root import Root
from custody.errors import CustodyError
from custody.publishing.history import open_signed, refuse_older_ledger
from custody.rules.trust import policy_of
from custody.tlog.note import VKey

__all__ = ["Claim", "ask_witnesses", "require_unseen"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A checkpoint (a note) that ``where`` shows; nobody has verified it."""

    where: str
    note: bytes


def ask_witnesses(config: BrokerConfig, root: Root, origin: str) -> tuple[Sequence[Claim], tuple[str, ...]]:
    """Ask each counted witness what it cosigned last; return that, and who could not be asked."""
    claims, silent = [], []
    for witness in policy_of(root).counted():
        url = config.witnesses.get(witness.name) or witness.url
        if not url:
            silent.append(f"witness {witness.name} has no URL in the configuration")
            continue
        asked = HttpWitness(witness.name, witness.vkey, url, timeout=float(config.witness_timeout))
        try:
            note = asked.latest(origin)
        except CustodyError as error:
            silent.append(error.message)
            continue
        finally:
            asked.close()
        if note is not None:
            claims.append(Claim(f"witness {witness.name}", note))
    return claims, tuple(silent)


def require_unseen(config: BrokerConfig, root: Root, log_key: VKey) -> tuple[str, ...]:
    """Require, of an empty ledger, that no witness shows a checkpoint of entries with this log's own signature.

    Returns who could not be asked, and why. Raises ``ConfigError`` naming the way back.
    """
    claims, silent = ask_witnesses(config, root, log_key.name)
    for claim in claims:
        try:
            size = open_signed(claim.note, [log_key], log_key.name).size
        except CustodyError:
            continue  # without the log's own signature it proves nothing
        if size:
            raise refuse_older_ledger(size, None, claim.where)
    return silent
