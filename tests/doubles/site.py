"""What the parties of a deployment say to it: signed documents as they make them, sent or not."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from custody.adapters.store import open_store
from custody.adapters.surroundings import Surroundings
from custody.app.into_store import IntoStore
from custody.app.sealing import Sealed, Sealing, seal
from custody.app.source import scan
from custody.crypto import hpke, keys
from custody.crypto.secret import SecretBytes
from custody.crypto.sodium import random_into
from custody.documents.actor import Person, Workload
from custody.documents.decision import Decision, Verdict
from custody.documents.dsse import Document, Envelope, sign
from custody.documents.hello import Hello
from custody.documents.release import Recipient, Release, ReleaseKey
from custody.documents.request import Request, ranges_of
from custody.documents.session import OpenSession
from custody.documents.sharing import Sharing
from custody.documents.stop import Stop
from custody.documents.terms import Terms
from custody.ports import Store
from custody.values import U64, Time
from custody.wire.calls import Calls
from custody.wire.messages import OpenReply, RequestReply
from custody.wire.tls import TlsFiles
from tests.doubles.deployment import (
    DEPLOYMENT,
    DOMAIN,
    JOB,
    PERSONS,
    VERSION,
    Deployment,
    DeviceSigner,
    children,
    impatient,
    now,
    rng,
    write_model,
)

__all__ = [
    "DEPLOYMENT",
    "DOMAIN",
    "JOB",
    "PERSONS",
    "VERSION",
    "DeviceSigner",
    "Site",
    "WorkloadSigner",
    "children",
    "impatient",
    "now",
    "rng",
    "swapped",
    "write_model",
]


def swapped(text: str, old: str, new: str) -> str:
    """Put one text in the place of another that must be there."""
    assert old in text
    return text.replace(old, new)


@dataclass
class WorkloadSigner:
    """A workload's SVID as documents know it."""

    tls: TlsFiles

    @property
    def key_id(self) -> str:
        import hashlib

        return hashlib.sha256(self.tls.chain()[0]).hexdigest()

    def sign(self, message: bytes) -> bytes:
        key = serialization.load_pem_private_key(self.tls.key.read_bytes(), None)
        return keys.sign_svid(key, message)  # type: ignore[arg-type]


@dataclass
class Site(Deployment):
    """A deployment, and everybody who speaks to it. ``bucket`` is the URL of an S3 store, where it is no directory."""

    bucket: str = ""

    def calls(self, who: str) -> Calls:
        """A connection as a person (by id) or as ``job``."""
        return Calls(self.address, "broker-1.custody", self.tls(f"tls/{who}"))

    def job_signer(self, folder: str = "tls/job") -> WorkloadSigner:
        return WorkloadSigner(self.tls(folder))

    def workload(self, identity: str = JOB, folder: str = "tls/job") -> Workload:
        return Workload(spiffe=identity, x5c=self.tls(folder).chain())

    def seal(self, source: Path, version: str = VERSION, *, segment: int = 1 << 16, sealer: str = "dave") -> Sealed:
        return seal(
            Sealing(
                version=version,
                files=scan(source),
                sealer=Person(person=sealer),
                signer=self.signer(sealer),
                segment=segment,
            ),
            root=self.root,
            target=IntoStore(self.store(), version),
            rng=rng,
            random_into=random_into,
            clock=now,
        )

    def store(self) -> Store:
        """The store of this deployment, as whoever may write it has it."""
        return self._store

    @cached_property
    def _store(self) -> Store:
        return open_store(self.bucket or (self.directory / "store").resolve().as_uri(), Surroundings.real())

    def __exit__(self, *rest: object) -> None:
        super().__exit__(*rest)
        if "_store" in self.__dict__:
            store: Any = self._store  # each kind can be closed
            store.close()

    def configure(self, change: Callable[[str], str] | None = None) -> Path:
        if not self.bucket:
            return super().configure(change)
        given = change or self.change_config
        return super().configure(lambda text: given(swapped(text, 'url = "file:../store"', f'url = "{self.bucket}"')))

    def register(self, sealed: Sealed) -> None:
        with self.calls("dave") as calls:
            calls.register_version(sealed.manifest.encode())

    def request(self, sealed: Sealed, **changes: object) -> Envelope:
        """A signed request of dave for the job; not sent."""
        content = sealed.content
        count = len(content.files)
        fields: dict[str, object] = {
            "deployment": DEPLOYMENT,
            "kind": "open",
            "requester": Person(person="dave"),
            "beneficiary": JOB,
            "version": content.version,
            "content": sealed.manifest.content.digest,
            "files": ranges_of(set(range(count))),
            "purpose": "serving",
            "not_before": Time(now() - 60),
            "open_before": Time(now() + 3600),
            "duration": U64(3600),
            "sessions": U64(2),
            "bytes": U64(max(1, 2 * content.size)),
            "mode": "stream",
            "reason": "a test",
            "ticket": "",
            "created": Time(now()),
            "nonce": rng(32).hex(),
            "lifts": (),
            "roster": None,
        }
        fields.update(changes)
        who = fields["requester"]
        signer = self.signer(who.person) if isinstance(who, Person) else self.job_signer()
        return sign(Request(**fields), [signer])  # type: ignore[arg-type]

    def decide(
        self, view: RequestReply, person: str, verdict: Verdict = "approve", **changes: object
    ) -> tuple[Envelope, Envelope, bytes]:
        """Decision, release and wrapped share of a person for a request; not sent."""
        terms = next(item for item in view.envelopes if item.payloadType == Terms.payload_type)
        key = [item for item in view.envelopes if item.payloadType == ReleaseKey.payload_type][-1]
        request = next(item for item in view.envelopes if item.payloadType == Request.payload_type).document(Request)
        with self.calls(person) as calls:
            version = calls.get_version(request.version)
        sharing = version.sharing.document(Sharing)
        slot = sharing.slot_of(person)
        assert slot is not None
        fields: dict[str, object] = {
            "deployment": DEPLOYMENT,
            "request": view.request,
            "terms": terms.digest,
            "sharing": version.sharing.digest,
            "root": self.roots[-1].digest,
            "person": person,
            "slot": slot,
            "verdict": verdict,
            "note": "",
            "issued": Time(now()),
            "expires": Time(now() + 3600),
        }
        fields.update(changes)
        decision = sign(Decision(**fields), [self.signer(person)])  # type: ignore[arg-type]
        wrap = version.wraps[0]
        unlocked = self.keys[person]
        with SecretBytes(32) as y:
            info = hpke.wrap_info(bytes.fromhex(version.sharing.digest), slot.group, slot.index, unlocked.key_id)
            hpke.open_into(unlocked.xwing_seed, info, wrap.wrapped, y)
            wrapped = hpke.seal(
                key.document(ReleaseKey).xwing,
                hpke.release_info(
                    bytes.fromhex(view.request),
                    bytes.fromhex(terms.digest),
                    bytes.fromhex(key.digest),
                    bytes.fromhex(version.sharing.digest),
                    slot.group,
                    slot.index,
                    unlocked.key_id,
                ),
                y.view,
            )
        return decision, self.release(view, person, terms.digest, key, version.sharing.digest, slot, wrapped), wrapped

    def release(  # noqa: PLR0917 - what a release binds
        self, view: RequestReply, person: str, terms: str, key: Envelope, sharing: str, slot: object, wrapped: bytes
    ) -> Envelope:
        import hashlib

        document = Release(
            deployment=DEPLOYMENT,
            request=view.request,
            terms=terms,
            sharing=sharing,
            person=person,
            slot=slot,  # type: ignore[arg-type]
            recipients=(
                Recipient(broker="broker-1", release_key=key.digest, wrapped=hashlib.sha256(wrapped).hexdigest()),
            ),
            issued=Time(now()),
        )
        return sign(document, [self.signer(person)])

    def release_of(self, view: RequestReply, person: str, wrapped: bytes) -> Envelope:
        """A release by a person of whatever bytes are given, for the request's terms and newest release key."""
        key = [item for item in view.envelopes if item.payloadType == ReleaseKey.payload_type][-1]
        with self.calls(person) as calls:
            request = next(item for item in view.envelopes if item.payloadType == Request.payload_type)
            version = calls.get_version(request.document(Request).version)
        slot = version.sharing.document(Sharing).slot_of(person)
        return self.release(view, person, self.lease_of(view), key, version.sharing.digest, slot, wrapped)

    @staticmethod
    def time(seconds: int) -> Time:
        """So many seconds from now."""
        return Time(now() + seconds)

    def approve(self, view: RequestReply, *persons: str) -> RequestReply:
        """Each person approves and releases; returns the view afterwards."""
        for person in persons:
            decision, release, wrapped = self.decide(view, person)
            with self.calls(person) as calls:
                calls.decide(decision)
                calls.release_share(release, wrapped)
                view = calls.get_request(view.request)
        return view

    def granted(self, sealed: Sealed, **changes: object) -> tuple[RequestReply, str]:
        """A request that alice and bob approved, and its lease id."""
        with self.calls("dave") as calls:
            view = calls.submit_request(self.request(sealed, **changes))
        view = self.approve(view, "alice", "bob")
        assert view.phase == "granted", view
        return view, self.lease_of(view)

    def lease_of(self, view: RequestReply) -> str:
        return next(item for item in view.envelopes if item.payloadType == Terms.payload_type).digest

    def open_document(self, lease: str, files: set[int], size: int, **changes: object) -> Envelope:
        fields: dict[str, object] = {
            "deployment": DEPLOYMENT,
            "lease": lease,
            "files": ranges_of(files),
            "bytes": U64(size),
            "nonce": rng(32).hex(),
            "xwing": None,
            "workload": self.workload(),
            "issued": Time(now()),
        }
        folder = str(changes.pop("folder", "tls/job"))
        fields.update(changes)
        return sign(OpenSession(**fields), [self.job_signer(folder)])  # type: ignore[arg-type]

    def open(self, calls: Calls, sealed: Sealed, lease: str) -> OpenReply:
        size = max(1, sealed.content.size)
        return calls.open_session(self.open_document(lease, set(range(len(sealed.content.files))), size))

    def read(self, calls: Calls, session: str, file: int = 0) -> bytes:
        return b"".join(piece.data for piece in calls.read(session, file))

    def stop_document(self, person: str, action: str, target: str) -> Envelope:
        return self.sign_as(
            person,
            Stop(
                deployment=DEPLOYMENT,
                action=action,  # type: ignore[arg-type]
                target=target,
                actor=Person(person=person),
                reason="a test",
                nonce=rng(32).hex(),
                issued=Time(now()),
            ),
        )

    def hello(self, person: str) -> Envelope:
        return self.sign_as(
            person,
            Hello(deployment=DEPLOYMENT, nonce=rng(32).hex(), actor=Person(person=person), issued=Time(now())),
        )

    def sign_as(self, person: str, document: Document) -> Envelope:
        return sign(document, [self.signer(person)])
