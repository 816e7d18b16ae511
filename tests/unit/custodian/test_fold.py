"""What a custodian's tool makes of a view: the log's state, or a refusal."""

from dataclasses import replace

import pytest

from custody.custodian.fold import Chain, RequestView, VersionView, missing_documents, read_request, read_version
from custody.documents.content import Content
from custody.documents.decision import Decision
from custody.documents.dsse import Envelope, sign
from custody.documents.release import ReleaseKey
from custody.documents.terms import Terms
from custody.entries.entry import Entry
from custody.entries.receipt import Receipt
from custody.errors import CustodyError, DeniedError, FormatError, IntegrityError
from custody.rules.trust import Seen, Trust
from custody.values import U64, Time
from custody.wire.messages import RequestReply
from tests.doubles.case import Case
from tests.doubles.world import World
from tests.unit.custodian.logged import Published

NAME = "demo/tiny@1"


class Site:
    """A world with a sealed version and a request, and what a tool reads of it."""

    def __init__(self) -> None:
        self.world = World()
        self.world.seal(NAME)
        self.case = self.world.file(NAME)
        self.log = Published(self.world)

    def version(self) -> VersionView:
        trust = self.log.trust()
        return read_version(trust, Chain.of(trust), NAME, self.log.version(NAME))

    def read(self, reply: RequestReply | None = None, more: tuple[Envelope, ...] = ()) -> RequestView:
        trust = self.log.trust()
        return read_request(trust, Chain.of(trust), self.version(), reply or self.log.view(self.case), more)


@pytest.fixture
def site() -> Site:
    return Site()


def test_an_honest_view_becomes_the_state_that_the_log_implies(site: Site) -> None:
    site.case.decide("alice")
    site.case.decide("bob")
    site.case.grant()
    view = site.read()
    assert view.found.granted == site.case.lease
    assert [item.decision.person for item in view.found.decisions] == ["alice", "bob"]
    assert view.phase == "granted"
    assert view.version.version.content.version == NAME


def test_a_version_is_believed_with_its_entry_sealer_and_roster(site: Site) -> None:
    assert site.version().version.content_digest == site.world.state.versions[NAME].content_digest


def test_a_version_that_its_sealer_may_not_seal_is_refused_though_it_is_logged(site: Site) -> None:
    world = site.world
    content = world.sign(world.content("demo/stolen@1", "frank"), "frank")
    sharing = world.sign(world.sharing(content.document(Content)), "frank")
    fields = {"version": "demo/stolen@1", "content": content.digest, "sharing": sharing.digest}
    entry = _force(world, "manifest", [content, sharing], actor=world.party("frank"), **fields)
    trust = site.log.trust()
    reply = site.log.version("demo/stolen@1")
    assert reply.receipt == site.log.receipt_of(entry)
    with pytest.raises(DeniedError, match="frank may not seal"):
        read_version(trust, Chain.of(trust), "demo/stolen@1", reply)


def test_a_sealer_who_left_later_does_not_unseal_what_was_sealed(site: Site) -> None:
    world = site.world
    world.tick(60)
    world.replace_root(sealers=())
    assert site.version().version.content.sealer == world.content().sealer


def test_another_content_or_sharing_beside_a_genuine_receipt_is_refused(site: Site) -> None:
    world = site.world
    other = world.content("demo/other@1")
    content, sharing = world.sign(other, "sam"), world.sign(world.sharing(other), "sam")
    trust = site.log.trust()
    reply = site.log.version(NAME)
    for lying in (replace(reply, content=content), replace(reply, sharing=sharing)):
        with pytest.raises(CustodyError):
            read_version(trust, Chain.of(trust), NAME, lying)


def test_the_receipt_of_another_version_is_refused(site: Site) -> None:
    site.world.seal("demo/other@1")
    trust = site.log.trust()
    reply = replace(site.log.version(NAME), receipt=site.log.version("demo/other@1").receipt)
    with pytest.raises(IntegrityError, match="another entry"):
        read_version(trust, Chain.of(trust), NAME, reply)


def test_terms_wider_than_the_request_are_refused_though_they_are_logged(site: Site) -> None:
    wider = site.world.file(reason="wide")
    wide = wider.make_terms(bytes=U64(99_999))
    entry = _request_entry(site.world, wider, terms=wide)
    reply = _only(site, wider, entry, [wider.request, wide, wider.key])
    with pytest.raises(DeniedError, match="bytes is wider"):
        site.read(reply)


def test_terms_that_no_broker_of_the_root_signed_are_refused(site: Site) -> None:
    other = site.world.file(reason="other")
    forged = sign(other.terms.document(Terms), [site.world.devices["frank"]])
    entry = _request_entry(site.world, other, terms=forged)
    reply = _only(site, other, entry, [other.request, forged, other.key])
    with pytest.raises(IntegrityError, match="not signed with the key of broker"):
        site.read(reply)


def test_terms_swapped_for_others_of_the_same_request_are_refused(site: Site) -> None:
    other = site.case.make_terms(created=Time(site.world.now + 1))
    reply = site.log.view(site.case)
    swapped = [other if item.digest == site.case.lease else item for item in reply.envelopes]
    with pytest.raises(CustodyError, match="missing"):
        site.read(replace(reply, envelopes=swapped))


def test_a_release_key_that_no_broker_of_the_root_signed_is_refused(site: Site) -> None:
    other = site.world.file(reason="other")
    forged = sign(other.key.document(ReleaseKey), [site.world.devices["frank"]])
    entry = _request_entry(site.world, other, key=forged)
    reply = _only(site, other, entry, [other.request, other.terms, forged])
    with pytest.raises(IntegrityError, match="not signed with the key of broker"):
        site.read(reply)


def test_a_release_key_that_is_not_in_the_log_is_refused(site: Site) -> None:
    fresh = site.case.make_key()
    reply = site.log.view(site.case)
    swapped = [fresh if item.payloadType == ReleaseKey.payload_type else item for item in reply.envelopes]
    with pytest.raises(CustodyError, match="missing"):
        site.read(replace(reply, envelopes=swapped))


def test_after_a_restart_the_newest_release_key_counts_and_the_old_one_is_fetched(site: Site) -> None:
    case = site.case
    old = case.key
    fresh = case.make_key()
    case.log_key(fresh)
    reply = site.log.view(case)
    assert missing_documents(reply) == [old.envelope_digest]
    view = site.read(reply, (old,))
    assert view.found.release_key_digest == fresh.digest


def test_an_older_release_key_presented_as_the_newest_is_refused(site: Site) -> None:
    case = site.case
    old = case.key
    case.log_key(case.make_key())
    reply = site.log.view(case)
    with pytest.raises(CustodyError, match="missing"):
        site.read(replace(reply, envelopes=[case.request, case.terms, old]))


def test_a_decision_that_is_not_signed_by_its_person_is_refused(site: Site) -> None:
    case = site.case
    genuine = case.decision("alice")
    forged = sign(genuine.document(Decision), [site.world.devices["carol"]])
    _decision_entry(site.world, case, forged, "carol")
    reply = site.log.view(case)
    with pytest.raises(IntegrityError, match="not signed with a device of alice"):
        site.read(replace(reply, envelopes=[*reply.envelopes, forged]))


def test_a_grant_without_a_quorum_of_signed_decisions_is_refused(site: Site) -> None:
    case = site.case
    case.decide("alice")
    entry = _force(
        site.world,
        "grant",
        [],
        version=NAME,
        content=case.version.content_digest,
        sharing=case.version.sharing_digest,
        request=case.digest,
        terms=case.lease,
        beneficiary=case.found.request.beneficiary,
        persons=("alice", "bob"),
        parent=case.found.entry,
    )
    reply = site.log.view(case)
    assert reply.receipts[-1].entry == entry.encode()
    with pytest.raises(IntegrityError, match="approvals count"):
        site.read(reply)


def test_receipts_out_of_order_or_doubled_are_refused(site: Site) -> None:
    site.case.decide("alice")
    reply = site.log.view(site.case)
    for receipts in (list(reversed(reply.receipts)), [*reply.receipts, reply.receipts[-1]]):
        with pytest.raises(FormatError, match="order"):
            site.read(replace(reply, receipts=receipts))


def test_an_entry_of_another_request_in_the_view_is_refused(site: Site) -> None:
    other = site.world.file(reason="another")
    other.decide("alice")
    reply = site.log.view(site.case)
    foreign = site.log.view(other).receipts[-1]
    with pytest.raises(IntegrityError, match="another request"):
        site.read(replace(reply, receipts=[*reply.receipts, foreign]))


def test_an_entry_that_was_altered_after_it_was_logged_is_refused(site: Site) -> None:
    reply = site.log.view(site.case)
    receipt = reply.receipts[0]
    altered = Receipt(receipt.entry.replace(b'"release_key":"', b'"release_key":"0')[:-2] + b"}", receipt.proof)
    with pytest.raises(CustodyError):
        site.read(replace(reply, receipts=[altered]))


def test_an_unwitnessed_checkpoint_is_refused(site: Site) -> None:
    reply = site.log.view(site.case)
    note = site.log.publish(witnesses=1)
    index = site.world.log.entries.index(Entry.parse(reply.receipts[0].entry))
    with pytest.raises(IntegrityError, match="no witness quorum"):
        site.read(replace(reply, receipts=[site.log.receipt(index, note)]))


def test_a_stop_and_a_close_are_taken_at_the_logs_word(site: Site) -> None:
    case = site.case
    case.log_stop(case.stop("withdraw", "frank"), "frank")
    view = site.read()
    assert view.found.stopped == "withdrawn"
    case.close("withdrawn")
    assert site.read().phase == "closed"


def test_documents_of_another_deployment_are_refused(site: Site) -> None:
    staging = World(b"staging", deployment="custody.example.org/staging")
    staging.seal(NAME)
    other = Published(staging)
    trust = site.log.trust()
    with pytest.raises(IntegrityError):
        read_version(trust, Chain.of(trust), NAME, other.version(NAME))


def test_a_forged_genesis_is_refused(site: Site) -> None:
    forger = Published(World(b"forger"))
    trust = Trust(site.world.deployment, site.world.genesis.digest, Seen())
    with pytest.raises(IntegrityError, match="is pinned"):
        trust.take_roots(forger.roots())


def test_an_entry_under_a_root_that_is_not_in_the_chain_is_refused(site: Site) -> None:
    trust = site.log.trust()
    chain = Chain.of(trust)
    with pytest.raises(IntegrityError, match="does not follow"):
        chain.turn(chain.state(), "ab" * 32, 3)


# ------------------------------------------------------------------------------------------------------------ helpers


def _force(world: World, kind: str, envelopes: list[Envelope], **fields: object) -> Entry:
    """Log an entry that no rule allows, as a lying broker could."""
    kept = world.log.append
    world.log.append = lambda entry, envelopes=(): _keep(world, entry, envelopes)  # type: ignore[method-assign]
    try:
        return world.append(kind, *envelopes, **fields)
    finally:
        world.log.append = kept  # type: ignore[method-assign]


def _keep(world: World, entry: Entry, envelopes: object) -> None:
    world.log.entries.append(entry)
    world.log.envelopes.update({item.envelope_digest: item for item in envelopes})  # type: ignore[attr-defined]
    world.state.size += 1


def _request_entry(world: World, case: Case, *, terms: Envelope | None = None, key: Envelope | None = None) -> Entry:
    """Log the entry of a request again with other documents in it."""
    terms, key = terms or case.terms, key or case.key
    return _force(
        world,
        "request",
        [case.request, terms, key],
        actor=world.party("frank"),
        version=NAME,
        content=case.version.content_digest,
        sharing=case.version.sharing_digest,
        request=case.digest,
        terms=terms.digest,
        release_key=key.digest,
        beneficiary=case.found.request.beneficiary,
    )


def _decision_entry(world: World, case: Case, envelope: Envelope, who: str) -> Entry:
    decision = envelope.document(Decision)
    return _force(
        world,
        "decision",
        [envelope],
        actor=world.party(who),
        version=NAME,
        content=case.version.content_digest,
        sharing=decision.sharing,
        request=case.digest,
        terms=decision.terms,
        slot=decision.slot,
        verdict=decision.verdict,
        parent=case.found.entry,
    )


def _only(site: Site, case: Case, entry: Entry, envelopes: list[Envelope]) -> RequestReply:
    return RequestReply(case.digest, "requested", "", [site.log.receipt_of(entry)], envelopes, 0, 0)
