"""A lying broker, as the job sees it: everything is real but one answer, and the client uses not one byte of it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from custody.app.sealing import Sealed
from custody.client import Custody, Settings, WorkloadIdentity
from custody.client.link import BoundedCalls
from custody.client.stopping import stop
from custody.documents.dsse import sign
from custody.entries.receipt import Receipt
from custody.errors import CustodyError, FormatError, IntegrityError, UnavailableError
from custody.tlog.note import Note
from custody.tlog.proof import Proof
from custody.values import U64
from custody.wire.calls import Calls
from custody.wire.messages import OpenReply, RequestReply, VersionReply
from custody.wire.pieces import Piece
from tests.doubles.site import DEPLOYMENT, Site

Open = Callable[[OpenReply], OpenReply]
SEGMENT = 1 << 16


@pytest.fixture(scope="module")
def lease(site: Site, sealed: Sealed) -> str:
    return site.granted(sealed, sessions=U64(60), bytes=U64(60 * sealed.content.size))[1]


@pytest.fixture(scope="module")
def other(site: Site, source: Path, fresh: Callable[[str], str]) -> tuple[Sealed, str]:
    """Another version of the same shape, and a lease of it."""
    version = site.seal(source, fresh("other"))
    site.register(version)
    return version, site.granted(version, sessions=U64(9), bytes=U64(9 * version.content.size))[1]


def job(site: Site, **lies: Any) -> Custody:
    """A job whose broker tells these lies: methods by name."""
    tls = site.tls("tls/job")
    settings = Settings(DEPLOYMENT, site.root_envelope.digest, site.address, "broker-1.custody", tls)
    kind = type("Lying", (BoundedCalls,), lies)
    return Custody(settings, connect=lambda at, _now: kind(at.address, at.server_name, at.tls))


def opened(site: Site, lie: Open) -> Custody:
    """A job whose broker answers an open document with something else."""
    return job(site, open_session=lambda self, envelope: lie(Calls.open_session(self, envelope)))


def read(custody: Custody, lease: str) -> bytes:
    """Read the weights; a buffer that is refused holds nothing."""
    with custody, custody.lease(lease).open(patience=0) as session:
        out = bytearray(b"?" * session.size("weights.bin"))
        try:
            session.readinto("weights.bin", out)
        except CustodyError:
            assert out in (bytes(len(out)), b"?" * len(out))
            raise
        return bytes(out)


def test_an_honest_broker(site: Site, lease: str, source: Path) -> None:
    assert read(job(site), lease) == (source / "weights.bin").read_bytes()


def served(change: Callable[[Iterator[Piece]], Iterator[Piece]]) -> Any:
    """A lie about what is streamed."""
    return lambda self, *args: change(BoundedCalls.read_within(self, *args))


def backdoor(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Other weights, as well-formed as the true ones."""
    for piece in pieces:
        data = b"backdoor" * (len(piece.data) // 8) if piece.segment == 2 else piece.data
        yield Piece(segment=piece.segment, offset=piece.offset, data=data)


def swapped(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Segments under each other's numbers."""
    all_pieces = list(pieces)
    for piece, data in zip(
        all_pieces, [all_pieces[1].data, all_pieces[0].data, *(p.data for p in all_pieces[2:])], strict=True
    ):
        yield Piece(segment=piece.segment, offset=piece.offset, data=data)


def reordered(pieces: Iterator[Piece]) -> Iterator[Piece]:
    yield from reversed(list(pieces))


def repeated(pieces: Iterator[Piece]) -> Iterator[Piece]:
    for piece in pieces:
        yield piece
        yield piece


def endless(pieces: Iterator[Piece]) -> Iterator[Piece]:
    for piece in pieces:
        yield Piece(segment=piece.segment, offset=piece.offset, data=bytes(piece.data) + b"more")


def cut(pieces: Iterator[Piece]) -> Iterator[Piece]:
    yield next(pieces)


@pytest.mark.parametrize(
    ("lie", "error", "match"),
    [
        (backdoor, IntegrityError, r"weights\.bin: segment 2: not the plaintext that was sealed"),
        (swapped, IntegrityError, r"weights\.bin: segment 0: not the plaintext that was sealed"),
        (reordered, IntegrityError, "the broker sent"),
        (repeated, IntegrityError, "the broker sent"),
        (endless, IntegrityError, "the broker sent"),
        (cut, UnavailableError, "ended too early"),
    ],
)
def test_other_weights(site: Site, lease: str, lie: Any, error: type[CustodyError], match: str) -> None:
    with pytest.raises(error, match=match):
        read(job(site, read_within=served(lie)), lease)


def test_weights_with_digests_that_fit_them(site: Site, lease: str, other: tuple[Sealed, str], source: Path) -> None:
    """Another version's weights, digest list and digest keys, all of them true: the content names another list."""
    _, foreign = other
    with site.calls("job") as calls:
        reply = site.open(calls, other[0], foreign)

    liar = job(
        site,
        read_within=lambda self, _session, *rest: BoundedCalls.read_within(self, reply.session, *rest),
        read_digests=lambda self, _session, *rest: Calls.read_digests(self, reply.session, *rest),
        open_session=lambda self, envelope: replace(Calls.open_session(self, envelope), digest_keys=reply.digest_keys),
    )
    with pytest.raises(IntegrityError, match=r"weights\.bin: digest list"):
        read(liar, lease)


def unwitnessed(receipt: Receipt) -> Receipt:
    """Strip the cosignatures; the log's own signature stays."""
    proof = Proof.parse(receipt.proof)
    note = Note.parse(proof.checkpoint)
    own = b"".join(line.encode() for line in note.signatures if line.name == DEPLOYMENT)
    return Receipt(receipt.entry, Proof(proof.index, proof.hashes, note.text + b"\n" + own).encode())


def test_an_open_that_is_answered_with_something_else(
    site: Site, sealed: Sealed, lease: str, other: tuple[Sealed, str]
) -> None:
    version, foreign = other
    with site.calls("job") as calls:
        old, strange = site.open(calls, sealed, lease), site.open(calls, version, foreign)
    lies: list[tuple[Open, type[CustodyError], str]] = [
        (lambda reply: replace(reply, receipt=old.receipt), IntegrityError, "names another open document"),
        (lambda reply: replace(reply, receipt=strange.receipt), IntegrityError, "names another"),
        (lambda reply: replace(reply, receipt=unwitnessed(reply.receipt)), IntegrityError, "quorum|cosign|witness"),
        (lambda reply: replace(reply, receipt=Receipt(old.receipt.entry, reply.receipt.proof)), IntegrityError, ""),
        (lambda reply: replace(reply, session=old.session), IntegrityError, "another session"),
        (lambda reply: replace(reply, content=version.manifest.content), IntegrityError, "another content"),
        (lambda reply: replace(reply, digest_keys={0: bytes(32)}), FormatError, "one digest key for each file"),
        (lambda reply: replace(reply, digest_keys=dict.fromkeys(range(9), bytes(32))), FormatError, "one digest key"),
        (lambda reply: replace(reply, digest_keys=dict.fromkeys(range(2), b"")), FormatError, "32 bytes"),
        (lambda reply: replace(reply, digest_keys=dict.fromkeys(range(2), bytes(32))), IntegrityError, "segment 0"),
    ]
    for lie, error, match in lies:
        with pytest.raises(error, match=match or None):
            read(opened(site, lie), lease)


def test_a_grant_that_was_never_given(site: Site, sealed: Sealed) -> None:
    """The broker says granted, shows terms of its own, or another request's grant: nothing is believed but the log."""
    with site.calls("job") as calls:
        view = calls.submit_request(site.request(sealed, requester=site.workload()))
    granted, _ = site.granted(sealed)

    def shown(change: Callable[[RequestReply], RequestReply]) -> Custody:
        return job(site, get_request=lambda self, *args, **kwargs: change(Calls.get_request(self, *args, **kwargs)))

    with shown(lambda reply: replace(reply, phase="granted")) as liar:
        assert liar.find(view.request).status().granted is None
    for change in (
        lambda reply: replace(granted, request=reply.request),
        lambda reply: replace(reply, receipts=[*reply.receipts, *granted.receipts[1:]]),
        lambda reply: replace(reply, envelopes=granted.envelopes),
        lambda reply: replace(reply, receipts=[]),
    ):
        with shown(change) as liar, pytest.raises(IntegrityError):
            liar.find(view.request)


def test_a_version_by_another_sealer_or_name(site: Site, sealed: Sealed, other: tuple[Sealed, str], lease: str) -> None:
    def shown(change: Callable[[VersionReply], VersionReply]) -> Custody:
        return job(site, get_version=lambda self, name: change(Calls.get_version(self, name)))

    with site.calls("job") as calls:
        foreign = calls.get_version(other[0].content.version)
    by_bob = sign(sealed.content, [site.signer("bob")])
    for change in (
        lambda reply: foreign,
        lambda reply: replace(reply, content=foreign.content),
        lambda reply: replace(reply, sharing=foreign.sharing),
        lambda reply: replace(reply, receipt=foreign.receipt),
        lambda reply: replace(reply, content=by_bob),
    ):
        with shown(change) as liar, pytest.raises(IntegrityError):
            liar.version(sealed.content.version)
        with pytest.raises(IntegrityError):
            read(shown(change), lease)


def test_a_stop_that_is_said_to_be_confirmed(site: Site, sealed: Sealed) -> None:
    """A receipt of another entry, or of nothing that witnesses saw, confirms no stop."""
    identity = WorkloadIdentity(site.tls("tls/job"), lambda _: None)
    with site.calls("alice") as alice:
        foreign = alice.hello(site.hello("alice"))
    for lie in (lambda *_: foreign, lambda self, envelope: unwitnessed(Calls.stop(self, envelope))):
        _, lease = site.granted(sealed)
        with job(site, stop=lie) as liar, pytest.raises(UnavailableError, match="NOT CONFIRMED"):
            stop(liar.link, identity, "return", lease, "done", patience=0)
    _, lease = site.granted(sealed)
    with job(site) as honest:
        stop(honest.link, identity, "return", lease, "done", patience=0)
