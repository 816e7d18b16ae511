"""Canaries: what people write, what they should not have written, keys and plaintext; and where they could end up."""

import secrets
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from msgspec.structs import replace

from custody.app.sealing import Sealed
from custody.crypto import schedule
from custody.documents.decision import Decision
from custody.documents.dsse import Document
from custody.documents.manifest import WRAPPED_SHARE
from custody.documents.request import Request
from custody.documents.session import OpenSession
from custody.documents.stop import Stop
from custody.errors import CustodyError
from custody.values import U64
from custody.wire.v1 import broker_pb2 as pb
from custody.wire.v1.broker_pb2_grpc import BrokerStub
from tests.doubles import malice
from tests.doubles.site import Site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A deployment of its own: every file of it is searched."""
    with Site(tmp_path_factory.mktemp("deployment") / "site") as running:
        yield running


@dataclass
class Canaries:
    """``said``: in the free text of documents. ``slipped``: a passphrase in every field where it does not belong.
    ``plain``: in the files. ``keys``: what opens the version.
    """

    said: bytes = field(default_factory=lambda: b"said-" + secrets.token_hex(12).encode())
    slipped: bytes = field(default_factory=lambda: b"slipped-" + secrets.token_hex(12).encode())
    plain: bytes = field(default_factory=lambda: b"plain-" + secrets.token_hex(12).encode())
    keys: list[bytes] = field(default_factory=list)

    def spelled(self, *which: bytes) -> list[bytes]:
        """As they are, and in hex and base64 (each of the three ways it can be aligned)."""
        found = []
        for canary in which:
            found += [canary, canary.hex().encode(), repr(canary)[2:-1].encode()]
            found += [b64encode(b"-" * shift + canary)[4:-4] for shift in range(3)]
        return found


@pytest.fixture(scope="module")
def canaries(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Canaries:
    """A life of a version, in which everybody says too much."""
    canaries = Canaries()
    source = tmp_path_factory.mktemp("source")
    (source / "config.json").write_bytes(canaries.plain * 10)
    (source / "weights.bin").write_bytes(canaries.plain * 5000)
    sealed = site.seal(source, "demo/canary@1")
    site.register(sealed)
    canaries.keys += keys_of(site, sealed)
    said, slipped = canaries.said.decode(), canaries.slipped.decode()
    with ExitStack() as stack:
        dave, alice, job = (stack.enter_context(site.calls(who)) for who in ("dave", "alice", "job"))
        view = dave.submit_request(site.request(sealed, reason=f"because {said}", ticket=said, sessions=U64(3)))
        _slip(site, sealed, view.request, slipped)
        note = replace(site.decide(view, "alice")[0].document(Decision), note=said)
        alice.decide(site.sign_as("alice", note))
        _, release, wrapped = site.decide(view, "alice")
        alice.release_share(release, wrapped)
        view = site.approve(view, "bob")
        lease = site.lease_of(view)
        opened = site.open(job, sealed, lease)
        canaries.keys += opened.digest_keys.values()
        assert canaries.plain in site.read(job, opened.session, 1)
        with suppress(CustodyError):
            list(job.read(opened.session, 1, 0, 0))  # over the budget: an error in the middle of plaintext
        stream = job.read(site.open(job, sealed, lease).session, 1)
        next(stream)
        stop = replace(site.stop_document("alice", "revoke", lease).document(Stop), reason=said)
        alice.stop(site.sign_as("alice", stop))
    return canaries


def keys_of(site: Site, sealed: Sealed) -> list[bytes]:
    found = [bytes(y) for y in malice.shares_of(site, sealed).values()]
    with malice.version_key(site, sealed) as key, schedule.file_key(key, 1) as file_key:
        return [*found, bytes(key.view), bytes(file_key.view)]


def _slip(site: Site, sealed: Sealed, request: str, slipped: str) -> None:
    """Put a passphrase into every field of every call."""
    files = site.tls("tls/dave")
    key, chain, roots = files.read()
    documents: dict[str, Document] = {
        "SubmitRequest": site.request(sealed).document(Request),
        "Stop": site.stop_document("dave", "withdraw", request).document(Stop),
        "OpenSession": site.open_document("ab" * 32, {0}, 1).document(OpenSession),
    }
    options = [("grpc.ssl_target_name_override", "broker-1.custody")]
    with grpc.secure_channel(site.address, grpc.ssl_channel_credentials(roots, key, chain), options) as channel:
        stub = BrokerStub(channel)
        messages: list[tuple[str, object]] = [
            ("GetLogObject", pb.GetLogObjectRequest(path=slipped)),
            ("GetLogObjects", pb.GetLogObjectsRequest(paths=[slipped])),
            ("ListLogObjects", pb.ListLogObjectsRequest(prefix=slipped)),
            ("ListLogObjects", pb.ListLogObjectsRequest(prefix="tile/", after=slipped)),
            ("GetVersion", pb.GetVersionRequest(version=slipped)),
            ("GetRequest", pb.GetRequestRequest(request=slipped)),
            ("ListVersions", pb.ListVersionsRequest(page_token=slipped)),
            ("ListRequests", pb.ListRequestsRequest(page_token=slipped)),
            ("ListRequests", pb.ListRequestsRequest(filter=slipped)),
            ("CloseSession", pb.CloseSessionRequest(session=slipped)),
            ("Locate", pb.LocateRequest(session=slipped)),
            ("RegisterVersion", pb.RegisterVersionRequest(manifest=slipped.encode())),
            ("ReleaseShare", pb.ReleaseShareRequest(envelope=slipped.encode(), wrapped=slipped.encode() * 40)),
            ("ReleaseShare", pb.ReleaseShareRequest(wrapped=(slipped.encode() * 99)[:WRAPPED_SHARE])),
        ]
        messages += [(name, pb.Envelope(envelope=slipped.encode())) for name in ("Hello", "Decide", *documents)]
        for name, document in documents.items():
            for changes in (
                {"passphrase": slipped},
                {"nonce": slipped},
                {"deployment": slipped},
                {"reason": slipped + "\0"},
            ):
                lying = malice.sign_json(document, site.signer("dave"), **changes)
                messages.append((name, pb.Envelope(envelope=lying.encode())))
        for name, message in messages:
            with suppress(grpc.RpcError):
                getattr(stub, name)(message, timeout=20, metadata=(("authorization", f"Bearer {slipped}"),))
        for call in (
            stub.Read(pb.ReadRequest(session=slipped)),
            stub.ReadDigests(pb.ReadDigestsRequest(session=slipped)),
        ):
            with suppress(grpc.RpcError):
                list(call)


def holding(paths: Iterator[Path], needles: list[bytes]) -> list[str]:
    """Which files hold one of the needles."""
    found = []
    for path in paths:
        data = path.read_bytes() if path.is_file() else b""
        found += [f"{path.name}: {needle[:10]!r}" for needle in needles if needle in data]
    return found


def test_the_canaries_sing(site: Site, canaries: Canaries) -> None:
    """The positive control: what people are meant to write is kept where documents are, and found by this search."""
    log = site.directory / "log"
    assert holding((log / "documents").rglob("*"), canaries.spelled(canaries.said))
    assert any(entry.type == "close" and entry.reason == "revoked" for entry in malice.entries(site))


def test_nothing_that_was_said_is_in_an_entry_a_tile_or_the_broker_s_own_log(site: Site, canaries: Canaries) -> None:
    """Leaves cannot be redacted, and logs are read by others than documents."""
    needles = canaries.spelled(canaries.said, canaries.slipped, canaries.plain, *canaries.keys)
    assert not [entry for entry in malice.entries(site) if any(needle in entry.encode() for needle in needles)]
    places = [site.directory / "log/tile", site.directory / "log/checkpoints"]
    assert not holding((path for place in places for path in place.rglob("*")), needles)
    assert not holding(iter([site.directory / "broker.err", site.directory / "witness.err"]), needles)
    site.stop("broker")  # what it says at the end as well
    assert not holding(iter([site.directory / "broker.err"]), needles)
    site.start_broker()


def test_a_passphrase_in_the_wrong_field_is_kept_nowhere(site: Site, canaries: Canaries) -> None:
    assert not holding(site.directory.rglob("*"), canaries.spelled(canaries.slipped))


def test_plaintext_and_keys_are_never_on_a_disk(site: Site, canaries: Canaries) -> None:
    assert not holding(site.directory.rglob("*"), canaries.spelled(canaries.plain, *canaries.keys))


def test_no_process_may_dump_core(site: Site) -> None:
    for process in site.processes.values():
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        (core,) = [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core file size")]
        assert core == ["0", "0"]  # and it cannot be raised again
