"""What attackers make with lawful means: a sealer without scruples, somebody with all keys of a version, a CA.

Everything is well formed and well signed; only what it says is wrong.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from custody.app.ca import Authority
from custody.app.sealing import Sealed
from custody.crypto import hpke, schedule
from custody.crypto.floe import HEADER_SIZE, Encryptor, Params
from custody.crypto.secret import SecretBytes
from custody.crypto.sharing import Group, Share, recover
from custody.documents.dsse import Document, Envelope, Signature, Signer, pae, sign
from custody.documents.manifest import Manifest, Wrap
from custody.documents.sharing import Sharing, Slot
from custody.entries.entry import Entry
from custody.segments.layout import FilePlan
from custody.wire.tls import TlsFiles
from tests.doubles.site import DEPLOYMENT, Site, now, rng

__all__ = [
    "Stored",
    "certificate",
    "entries",
    "forge",
    "reseal",
    "shares_of",
    "sign_json",
    "sign_raw",
    "stored",
    "version_key",
]


class Stored:
    """A blob of a version, as whoever can write the store has it: a file, or an object of a bucket."""

    def __init__(self, site: Site, sealed: Sealed, name: str) -> None:
        self.key = f"versions/{sealed.content.vid}/{name}"
        self._store = site.store()
        self._path = None if site.bucket else site.directory / "store" / self.key

    @property
    def path(self) -> Path:
        """The file itself."""
        if self._path is None:
            raise ValueError("an object is no file")
        return self._path

    def read(self) -> bytes:
        return self._store.get(self.key)

    def write(self, data: bytes) -> None:
        """Put other bytes there: in the same file, or as the object's next version."""
        if self._path is None:
            self._store.put(self.key, data)
            return
        if self._path.is_symlink() or not self._path.is_file():
            self._path.unlink(missing_ok=True)
        self._path.write_bytes(data)

    def remove(self) -> None:
        self._store.delete(self.key)


def stored(site: Site, sealed: Sealed, name: str) -> Stored:
    """Return a blob of a version."""
    return Stored(site, sealed, name)


def entries(site: Site) -> list[Entry]:
    """Every entry of the ledger, by another process than the broker."""
    with closing(sqlite3.connect(f"file:{site.directory / 'broker/ledger.sqlite'}?mode=ro", uri=True)) as database:
        return [Entry.parse(row) for (row,) in database.execute("SELECT entry FROM entries ORDER BY idx")]


def shares_of(site: Site, sealed: Sealed) -> dict[Slot, bytes]:
    """Every share of a version: what a full quorum of colluding custodians has, and a sealer had."""
    digest = bytes.fromhex(sealed.manifest.sharing.digest)
    found = {}
    for slot, holder in sealed.sharing.slots().items():
        key = site.keys[holder.person]
        (wrap,) = [wrap for wrap in sealed.manifest.wraps if wrap.slot == slot and wrap.device == key.key_id.hex()]
        with SecretBytes(32) as y:
            hpke.open_into(key.xwing_seed, hpke.wrap_info(digest, slot.group, slot.index, key.key_id), wrap.wrapped, y)
            found[slot] = bytes(y.view)
    return found


def version_key(site: Site, sealed: Sealed) -> SecretBytes:
    """K, for those who kept it although they should not have."""
    groups = [Group(group.threshold, len(group.slots)) for group in sealed.sharing.groups]
    with ExitStack() as stack:
        shares = [
            Share(slot.group, slot.index, stack.enter_context(SecretBytes.take(bytearray(y))))
            for slot, y in shares_of(site, sealed).items()
        ]
        with recover(shares, groups) as s:
            return schedule.version_key(s, bytes.fromhex(sealed.content.vid), DEPLOYMENT, sealed.content.version)


def forge(site: Site, sealed: Sealed, file: int, i: int, word: bytes) -> bytes:
    """A stored file in which segment ``i`` repeats ``word``. Whoever kept the file key can make it: its tag is good."""
    plan = FilePlan.of(sealed.content, file)
    data = bytearray(stored(site, sealed, f"{file}.floe").read())
    header, where = bytes(data[:HEADER_SIZE]), plan.locate(i)

    def same_iv(size: int) -> bytes:
        return header[10:42] if size == 32 else rng(size)

    with (
        version_key(site, sealed) as key,
        schedule.file_key(key, file) as secret,
        Encryptor(secret, plan.aad, Params(plan.segment), same_iv) as floe,
    ):
        assert floe.header == header
        plaintext = memoryview((word * (where.length // len(word) + 1))[: where.length])
        out = memoryview(data)[where.stored_offset : where.stored_offset + where.stored_length]
        floe.encrypt_into(i, where.is_final, plaintext, out)
    return bytes(data)


def reseal(
    site: Site,
    sealed: Sealed,
    *,
    sealer: str = "dave",
    content: Mapping[str, Any] | None = None,
    sharing: Mapping[str, Any] | None = None,
    shares: Mapping[Slot, bytes] | None = None,
) -> Sealed:
    """Put another manifest in the place of an unregistered one: fields changed, signed by the sealer, wrapped anew."""
    signer = site.signer(sealer)
    new_content = msgspec.structs.replace(sealed.content, **(content or {}))
    signed = sign(new_content, [signer])
    new_sharing = msgspec.structs.replace(sealed.sharing, **({"content": signed.digest} | dict(sharing or {})))
    shared = sign(new_sharing, [signer])
    wraps = []
    dealt = {**shares_of(site, sealed), **(shares or {})}
    for slot, holder in new_sharing.slots().items():
        key = site.keys[holder.person]
        info = hpke.wrap_info(bytes.fromhex(shared.digest), slot.group, slot.index, key.key_id)
        wraps.append(
            Wrap(slot=slot, device=key.key_id.hex(), wrapped=hpke.seal(key.xwing_public, info, bytearray(dealt[slot])))
        )
    manifest = Manifest(content=signed, sharing=shared, wraps=tuple(wraps))
    stored(site, sealed, "manifest.json").write(manifest.encode())
    return Sealed(manifest, new_content, new_sharing)


def recommitted(sharing: Sharing, slot: Slot, commitment: bytes) -> dict[str, Any]:
    """Return the groups of a sharing with another commitment in one slot."""
    groups = []
    for g, group in enumerate(sharing.groups):
        slots = [
            msgspec.structs.replace(holder, commitment=commitment.hex())
            if (g, i) == (slot.group, slot.index)
            else holder
            for i, holder in enumerate(group.slots, start=1)
        ]
        groups.append(msgspec.structs.replace(group, slots=tuple(slots)))
    return {"groups": tuple(groups)}


def sign_raw(payload: bytes, payload_type: str, signer: Signer) -> Envelope:
    """Sign whatever bytes are given."""
    signature = Signature(keyid=signer.key_id, sig=signer.sign(pae(payload_type, payload)))
    return Envelope(payload=payload, payloadType=payload_type, signatures=(signature,))


def sign_json(document: Document, signer: Signer, **changes: Any) -> Envelope:
    """Sign a document with fields that its own type would refuse."""
    fields = {**json.loads(document.encode()), **changes}
    payload = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return sign_raw(payload, document.payload_type, signer)


def certificate(
    authority: Authority, folder: Path, uris: Sequence[str], *, begin: int = -60, end: int = 3600
) -> TlsFiles:
    """Issue a certificate for any URI names, valid between two moments relative to now, in seconds."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(now() + begin, UTC))
        .not_valid_after(datetime.fromtimestamp(now() + end, UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=True)
    folder.mkdir(parents=True)
    files = TlsFiles(folder / "tls.crt", folder / "tls.key", folder / "ca.pem")
    files.certificate.write_bytes(builder.sign(authority.key, SHA256()).public_bytes(Encoding.PEM))
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files.ca.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    return files
