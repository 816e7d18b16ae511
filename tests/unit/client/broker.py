"""A broker over a world, for jobs: the calls that a client makes, without a network, with real plaintext and digests.

Honest as it stands: every session and stop is judged by the rules and logged, and bytes are charged. ``lie`` replaces a
call; ``breaks`` ends streams after so many pieces; ``restart`` loses what a broker's process holds.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import shake_256
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from custody.adapters.surroundings import Surroundings
from custody.client.custody import Custody
from custody.client.leases import Lease
from custody.client.settings import Settings
from custody.crypto.digests import digest, segment_digest
from custody.crypto.secret import SecretBytes
from custody.documents.content import Content, File
from custody.documents.dsse import Envelope
from custody.documents.request import Request, indexes
from custody.documents.session import OpenSession
from custody.documents.stop import Stop
from custody.entries.receipt import Receipt
from custody.errors import DeniedError, NotFoundError, UnavailableError
from custody.segments.layout import FilePlan
from custody.values import U64
from custody.wire.messages import OpenReply, RequestReply, VersionReply
from custody.wire.tls import TlsFiles
from custody.wire.v1 import broker_pb2 as pb
from tests.doubles.actors import Workload
from tests.doubles.case import Case
from tests.doubles.world import World
from tests.unit.custodian.logged import Published

__all__ = ["FILES", "NAME", "SEGMENT", "Broker", "Clock", "write_tls"]

NAME = "demo/tiny@1"
SEGMENT = 4096
FILES = {"config.json": 700, "empty": 0, "weights/0.bin": 3 * SEGMENT + 17, "weights/1.bin": 2 * SEGMENT}


class Clock:
    """Time that passes when somebody sleeps, for a world as well."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.passed = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.passed

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.passed += seconds

    def surroundings(self) -> Surroundings:
        return Surroundings(
            clock=lambda: self.world.now + int(self.passed),
            rng=self.world.rng,
            monotonic=self.monotonic,
            sleep=self.sleep,
        )


@dataclass
class Live:
    """One session at the broker."""

    files: frozenset[int]
    left: int
    served: dict[int, int] = field(default_factory=dict)


class Broker:
    """The broker's side of one lease."""

    def __init__(
        self, directory: Path, *, granted: bool = True, files: Mapping[str, bytes] | None = None, **changes: Any
    ) -> None:
        self.world = World()
        self.log = Published(self.world)
        self.clock = Clock(self.world)
        files = files or {name: shake_256(name.encode()).digest(size) for name, size in FILES.items()}
        self.plain = dict(sorted(files.items()))
        self.keys = [self.world.rng(32) for _ in self.plain]
        self.lists: list[bytes] = []
        self.content = self._seal()
        self.job = self.world.job()
        self.tls = write_tls(self.job, directory)
        size = sum(map(len, self.plain.values()))
        wanted: dict[str, Any] = {"bytes": U64(3 * size)}
        self.case = self.world.file(NAME, self.job, **(wanted | changes))
        if granted:
            self.grant()
        self.sessions: dict[str, Live] = {}
        self.breaks: list[int] = []
        self.connections = 0
        self.closed = 0
        self.asked: list[str] = []

    def grant(self) -> None:
        """Let alice and bob approve, release, and the key be rebuilt."""
        for person in ("alice", "bob"):
            self.case.decide(person)
        self.case.grant()
        self.unlock()

    def unlock(self) -> None:
        """Let custodians send their shares, and the broker open the lease."""
        self.case.open()

    def restart(self, *, shares: bool = True) -> None:
        """Lose everything in memory; with ``shares`` custodians send theirs again at once."""
        self.sessions.clear()
        self.case.close("broker-lost")
        self.case.key = self.case.make_key()
        self.case.log_key(self.case.key)
        if shares:
            self.unlock()

    def custody(self, **settings: Any) -> Custody:
        """A program of the job."""
        return Custody(self.settings(), around=self.clock.surroundings(), connect=self.connect, **settings)

    def lease(self) -> Lease:
        """The granted lease."""
        return self.custody().lease(self.case.digest)

    def settings(self) -> Settings:
        return Settings(self.world.deployment, self.world.genesis.digest, "broker:1", "broker", self.tls)

    def connect(self, settings: Settings, now: int) -> Any:
        del settings, now
        self.connections += 1
        return self

    def close(self) -> None:
        self.closed += 1

    def lie(self, name: str, does: Callable[..., Any]) -> None:
        """Do something else from now on when this method is called."""
        setattr(self, name, does)

    # -- Calls

    def get_roots(self) -> list[tuple[Envelope, Receipt]]:
        return self.log.roots()

    def get_version(self, version: str) -> VersionReply:
        if version not in self.world.state.versions:
            raise NotFoundError(f"there is no version {version}")
        return self.log.version(version)

    def submit_request(self, envelope: Envelope) -> RequestReply:
        if envelope.digest not in self.world.state.requests:
            request = envelope.document(Request)
            who = self.job if request.requester == self.job.actor else "frank"
            self.case = Case.of(self.world, request.version, who)
            self.case.request = envelope
            self.case.terms, self.case.key = self.case.make_terms(), self.case.make_key()
            self.case.log_request()
        return self.get_request(envelope.digest)

    def get_request(self, request: str, *, seen: int = 0, wait_seconds: int = 0) -> RequestReply:
        if request != self.case.digest:
            raise NotFoundError(f"there is no request {request[:16]}")
        reply = self.log.view(self.case)
        if wait_seconds and len(reply.receipts) <= seen:
            self.clock.passed += wait_seconds
        return replace(reply, bytes_spent=self.case.found.spent)

    def list_requests(
        self, *, closed: bool = False, page_token: str = "", page_size: int = 50
    ) -> tuple[list[RequestReply], str]:
        del closed, page_token, page_size
        return [self.get_request(self.case.digest)], ""

    def stop(self, envelope: Envelope) -> Receipt:
        self.asked.append("stop")
        stop = envelope.document(Stop)
        who: Any = self.job if stop.actor == self.job.actor else getattr(stop.actor, "person", "")
        entry = self.case.log_stop(envelope, who)
        self.sessions.clear()
        return self.log.receipt_of(entry)

    def open_session(self, envelope: Envelope) -> OpenReply:
        self.asked.append("open")
        document = envelope.document(OpenSession)
        self.case.log_session(envelope, self.job)
        entry = self.world.log.entries[-1]
        files = frozenset(indexes(document.files))
        self.sessions[envelope.digest] = Live(files, int(document.bytes))
        content = self.world.log.envelopes[self.case.version.content_envelope]
        keys = {index: self.keys[index] for index in files}
        return OpenReply(envelope.digest, self.log.receipt_of(entry), content, keys)

    def read_digests(self, session: str, file: int, size: int) -> bytes:
        self._session(session)
        return self.lists[file]

    def read_within(self, session: str, file: int, first: int, count: int, size: int) -> Iterator[pb.Segment]:
        """Two pieces to a segment."""
        del size
        left = self.breaks.pop(0) if self.breaks else -1
        plan = FilePlan.of(self.content, file)
        data = list(self.plain.values())[file]
        for i in range(first, first + count):
            where = plan.locate(i)
            live = self._session(session)
            if where.length > live.left:
                raise DeniedError(f"byte budget: {where.length} more asked, {live.left} left in this session")
            live.left -= where.length
            live.served[file] = live.served.get(file, 0) + where.length
            half = where.length // 2 + 1
            for begin in range(0, where.length, half):
                if left == 0:
                    raise UnavailableError("the connection broke")
                left -= 1
                end = min(begin + half, where.length)
                yield pb.Segment(segment=i, offset=begin, data=data[where.offset + begin : where.offset + end])

    def close_session(self, session: str, *, deadline: float = 30.0) -> Receipt:
        live = self._session(session)
        del self.sessions[session]
        return self.log.receipt_of(self.case.end(session, *sorted(live.served.items())))

    def _session(self, session: str) -> Live:
        if session not in self.sessions:
            raise DeniedError("there is no such session", hint="open a session of the lease again")
        return self.sessions[session]

    def _seal(self) -> Content:
        """Seal what the files say, so that the digest lists are those of the plaintext."""
        drafts = self.world.content(NAME)
        files = []
        for index, (path, data) in enumerate(self.plain.items()):
            plan = FilePlan(bytes.fromhex(drafts.vid), index, len(data), SEGMENT, path)
            with SecretBytes.take(bytearray(self.keys[index])) as key:
                listed = b"".join(
                    segment_digest(key, i, data[plan.locate(i).offset : plan.locate(i).offset + plan.locate(i).length])
                    for i in range(plan.count)
                )
            self.lists.append(listed)
            files.append(
                File(
                    path=path,
                    size=U64(len(data)),
                    ciphertext=self.world.rng(32).hex(),
                    digests=digest([listed]).hex(),
                )
            )
        content = msgspec.structs.replace(drafts, segment=U64(SEGMENT), files=tuple(files))
        sharing = self.world.sharing(content)
        self.world.log_manifest(self.world.sign(content, "sam"), self.world.sign(sharing, "sam"))
        return content


def write_tls(job: Workload, directory: Path) -> TlsFiles:
    """Write a workload's certificate and key as files; the CA file is there and of no use."""
    directory.mkdir(parents=True, exist_ok=True)
    certificate, key, ca = directory / "tls.crt", directory / "tls.key", directory / "ca.pem"
    pem = [x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in job.chain]
    certificate.write_bytes(b"".join(pem))
    key.write_bytes(job.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    ca.write_bytes(pem[-1])
    return TlsFiles(certificate, key, ca)
