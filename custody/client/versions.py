"""A version as a requester or job believes it: logged, and sealed by somebody who may."""

from dataclasses import dataclass

from custody.client.link import Link
from custody.documents.content import Content
from custody.documents.dsse import Envelope
from custody.documents.sharing import Sharing
from custody.entries.receipt import Receipt, Verified
from custody.errors import DeniedError, IntegrityError
from custody.rules.signers import verify_actor
from custody.rules.trust import Trust
from custody.wire.messages import VersionReply

__all__ = ["Version", "get_version", "verify_version"]


@dataclass(frozen=True, slots=True)
class Version:
    """A verified version. ``digest`` is the content's document digest, hex; ``sealed_at`` seconds since 1970."""

    content: Content
    digest: str
    sharing: Sharing
    sealed_at: int


def get_version(link: Link, name: str) -> Version:
    """Fetch a version and verify it. Raises ``NotFoundError``, ``IntegrityError``."""
    reply = link.call(lambda calls: calls.get_version(name))
    return link.verify(lambda trust: verify_version(trust, name, reply))


def verify_version(trust: Trust, name: str, reply: VersionReply) -> Version:
    """Require that the receipt is of the entry that took exactly these documents into custody, signed by a sealer whom
    the trust root lets seal this name.

    A log holds what its broker wrote. So the sealer's signature is verified too, and not only that it was logged. It is
    judged under the root that the entry names: what was rightly sealed stays so when the sealer leaves.
    """
    verified = _check_entry(trust, reply.receipt, reply.content, reply.sharing)
    content, sharing = reply.content.document(Content), reply.sharing.document(Sharing)
    entry = verified.entry
    if not name == content.version == sharing.version == entry.version:
        raise IntegrityError(f"the broker showed {content.version} for {name}")
    if (entry.content, entry.sharing, sharing.content) != (
        reply.content.digest,
        reply.sharing.digest,
        reply.content.digest,
    ):
        raise IntegrityError(f"{name}: the entry in the log is of another content or sharing")
    if content.deployment != trust.deployment:
        raise IntegrityError(f"{name} is of deployment {content.deployment}")
    root = next(root for root in trust.roots if root.digest == entry.root)
    party = verify_actor(reply.content, content.sealer, root, entry.time)
    if entry.actor != party:
        raise IntegrityError(
            f"{name}: the log says that {entry.actor and entry.actor.id} sealed it, but {party.id} did"
        )
    sealer = party.id.removeprefix("person:")
    if not root.may_seal(sealer, content.version):
        raise DeniedError(
            f"{name}: the trust root does not let {sealer} seal it", hint="pin the content digest instead"
        )
    return Version(content, reply.content.digest, sharing, int(entry.time))


def _check_entry(trust: Trust, receipt: Receipt, content: Envelope, sharing: Envelope) -> Verified:
    verified = trust.check_document(receipt, "manifest", content)
    if sharing.envelope_digest not in {item.envelope for item in verified.entry.documents}:
        raise IntegrityError("the receipt is of an entry with another sharing")
    return verified
