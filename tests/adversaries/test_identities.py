"""Who calls, and who signed: certificates of other authorities, other shapes, other times."""

import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import pytest
from msgspec.structs import replace

from custody.app.ca import Authority, create_authority
from custody.app.sealing import Sealed
from custody.documents.actor import Workload
from custody.documents.dsse import sign
from custody.documents.session import OpenSession
from custody.errors import CustodyError, DeniedError, IntegrityError, NotFoundError, UnavailableError
from custody.wire.calls import Calls
from custody.wire.tls import TlsFiles
from custody.wire.v1 import broker_pb2 as pb
from custody.wire.v1.broker_pb2_grpc import BrokerStub
from tests.doubles import malice
from tests.doubles.documents import documents_in
from tests.doubles.site import DOMAIN, JOB, Site, WorkloadSigner, now

PERSON = f"spiffe://{DOMAIN}/person/alice"


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA that claims the same trust domain and that nobody trusts."""
    return create_authority(tmp_path_factory.mktemp("ca") / "ca", DOMAIN, now())


def connect(site: Site, files: TlsFiles) -> Calls:
    """Speak with any certificate; the broker's own is verified against the true CA."""
    return Calls(
        site.address, "broker-1.custody", TlsFiles(files.certificate, files.key, site.directory / "keys/ca.pem")
    )


@dataclass
class Mixed(WorkloadSigner):
    """Shows one certificate and signs with the key of another."""

    other: TlsFiles

    def sign(self, message: bytes) -> bytes:
        return WorkloadSigner(self.other).sign(message)


REFUSED = "UNAUTHENTICATED: not permitted"
NO_HANDSHAKE = "cannot be reached"


@pytest.mark.parametrize(
    ("uris", "times", "match"),
    [
        pytest.param([JOB], (-7200, -60), NO_HANDSHAKE, id="expired"),
        pytest.param([JOB], (3600, 7200), NO_HANDSHAKE, id="not yet valid"),
        pytest.param([JOB, PERSON], (-60, 3600), REFUSED, id="two URI names"),
        pytest.param([JOB, JOB], (-60, 3600), REFUSED, id="one URI name twice"),
        pytest.param([], (-60, 3600), REFUSED, id="no URI name"),
        pytest.param(["spiffe://staging.example.org/job/serving"], (-60, 3600), REFUSED, id="another trust domain"),
        pytest.param([f"spiffe://{DOMAIN}.evil.example/job"], (-60, 3600), REFUSED, id="a domain that begins the same"),
        pytest.param([f"spiffe://{DOMAIN}"], (-60, 3600), REFUSED, id="no path"),
        pytest.param([f"spiffe://{DOMAIN}/job/../person/alice"], (-60, 3600), REFUSED, id="dots in the path"),
        pytest.param([f"https://{DOMAIN}/job/serving"], (-60, 3600), REFUSED, id="no SPIFFE ID"),
    ],
)
def test_a_certificate_that_is_nobodys(
    site: Site, tmp_path: Path, uris: list[str], times: tuple[int, int], match: str
) -> None:
    with connect(site, malice.certificate(site.authority, tmp_path / "honest", [JOB])) as calls:
        calls.list_versions()
    begin, end = times
    with connect(site, malice.certificate(site.authority, tmp_path / "lying", uris, begin=begin, end=end)) as calls:
        refused(calls, match)


def test_the_right_name_from_another_ca(site: Site, stranger: Authority, tmp_path: Path) -> None:
    with connect(site, malice.certificate(stranger, tmp_path / "lying", [JOB])) as calls:
        refused(calls, NO_HANDSHAKE)


def refused(calls: Calls, match: str) -> None:
    """The call fails, and the stranger learns nothing."""
    with pytest.raises(UnavailableError, match=match) as caught:
        calls.list_versions()
    assert DOMAIN not in caught.value.message


def test_no_client_certificate(site: Site) -> None:
    credentials = grpc.ssl_channel_credentials((site.directory / "keys/ca.pem").read_bytes())
    options = [("grpc.ssl_target_name_override", "broker-1.custody")]
    with grpc.secure_channel(site.address, credentials, options) as channel, pytest.raises(grpc.RpcError) as caught:
        BrokerStub(channel).ListVersions(pb.ListVersionsRequest(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with grpc.insecure_channel(site.address) as channel, pytest.raises(grpc.RpcError) as caught:
        BrokerStub(channel).ListVersions(pb.ListVersionsRequest(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_connection_that_a_collector_reads_one_day(site: Site) -> None:
    """Our clients agree on keys with X25519 and ML-KEM-768 together. Who offers only an elliptic curve is refused."""
    with site.calls("job") as calls:
        calls.list_versions()
    files = site.tls("tls/job")
    context = ssl.create_default_context(cafile=str(site.directory / "keys/ca.pem"))
    context.load_cert_chain(files.certificate, files.key)
    context.set_alpn_protocols(["h2"])
    context.set_ecdh_curve("prime256v1")  # this one, and no other
    host, _, port = site.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="broker-1.custody") as wrapped,
    ):
        wrapped.sendall(http2_call("/custody.v1.Broker/ListVersions", "broker-1.custody"))
        heard = b""
        while b"grpc-status" not in heard and (more := wrapped.recv(1 << 14)):
            heard += more
    assert b"TLS without a hybrid key exchange" in heard


def http2_call(path: str, authority: str) -> bytes:
    """A whole call with an empty message, as RFC 9113 and RFC 7541 have it: no library for this test's sake."""
    fields = {
        ":method": "POST",
        ":scheme": "https",
        ":path": path,
        ":authority": authority,
        "content-type": "application/grpc",
        "te": "trailers",
    }
    block = b"".join(b"\x00" + bytes([len(k)]) + k.encode() + bytes([len(v)]) + v.encode() for k, v in fields.items())

    def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
        return len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body

    settings, headers, data = frame(4, 0, 0, b""), frame(1, 4, 1, block), frame(0, 1, 1, bytes(5))
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + headers + data


def test_a_broker_that_another_ca_vouches_for(site: Site, stranger: Authority, tmp_path: Path) -> None:
    """The client's side: a server with the broker's name and a stranger's certificate is not spoken to."""
    stranger.issue(f"spiffe://{DOMAIN}/broker/broker-1", tmp_path / "tls", hours=1, dns=["broker-1.custody"], now=now())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls/tls.crt", tmp_path / "tls/tls.key")
    context.set_alpn_protocols(["h2"])
    heard: list[bytes] = []

    def serve(server: socket.socket) -> None:
        raw, _ = server.accept()
        with raw, suppress(OSError):
            heard.append(context.wrap_socket(raw, server_side=True).recv(1))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        with Calls(f"127.0.0.1:{server.getsockname()[1]}", "broker-1.custody", site.tls("tls/job")) as calls:
            refused(calls, NO_HANDSHAKE)
        thread.join()
    assert not heard


def test_an_open_document_signed_with_another_certificate(
    site: Site, sealed: Sealed, stranger: Authority, tmp_path: Path
) -> None:
    """TLS says who carries; the document says who acts. Both must be the beneficiary, and the chain must hold."""
    _, lease = site.granted(sealed)
    honest = site.open_document(lease, {0, 1}, 100)
    document = honest.document(OpenSession)

    def send(files: TlsFiles, identity: str = JOB, key: TlsFiles | None = None) -> None:
        actor = Workload(spiffe=identity, x5c=files.chain())
        signer = WorkloadSigner(files) if key is None else Mixed(files, key)
        with site.calls("job") as job:
            job.open_session(sign(replace(document, workload=actor), [signer]))

    issue = partial(malice.certificate, site.authority)
    for files, error, match in (
        (malice.certificate(stranger, tmp_path / "a", [JOB]), IntegrityError, "does not verify"),
        (issue(tmp_path / "b", [JOB], begin=-7200, end=-60), IntegrityError, "it expired at"),
        (issue(tmp_path / "c", [JOB, PERSON]), CustodyError, "2 URI names"),
        (site.tls("tls/alice"), IntegrityError, "the certificate is not that of"),
    ):
        with pytest.raises(error, match=match):
            send(files)
    with pytest.raises(DeniedError, match="another workload"):
        send(site.tls("tls/alice"), PERSON)
    with pytest.raises(IntegrityError, match="does not verify"):
        send(site.tls("tls/job"), key=site.tls("tls/alice"))
    with site.calls("alice") as alice, pytest.raises(DeniedError, match="another workload"):
        alice.open_session(honest)  # stolen on the way, and carried by somebody else
    with site.calls("job") as job:
        assert job.open_session(honest).session


def test_another_job_sees_and_gets_nothing(site: Site, sealed: Sealed, tmp_path: Path) -> None:
    view, lease = site.granted(sealed)
    with site.calls("job") as job:
        session = site.open(job, sealed, lease).session
        other = malice.certificate(site.authority, tmp_path / "other", [f"{JOB}-2"])
        with connect(site, other) as thief:
            with pytest.raises(NotFoundError, match="no request"):
                thief.get_request(view.request)
            assert thief.list_requests(closed=True) == ([], "")
            for act in (
                lambda: list(thief.read(session, 0)),
                lambda: thief.read_digests(session, 0, 1 << 20),
                lambda: thief.close_session(session),
            ):
                with pytest.raises(DeniedError, match="no such session"):
                    act()
        assert site.read(job, session, 0)


def test_a_workload_reads_no_more_of_the_log_than_concerns_it(site: Site, sealed: Sealed, tmp_path: Path) -> None:
    """Checkpoints and hashes; of documents those of its own requests, and no entries. Persons read all of it."""
    view, _ = site.granted(sealed)
    own = [f"documents/{envelope.envelope_digest}" for envelope in view.envelopes]
    hidden = {path.relative_to(site.directory / "log").as_posix() for path in (site.directory / "log").rglob("*")}
    documents = sorted(f"documents/{digest}" for digest in documents_in(site.directory / "log"))
    tiles = [path for path in hidden if path.startswith("tile/") and (site.directory / "log" / path).is_file()]
    bundles = [path for path in tiles if path.startswith("tile/entries/")]
    behind = [path for path in hidden if path.startswith("documents/0") and (site.directory / "log" / path).is_file()]
    hashes = [path for path in tiles if path not in bundles]
    assert hashes
    assert set(own) < set(documents)
    assert behind
    files = malice.certificate(site.authority, tmp_path / "tls", [f"spiffe://{DOMAIN}/job/curious"])
    with connect(site, files) as curious, site.calls("job") as job, site.calls("olga") as auditor:
        for calls in (curious, job):
            # What others were refused before may be published between two looks; then nothing more comes.
            looks = ((calls.get_log_object("checkpoint"), auditor.get_log_object("checkpoint")) for _ in range(20))
            assert any(one == other for one, other in looks)
            for path in hashes:
                assert calls.get_log_object(path) == auditor.get_log_object(path)
            for path in bundles + behind:
                with pytest.raises(NotFoundError, match="no such object"):
                    calls.get_log_object(path)
            with pytest.raises(DeniedError, match="only persons"):
                calls.get_log_objects(["checkpoint"])
            with pytest.raises(DeniedError, match="only persons"):
                calls.list_log_objects("checkpoints/")
        assert set(tiles) <= set(auditor.list_log_objects("tile/"))
        assert set(behind) <= set(auditor.list_log_objects("documents/"))
        for path in documents:
            assert auditor.get_log_object(path)
            with pytest.raises(NotFoundError, match="no such object"):
                curious.get_log_object(path)
        for path in own:
            assert job.get_log_object(path) == auditor.get_log_object(path)
        root = f"documents/{site.root_envelope.envelope_digest}"
        with pytest.raises(NotFoundError, match="no such object"):
            job.get_log_object(root)


def test_what_the_log_has_lost_is_not_answered_from_the_ledger(site: Site, sealed: Sealed) -> None:
    """An auditor would take the log for whole, until the ledger's copy is pruned."""
    site.granted(sealed)
    path = f"documents/{site.root_envelope.envelope_digest}"
    lost = site.directory / "log" / path
    with site.calls("olga") as auditor:
        kept = auditor.get_log_object(path)
        lost.rename(lost.with_suffix(".away"))
        try:
            with pytest.raises(NotFoundError):
                auditor.get_log_object(path)
            assert auditor.get_log_objects([path, "checkpoint"])[0] is None
        finally:
            lost.with_suffix(".away").rename(lost)
        assert auditor.get_log_object(path) == kept


def test_the_hourly_rotated_key_of_the_same_identity_is_accepted(
    site: Site, sealed: Sealed, source: Path, tmp_path: Path
) -> None:
    _, lease = site.granted(sealed)
    with site.calls("job") as job:
        session = site.open(job, sealed, lease).session
        rotated = malice.certificate(site.authority, tmp_path / "rotated", [JOB])
        with connect(site, rotated) as later:
            assert site.read(later, session, 1) == (source / "weights.bin").read_bytes()
        assert site.read(job, session, 0) == (source / "config.json").read_bytes()


def test_a_new_certificate_of_the_broker_is_picked_up_while_it_runs(site: Site) -> None:
    def serial() -> bytes | None:
        context = ssl.create_default_context(cafile=site.directory / "keys/ca.pem")
        context.load_cert_chain(site.tls("tls/job").certificate, site.tls("tls/job").key)
        context.set_alpn_protocols(["h2"])
        host, port = site.address.split(":")
        with (
            socket.create_connection((host, int(port))) as raw,
            context.wrap_socket(raw, server_hostname="broker-1.custody") as connection,
        ):
            return connection.getpeercert(binary_form=True)

    before = serial()
    assert serial() == before
    tls = site.directory / "broker/tls"
    (tls / "tls.crt").write_text("half a certificate")  # a renewal gone wrong keeps the old one in use
    assert serial() == before
    site.issue(f"spiffe://{DOMAIN}/broker/broker-1", "broker/tls", dns=("broker-1.custody",))
    assert serial() != before
    with site.calls("job") as job:
        assert job.list_versions() is not None
