"""From a readable ceremony file to a trust root, and the signatures under it.

The ceremony file (TOML, written by ``custody init``) names persons with their exported keys, rosters, sealers, owners
and brokers. ``build_root`` turns it into the one document that people sign: genesis, or the root after ``previous``.
A draft is that document's canonical JSON; with the first signature it becomes an envelope.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from custody.adapters import small_files
from custody.app.arguments import seconds
from custody.app.ca import load_certificates
from custody.app.deployment import read_bundle
from custody.crypto import keys
from custody.crypto.encoding import b64decode_strict
from custody.custodian.keys import ExportedKey
from custody.documents.dsse import MAX_ENVELOPE, Envelope, Signature, Signer, pae
from custody.documents.root import (
    GOVERNANCE,
    BrokerKey,
    Device,
    Group,
    Log,
    NamedPerson,
    Owner,
    Root,
    Roster,
    Sealer,
)
from custody.errors import ConfigError, DeniedError, FormatError, IntegrityError
from custody.rules.bundle import bundle_digest
from custody.rules.roots import final_checkpoint
from custody.rules.trust import policy_of
from custody.tlog.note import VKey
from custody.values import U64, Time

__all__ = ["Signing", "add_signature", "build_root", "combine", "read_draft", "signing_state"]

_MAX_CEREMONY: Final = 1 << 20
_MAX_SMALL: Final = 1 << 16

_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the ceremony file."""


class _Person(_Table, frozen=True, kw_only=True):
    id: _Word
    name: _Word
    keys: list[_Word]
    identity: _Word | None = None


class _Group(_Table, frozen=True, kw_only=True):
    name: _Word
    threshold: int
    members: list[_Word]


class _Roster(_Table, frozen=True, kw_only=True):
    name: _Word
    guards: list[_Word]
    group: list[_Group]
    release: Literal["with-decision", "after-quorum"] = "with-decision"
    cool_off: _Word = "0s"


class _Sealer(_Table, frozen=True, kw_only=True):
    sealer: _Word
    names: list[_Word]


class _Owner(_Table, frozen=True, kw_only=True):
    workload: _Word
    persons: list[_Word]


class _Broker(_Table, frozen=True, kw_only=True):
    id: _Word
    identity: _Word
    ed25519: _Word


class _Log(_Table, frozen=True, kw_only=True):
    vkey: _Word
    predecessor: _Word | None = None


class _Trust(_Table, frozen=True, kw_only=True):
    witness_policy: _Word
    spiffe_roots: list[_Word]
    policy: _Word


class _Ceremony(_Table, frozen=True, kw_only=True):
    deployment: _Word
    trust_domain: _Word
    broker: list[_Broker]
    log: _Log
    trust: _Trust
    person: list[_Person] = []
    roster: list[_Roster] = []
    sealer: list[_Sealer] = []
    owner: list[_Owner] = []


@dataclass(frozen=True, slots=True)
class Signing:
    """How far the signing of a root is: who has signed, and whom it still needs.

    ``missing`` are persons who must sign themselves; ``governance`` says in words what the quorum of the previous root
    still lacks, empty where it is met or there is no previous root.
    """

    signed: tuple[str, ...]
    missing: tuple[str, ...]
    governance: str

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing and not self.governance


def build_root(ceremony: Path, previous: Root | None, now: int) -> Root:
    """Build the root that a ceremony file describes. Paths in it are relative to it.

    Raises ``ConfigError`` for a file that is not understood, naming the key; ``FormatError`` for a root that
    contradicts itself; ``IntegrityError`` for another log that does not go on where that of ``previous`` ended;
    whatever is wrong with a file that it names.
    """
    plan, base = _read(ceremony), ceremony.parent
    if previous is not None and plan.deployment != previous.deployment:
        raise ConfigError(f"{ceremony}: deployment is {plan.deployment}, that of the previous root another")
    vkey = small_files.read(base / plan.log.vkey, _MAX_SMALL).decode("utf-8", "replace").strip()
    predecessor = small_files.read(base / plan.log.predecessor, _MAX_SMALL) if plan.log.predecessor else None
    policy_lines = (
        small_files.read(base / plan.trust.witness_policy, _MAX_SMALL).decode("utf-8", "replace").splitlines()
    )
    certificates = [der for name in plan.trust.spiffe_roots for der in load_certificates(base / name)]
    try:
        root = Root(
            deployment=plan.deployment,
            epoch=U64(previous.epoch + 1 if previous else 0),
            previous=previous.digest if previous else None,
            created=Time(now),
            persons=tuple(_person(person, base, plan.trust_domain) for person in plan.person),
            rosters=tuple(_roster(roster) for roster in plan.roster),
            brokers=tuple(
                BrokerKey(
                    id=item.id,
                    identity=item.identity,
                    ed25519=b64decode_strict(item.ed25519, f"{ceremony}: broker {item.id}: ed25519"),
                )
                for item in plan.broker
            ),
            log=Log(vkey=VKey.parse(vkey).encode(), predecessor=predecessor),
            witness_policy=tuple(line for line in policy_lines if line.strip() and not line.lstrip().startswith("#")),
            trust_domain=plan.trust_domain,
            spiffe_roots=tuple(certificates),
            sealers=tuple(Sealer(sealer=item.sealer, names=tuple(item.names)) for item in plan.sealer),
            owners=tuple(Owner(workload=item.workload, persons=tuple(item.persons)) for item in plan.owner),
            policy=bundle_digest(read_bundle(base / plan.trust.policy)),
        )
        # Constructors check rules, not patterns; parsing checks all.
        root = Root.parse(root.encode())
    except (ValueError, FormatError) as error:
        hint = "write persons and rosters into the ceremony file first" if not plan.person or not plan.roster else ""
        raise FormatError(f"{ceremony}: {error}", hint=hint) from None
    policy_of(root)
    if previous is not None:
        final_checkpoint(previous, root)  # before people sign what nobody would accept
    return root


def read_draft(path: Path) -> tuple[Root, Envelope | None]:
    """Read a draft, or a root that some have signed already. ``FormatError`` for anything else."""
    data = small_files.read(path, MAX_ENVELOPE).removesuffix(b"\n")
    try:
        if data.startswith(b'{"payload"'):  # canonical JSON: an envelope's first key
            envelope = Envelope.parse(data)
            return envelope.document(Root), envelope
        return Root.parse(data), None
    except FormatError as error:
        raise FormatError(
            f"{path}: {error.message}", hint="expected the draft of a trust root, or a signed one"
        ) from None


def add_signature(root: Root, envelope: Envelope | None, signer: Signer, previous: Root | None) -> Envelope:
    """Sign a root. ``DeniedError`` for a key that it need not be signed with."""
    if root.device(signer.key_id) is None and (previous is None or previous.device(signer.key_id) is None):
        raise DeniedError(
            f"this key ({signer.key_id[:16]}…) is not a device of anybody whom the root names",
            hint="export the key again and create the root with it",
        )
    message = pae(Root.payload_type, root.encode())
    signature = Signature(keyid=signer.key_id, sig=signer.sign(message))
    before = envelope.signatures if envelope else ()
    return _envelope(root, [*(item for item in before if item.keyid != signer.key_id), signature])


def combine(envelopes: Sequence[Envelope]) -> Envelope:
    """Put the signatures of several copies of one root together. ``IntegrityError`` where they are different roots."""
    if len({envelope.digest for envelope in envelopes}) != 1:
        raise IntegrityError("these are different roots: their digests differ", hint="compare: custody root show FILE")
    root = envelopes[0].document(Root)
    found = {item.keyid: item for envelope in envelopes for item in envelope.signatures}
    return _envelope(root, list(found.values()))


def signing_state(root: Root, envelope: Envelope | None, previous: Root | None) -> Signing:
    """Verify the signatures so far and say what is still missing. ``IntegrityError`` for one that does not verify."""
    by_key: dict[str, str] = {}
    for signature in envelope.signatures if envelope else ():
        found = root.device(signature.keyid) or (previous.device(signature.keyid) if previous else None)
        if envelope is None or found is None:
            raise FormatError(f"trust root: signature by key {signature.keyid[:16]}…, which no root names")
        keys.verify(found[1].ed25519, signature.sig, envelope.signed_bytes)
        by_key[signature.keyid] = found[0].id
    signed = tuple(sorted(set(by_key.values())))
    if previous is None:
        missing = [person.id for person in root.persons if person.id not in signed]
        return Signing(signed, tuple(missing), "")
    old = {device.key_id for person in previous.persons for device in person.devices}
    missing = [
        f"{person.id} (with the new device {device.name})"
        for person in root.persons
        for device in person.devices
        if device.key_id not in old and device.key_id not in by_key
    ]
    governors = {person for key, person in by_key.items() if previous.device(key)}
    governance = previous.roster(GOVERNANCE)
    lacks = [
        f"{group.threshold - len(governors.intersection(group.members))} more of "
        f"{', '.join(member for member in group.members if member not in governors)}"
        for group in (governance.groups if governance else ())
        if len(governors.intersection(group.members)) < group.threshold
    ]
    return Signing(signed, tuple(missing), "; and ".join(lacks))


def _envelope(root: Root, signatures: list[Signature]) -> Envelope:
    ordered = tuple(sorted(signatures, key=lambda item: item.keyid))
    return Envelope(payload=root.encode(), payloadType=Root.payload_type, signatures=ordered)


def _read(path: Path) -> _Ceremony:
    data = small_files.read(path, _MAX_CEREMONY)
    try:
        return msgspec.toml.decode(data, type=_Ceremony)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        text = re.sub(r"`\$\.?", "`", " ".join(str(error).split()))
        text = text.replace("Object contains unknown field", "unknown key").replace("Object missing", "missing")
        raise ConfigError(f"{path}: {text[:300]}", hint="custody init writes an example with comments") from None


def _person(person: _Person, base: Path, trust_domain: str) -> NamedPerson:
    devices: list[Device] = []
    for name in person.keys:
        exported = ExportedKey.parse(small_files.read(base / name, _MAX_SMALL), str(base / name))
        if exported.person != person.id:
            raise FormatError(f"{base / name}: the key of {exported.person}, but it stands under {person.id}")
        devices.append(exported.as_device())
    identity = person.identity or f"spiffe://{trust_domain}/person/{person.id}"
    return NamedPerson(id=person.id, name=person.name, identity=identity, devices=tuple(devices))


def _roster(roster: _Roster) -> Roster:
    groups = (Group(name=group.name, threshold=group.threshold, members=tuple(group.members)) for group in roster.group)
    return Roster(
        name=roster.name,
        guards=tuple(roster.guards),
        groups=tuple(groups),
        release=roster.release,
        cool_off=U64(seconds(roster.cool_off, f"roster {roster.name}: cool_off")),
    )
