"""Roots and manifests: who is trusted, and what was sealed."""

from custody.documents.content import Content
from custody.documents.root import Root, Roster
from custody.documents.sharing import Sharing
from custody.errors import ConflictError, DeniedError
from custody.rules.facts import Facts
from custody.rules.roots import accept_root, final_checkpoint
from custody.rules.state import VersionState

__all__ = ["check_sharing", "manifest", "root"]


def root(facts: Facts) -> None:
    """A trust root enters into force. The entry of root N+1 still names N; that of genesis names itself.

    One that names a successor of the log is its first own entry: it follows what the final checkpoint covers.
    """
    state, entry = facts.state, facts.entry
    document, envelope = facts.document(Root)
    previous = state.roots[-1] if state.roots else None
    accepted = accept_root(previous, envelope, deployment=state.deployment, genesis=state.genesis)
    facts.require(entry.root == (state.root_digest if previous else envelope.digest), "it names another trust root")
    facts.require(entry.policy == (previous or document).policy, "it names another policy")
    facts.require((previous or document).broker(entry.broker) is not None, f"{entry.broker} is no broker of the root")
    facts.require_parent(state.root_entries[-1] if state.root_entries else None)
    facts.not_from_the_future(document.created, "the trust root")
    final = final_checkpoint(previous, accepted) if previous else None
    facts.require(final is not None or not state.ended, "the log has ended, and this trust root names no successor")
    facts.require(final is None or state.ended, "it names a successor of a log that has not ended")
    facts.require(
        final is None or final.size == state.size, "the final checkpoint that it names is not where the log ended"
    )
    state.ended = False
    state.roots.append(accepted)
    state.root_digest = envelope.digest
    state.root_entries.append(facts.place)
    state.root_envelopes.append(envelope.envelope_digest)


def manifest(facts: Facts) -> None:
    """A version enters custody: its name is free, the root lets the sealer seal it, and the roster guards it."""
    state, entry = facts.state, facts.entry
    content, content_envelope = facts.document(Content)
    sharing, sharing_envelope = facts.document(Sharing)
    facts.require(content.deployment == sharing.deployment == state.deployment, "it is of another deployment")
    facts.require(entry.version == content.version == sharing.version, "it names another version")
    facts.require(entry.content == content_envelope.digest == sharing.content, "it names another content")
    facts.require(entry.sharing == sharing_envelope.digest, "it names another sharing")
    facts.require(sharing.generation == 0 and sharing.signer == content.sealer, "the sharing is not the sealer's own")
    if content.version in state.versions or content.vid in state.vids:
        message = f"{content.version} exists already"
        raise ConflictError(message, hint="a version never changes; seal under another label")
    party = facts.signed(content_envelope, content.sealer)
    facts.require(facts.signed(sharing_envelope, sharing.signer) == party, "two sealers signed")
    facts.require_actor(party)
    facts.not_from_the_future(content.created, "the content")
    sealer = party.id.removeprefix("person:")
    if not state.root.may_seal(sealer, content.version):
        message = f"{sealer} may not seal {content.version}"
        raise DeniedError(message, hint="the trust root says who may seal which names")
    check_sharing(sharing, state.root.roster_for(content.version))
    state.vids.add(content.vid)
    state.versions[content.version] = VersionState(
        content=content,
        content_digest=content_envelope.digest,
        content_envelope=content_envelope.envelope_digest,
        sharing=sharing,
        sharing_digest=sharing_envelope.digest,
        sharing_envelope=sharing_envelope.envelope_digest,
        entry=facts.place,
        sealed_at=entry.time,
    )


def check_sharing(sharing: Sharing, roster: Roster | None) -> None:
    """Check that a sharing is exactly the roster's: same groups, thresholds and members in slot order."""
    if roster is None:
        message = f"no roster guards {sharing.version}"
        raise DeniedError(message, hint="add its name to a roster in the trust root")
    wanted = [(group.name, group.threshold, group.members) for group in roster.groups]
    shared = [(group.name, group.threshold, tuple(slot.person for slot in group.slots)) for group in sharing.groups]
    if sharing.roster != roster.name or wanted != shared:
        message = f"the sharing of {sharing.version} is not that of roster {roster.name}"
        raise DeniedError(message, hint="the trust root may have changed since; seal again")
