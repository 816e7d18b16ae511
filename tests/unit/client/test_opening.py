"""Receipts of sessions: a job uses nothing before its own session is in the witnessed log, as it asked for it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from custody.client.opening import Opened, verify_open
from custody.documents.dsse import Envelope
from custody.documents.request import ranges_of
from custody.documents.session import OpenSession
from custody.documents.terms import Terms
from custody.entries.entry import Entry
from custody.entries.receipt import Receipt
from custody.errors import CustodyError, FormatError, IntegrityError
from custody.values import U64
from custody.wire.messages import OpenReply
from tests.unit.client.broker import Broker


class Scene:
    """One session of a job, opened at the broker and not yet verified."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.terms = broker.case.terms.document(Terms)
        self.envelope = self.sign()
        self.reply = broker.open_session(self.envelope)

    def sign(self, **changes: Any) -> Envelope:
        return self.broker.case.session(self.broker.job, **changes)

    def entry(self) -> Entry:
        return Entry.parse(self.reply.receipt.entry)

    def verify(self, reply: OpenReply | None = None, envelope: Envelope | None = None) -> Opened:
        trust = self.broker.log.trust()
        lease = self.broker.case.lease
        return verify_open(trust, self.terms, lease, envelope or self.envelope, reply or self.reply)


@pytest.fixture
def scene(broker: Broker) -> Scene:
    return Scene(broker)


def test_an_honest_reply_is_a_session(scene: Scene) -> None:
    opened = scene.verify()
    assert opened.session == scene.envelope.digest
    assert opened.content.version == scene.terms.version
    assert sorted(opened.digest_keys) == [0, 1, 2, 3]


def test_the_receipt_of_another_session_of_the_same_lease_is_refused(scene: Scene) -> None:
    other = scene.broker.open_session(scene.sign())
    with pytest.raises(IntegrityError, match="another open document"):
        scene.verify(replace(scene.reply, receipt=other.receipt))


def test_an_old_receipt_for_a_new_session_is_refused(scene: Scene) -> None:
    fresh = scene.sign()
    with pytest.raises(IntegrityError, match="of another session"):
        scene.verify(envelope=fresh)


def test_the_receipt_of_another_entry_is_refused(scene: Scene) -> None:
    """CVE-2026-22703: a valid proof of something else."""
    log = scene.broker.log
    for index, entry in enumerate(scene.broker.world.log.entries):
        if entry.type != "session-intent":
            with pytest.raises(IntegrityError, match="not of the session"):
                scene.verify(replace(scene.reply, receipt=log.receipt(index)))


def test_another_entry_under_the_sessions_own_proof_is_refused(scene: Scene) -> None:
    other = scene.broker.open_session(scene.sign())
    swapped = Receipt(other.receipt.entry, scene.reply.receipt.proof)
    with pytest.raises(IntegrityError):
        scene.verify(replace(scene.reply, receipt=swapped))


def test_an_unwitnessed_session_is_refused(scene: Scene) -> None:
    note = scene.broker.log.publish(witnesses=1)
    index = len(scene.broker.world.log.entries) - 1
    with pytest.raises(IntegrityError, match="no witness quorum"):
        scene.verify(replace(scene.reply, receipt=scene.broker.log.receipt(index, note)))


def test_an_entry_that_was_altered_after_it_was_logged_is_refused(scene: Scene) -> None:
    entry = scene.reply.receipt.entry
    longer = entry.replace(b'"ceiling":"1000"', b'"ceiling":"9000"')
    assert longer != entry
    with pytest.raises(IntegrityError):
        scene.verify(replace(scene.reply, receipt=Receipt(longer, scene.reply.receipt.proof)))


def test_a_session_of_another_lease_is_refused(scene: Scene) -> None:
    trust = scene.broker.log.trust()
    with pytest.raises(IntegrityError, match="another lease"):
        verify_open(trust, scene.terms, "ab" * 32, scene.envelope, scene.reply)


def test_another_session_id_is_refused(scene: Scene) -> None:
    with pytest.raises(IntegrityError, match="opened another session"):
        scene.verify(replace(scene.reply, session="ab" * 32))


def test_another_content_is_refused(scene: Scene) -> None:
    other = scene.broker.world.sign(scene.broker.world.content(), "sam")
    with pytest.raises(IntegrityError, match="another content"):
        scene.verify(replace(scene.reply, content=other))


def _entry_that_names(scene: Scene, **changes: Any) -> Receipt:
    """Log what a lying broker would: the intent of this very session, with one thing else in it."""
    import msgspec

    entry = msgspec.structs.replace(scene.entry(), **changes)
    world = scene.broker.world
    world.log.entries.append(entry)
    world.state.size += 1
    return scene.broker.log.receipt(len(world.log.entries) - 1)


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("byte ceiling", {"ceiling": U64(10**9)}),
        ("files", {"files": ranges_of({0})}),
        ("content", {"content": "ab" * 32}),
        ("version", {"version": "demo/other@1"}),
        ("request", {"request": "ab" * 32}),
        ("beneficiary", {"beneficiary": "spiffe://example.org/job/thief"}),
        ("session", {"session": "ab" * 32}),
    ],
)
def test_an_intent_that_says_something_else_than_was_asked_is_refused(
    scene: Scene, what: str, changes: dict[str, Any]
) -> None:
    receipt = _entry_that_names(scene, **changes)
    with pytest.raises(IntegrityError, match=f"names another {what}"):
        scene.verify(replace(scene.reply, receipt=receipt))


def test_an_intent_by_another_certificate_is_refused(scene: Scene) -> None:
    other = scene.broker.world.job()
    receipt = _entry_that_names(scene, actor=scene.broker.world.party(other))
    with pytest.raises(IntegrityError, match="names another certificate"):
        scene.verify(replace(scene.reply, receipt=receipt))


def test_an_intent_under_an_older_root_is_refused(scene: Scene) -> None:
    """The root changed before the session; its entry must name the new one."""
    world = scene.broker.world
    world.tick(60)
    world.replace_root()
    receipt = _entry_that_names(scene)
    with pytest.raises(IntegrityError, match="trust root in force"):
        scene.verify(replace(scene.reply, receipt=receipt))


@pytest.mark.parametrize(
    "keys",
    [
        lambda keys: {0: keys[0]},
        lambda keys: keys | {9: bytes(32)},
        lambda _: {},
        lambda keys: keys | {0: b"short"},
    ],
    ids=["too few", "too many", "none", "short"],
)
def test_digest_keys_that_do_not_fit_the_session_are_refused(
    scene: Scene, keys: Callable[[dict[int, bytes]], dict[int, bytes]]
) -> None:
    with pytest.raises(FormatError, match="digest key"):
        scene.verify(replace(scene.reply, digest_keys=keys(scene.reply.digest_keys)))


def test_a_session_with_files_beyond_the_lease_is_refused(broker: Broker) -> None:
    scene = Scene(broker)
    narrow = Terms(**{name: getattr(scene.terms, name) for name in Terms.__struct_fields__} | {"files": ranges_of({0})})
    trust = broker.log.trust()
    with pytest.raises(IntegrityError, match="files that the lease does not have"):
        verify_open(trust, narrow, broker.case.lease, scene.envelope, scene.reply)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff" * 100])
def test_garbage_in_a_receipt_is_a_format_error(scene: Scene, data: bytes) -> None:
    for receipt in (Receipt(data, scene.reply.receipt.proof), Receipt(scene.reply.receipt.entry, data)):
        with pytest.raises(CustodyError):
            scene.verify(replace(scene.reply, receipt=receipt))


def test_the_open_document_names_what_the_job_asked_for(scene: Scene) -> None:
    document = scene.envelope.document(OpenSession)
    assert document.lease == scene.broker.case.lease
