"""Direct mode against a job: a lying broker, a tampered store. Not one wrong byte is given, and the buffer is zeros."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from custody.app.sealing import Sealed
from custody.client import Custody
from custody.crypto import hpke
from custody.documents.dsse import Envelope
from custody.documents.session import OpenSession
from custody.entries.receipt import Receipt
from custody.errors import ConfigError, CustodyError, FormatError, IntegrityError, NotFoundError
from custody.tlog.merkle import leaf_hash
from custody.tlog.note import Note
from custody.tlog.proof import Proof
from custody.values import U64
from custody.wire.calls import Calls
from custody.wire.messages import OpenReply, PlaceReply
from tests.adversaries.test_direct import keys_of
from tests.doubles.direct import DirectSite, JobKey
from tests.doubles.site import DEPLOYMENT

Lie = Callable[[OpenReply, Envelope], OpenReply]


@pytest.fixture(scope="module")
def site(direct_site: DirectSite) -> DirectSite:
    return direct_site


@pytest.fixture(scope="module")
def granted(site: DirectSite, sealed: Sealed) -> tuple[str, str]:
    """A request and its lease, with sessions enough for every lie."""
    view, lease = site.granted_direct(sealed, sessions=U64(60), bytes=U64(60 * sealed.content.size))
    return view.request, lease


@pytest.fixture(scope="module")
def other(site: DirectSite, source: Path, fresh: Callable[[str], str]) -> Sealed:
    """Another version of the same shape."""
    version = site.seal(source, fresh("other"))
    site.register(version)
    return version


def read(custody: Custody, lease: str) -> bytes:
    """Read the weights; a buffer that is refused holds nothing."""
    with custody, custody.lease(lease).open(patience=0) as session:
        out = bytearray(b"?" * session.size("weights.bin"))
        session.read("config.json")
        try:
            session.readinto("weights.bin", out)
        except CustodyError:
            assert out in (bytes(len(out)), b"?" * len(out))
            raise
        return bytes(out)


def liar(site: DirectSite, lie: Lie) -> Custody:
    """A job whose broker answers an open document with something else."""
    return site.job(open_session=lambda self, envelope: lie(Calls.open_session(self, envelope), envelope))


def resealed(request: str, reply: OpenReply, envelope: Envelope, keys: dict[int, bytes]) -> OpenReply:
    """The reply with other keys, as well sealed as the broker can: it has all that the seal needs."""
    xwing = envelope.document(OpenSession).xwing
    assert xwing is not None
    leaf = leaf_hash(reply.receipt.entry)
    return replace(
        reply,
        sealed_keys={
            file: hpke.seal(xwing, hpke.direct_info(bytes.fromhex(request), leaf, file), bytearray(pair))
            for file, pair in keys.items()
        },
    )


def unwitnessed(receipt: Receipt) -> Receipt:
    proof = Proof.parse(receipt.proof)
    note = Note.parse(proof.checkpoint)
    own = b"".join(line.encode() for line in note.signatures if line.name == DEPLOYMENT)
    return Receipt(receipt.entry, Proof(proof.index, proof.hashes, note.text + b"\n" + own).encode())


def test_a_broker_that_seals_other_keys_or_shows_another_receipt(
    site: DirectSite, sealed: Sealed, other: Sealed, granted: tuple[str, str], source: Path
) -> None:
    request, lease = granted
    assert read(liar(site, lambda reply, _: reply), lease) == (source / "weights.bin").read_bytes()
    with site.calls("job") as job:
        old = job.open_session(site.open_direct(lease, sealed, JobKey()))
    own = {file: keys_of(site, sealed, file) for file in (0, 1)}
    foreign = {file: keys_of(site, other, file) for file in (0, 1)}
    mixed = {0: own[0], 1: own[1][:32] + foreign[1][32:]}

    def sealing(keys: dict[int, bytes]) -> Lie:
        return lambda reply, envelope: resealed(request, reply, envelope, keys)

    assert read(liar(site, sealing(own)), lease)  # the double seals as the broker does
    lies: list[tuple[Lie, type[CustodyError], str]] = [
        (sealing({0: own[1], 1: own[0]}), IntegrityError, "config.json"),
        (sealing({0: own[0], 1: own[0]}), IntegrityError, "weights.bin"),
        (sealing(foreign), IntegrityError, "config.json"),
        (sealing(mixed), IntegrityError, "weights.bin: segment 0"),
        (sealing({0: own[0]}), FormatError, "sealed keys of each file"),
        (sealing(own | {2: own[0]}), FormatError, "sealed keys of each file"),
        (sealing({0: own[0], 1: own[1][:63]}), FormatError, "sealed secret"),
        (lambda reply, _: replace(reply, sealed_keys=old.sealed_keys), IntegrityError, "not sealed to this key"),
        (lambda reply, _: replace(reply, sealed_keys=dict(enumerate([reply.sealed_keys[1]] * 2))), IntegrityError, ""),
        (lambda reply, _: replace(reply, sealed_keys={}), FormatError, "sealed keys of each file"),
        (lambda reply, _: replace(reply, digest_keys={0: bytes(32)}), FormatError, "and nothing else"),
        (lambda reply, _: replace(reply, receipt=old.receipt), IntegrityError, "names another open document"),
        (lambda reply, _: replace(reply, receipt=unwitnessed(reply.receipt)), IntegrityError, "quorum|cosign|witness"),
        (lambda reply, _: replace(old, session=reply.session), IntegrityError, "another"),
    ]
    for lie, error, match in lies:
        with pytest.raises(error, match=match or None):
            read(liar(site, lie), lease)


@pytest.mark.parametrize(
    ("place", "error", "match"),
    [
        (PlaceReply("/nowhere", None, None), ConfigError, "no such directory"),
        (PlaceReply("store", None, None), IntegrityError, "no absolute path"),
        (PlaceReply("/etc", None, None), NotFoundError, "there is no versions/"),
        (PlaceReply("/\0", None, None), IntegrityError, "no absolute path"),
    ],
    ids=["nowhere", "relative", "elsewhere", "nul"],
)
def test_a_broker_that_names_another_place(
    site: DirectSite, granted: tuple[str, str], place: PlaceReply, error: type[CustodyError], match: str
) -> None:
    with pytest.raises(error, match=match):
        read(site.job(locate=lambda *_: place), granted[1])


def test_a_job_that_has_a_file_open_needs_no_broker_to_read_it(
    site: DirectSite, granted: tuple[str, str], source: Path
) -> None:
    with site.job() as custody, custody.lease(granted[1]).open() as session:
        session.read("weights.bin", 0, 1)
        with site.frozen("broker"):
            assert session.read("weights.bin") == (source / "weights.bin").read_bytes()


def test_a_job_keeps_no_key_after_its_session(site: DirectSite, granted: tuple[str, str]) -> None:
    with site.job() as custody:
        session = custody.lease(granted[1]).open()
        session.read("config.json")
        keys = [*session._live._keys.digest_keys.values(), *session._live._keys.file_keys.values()]
        assert len(keys) == 4
        session.close()
        assert all(key.closed for key in keys)
        with pytest.raises(ValueError, match=r"wiped|closed"):
            session.read("config.json")
