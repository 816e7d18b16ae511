"""The trust root: who may do what, and the keys that prove it. Like a TUF root, each names the one before it.

Root 0 (genesis) is pinned by every tool, by digest. A later root is signed by the governance quorum of the root before
it and by every person it newly names or gives a new device key. Fields: see the classes; bytes: ``proto/spec/root.md``.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from custody.crypto.keys import check_public, key_id
from custody.crypto.svid import check_authority
from custody.documents.codec import Record
from custody.documents.dsse import Document
from custody.errors import CustodyError
from custody.tlog.note import VKey
from custody.tlog.policy import Policy
from custody.values import (
    U64,
    Deployment,
    Digest,
    Ed25519Key,
    Name,
    NamePattern,
    PersonId,
    SealerId,
    SpiffeId,
    Time,
    Title,
    WorkloadPattern,
    XWingKey,
    covering,
)

__all__ = [
    "GOVERNANCE",
    "BrokerKey",
    "Device",
    "Group",
    "Log",
    "NamedPerson",
    "Owner",
    "Root",
    "Roster",
    "Sealer",
]

GOVERNANCE = "governance"


class Device(Record, frozen=True, kw_only=True):
    """One device of a person: the keys in one key file (or hardware token)."""

    name: Name
    ed25519: Ed25519Key
    xwing: XWingKey

    @property
    def key_id(self) -> str:
        """The device's key id, hex, computed from its keys."""
        return key_id(self.ed25519, self.xwing).hex()


class NamedPerson(Record, frozen=True, kw_only=True):
    """A person. ``identity`` is the SPIFFE ID of the person's TLS certificate: it carries, and proves nothing more."""

    id: PersonId
    name: Title
    identity: SpiffeId
    devices: Annotated[tuple[Device, ...], Meta(min_length=1, max_length=8)]


class Group(Record, frozen=True, kw_only=True):
    """A group of a roster: any ``threshold`` of ``members``."""

    name: Name
    threshold: Annotated[int, Meta(ge=1, le=255)]
    members: Annotated[tuple[PersonId, ...], Meta(min_length=1, max_length=255)]


class Roster(Record, frozen=True, kw_only=True):
    """Who guards the versions whose names match ``guards``: all groups must reach their threshold.

    ``release`` says when shares travel: with the decision, or only after a quorum has decided. ``cool_off`` is a wait
    in seconds between grant and release, in which anyone on the roster may veto.
    """

    name: Name
    guards: Annotated[tuple[NamePattern, ...], Meta(max_length=64)]
    groups: Annotated[tuple[Group, ...], Meta(min_length=1, max_length=16)]
    release: Literal["with-decision", "after-quorum"]
    cool_off: U64

    @property
    def persons(self) -> tuple[str, ...]:
        """Everybody on the roster, in slot order."""
        return tuple(member for group in self.groups for member in group.members)


class BrokerKey(Record, frozen=True, kw_only=True):
    """A broker: its signing key, and the SPIFFE ID its TLS certificate must carry."""

    id: PersonId
    identity: SpiffeId
    ed25519: Ed25519Key

    @property
    def key_id(self) -> str:
        """The broker's key id, hex."""
        return key_id(self.ed25519).hex()


class Log(Record, frozen=True, kw_only=True):
    """The current log: its vkey (c2sp.org/signed-note), and its predecessor's final checkpoint, if there was one."""

    vkey: Annotated[str, Meta(min_length=1, max_length=300)]
    predecessor: Annotated[bytes, Meta(max_length=16384)] | None


class Sealer(Record, frozen=True, kw_only=True):
    """Who may seal which names: a person or a workload."""

    sealer: SealerId
    names: Annotated[tuple[NamePattern, ...], Meta(min_length=1, max_length=64)]


class Owner(Record, frozen=True, kw_only=True):
    """Which persons own a workload: they answer for it, and so cannot decide on its requests."""

    workload: WorkloadPattern
    persons: Annotated[tuple[PersonId, ...], Meta(min_length=1, max_length=64)]


class Root(Document, frozen=True, kw_only=True):
    """A trust root. ``spiffe_roots`` are DER certificates; ``policy`` is the digest of the policy bundle."""

    payload_type: ClassVar[str] = "application/vnd.custody.root.v1+json"

    deployment: Deployment
    epoch: U64
    previous: Digest | None
    created: Time
    persons: Annotated[tuple[NamedPerson, ...], Meta(min_length=1, max_length=1000)]
    rosters: Annotated[tuple[Roster, ...], Meta(min_length=1, max_length=256)]
    brokers: Annotated[tuple[BrokerKey, ...], Meta(min_length=1, max_length=64)]
    log: Log
    witness_policy: Annotated[tuple[Annotated[str, Meta(max_length=1000)], ...], Meta(min_length=1, max_length=200)]
    trust_domain: Annotated[str, Meta(pattern=r"\A[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?\Z")]
    spiffe_roots: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=16)]
    sealers: Annotated[tuple[Sealer, ...], Meta(max_length=1000)]
    owners: Annotated[tuple[Owner, ...], Meta(max_length=10000)]
    policy: Digest

    def __post_init__(self) -> None:
        """Refuse a root that contradicts itself; msgspec turns the ``ValueError`` into a ``FormatError``."""
        if (self.epoch == 0) != (self.previous is None):
            message = "previous: genesis (epoch 0) has none, every later root names one"
            raise ValueError(message)
        self._check_log()
        self._check_persons()
        self._check_rosters()
        self._check_identities()

    def _check_log(self) -> None:
        """The log key, a witness policy under which no fork can be cosigned (``custody.tlog.policy``), and the CAs."""
        try:
            vkey = VKey.parse(self.log.vkey)
            policy = self.checkpoint_policy
            for authority in self.spiffe_roots:
                check_authority(authority)
        except CustodyError as error:
            raise ValueError(error.message) from None
        if [log.vkey for log in policy.logs] != [vkey]:
            message = "witness_policy: it must name the log of the root, and no other"
            raise ValueError(message)
        if self.epoch == 0 and (vkey.name != self.deployment or self.log.predecessor is not None):
            message = "log: the first log is named like the deployment and has no predecessor"
            raise ValueError(message)
        _distinct(list(self.spiffe_roots), "spiffe_roots")

    def _check_persons(self) -> None:
        _distinct([person.id for person in self.persons], "persons")
        for person in self.persons:
            _distinct([device.name for device in person.devices], f"devices of {person.id}")
        keys = [device.ed25519 for person in self.persons for device in person.devices]
        keys += [broker.ed25519 for broker in self.brokers]
        policy = self.checkpoint_policy
        others = [log.vkey.key for log in policy.logs] + [witness.vkey.key for witness in policy.witnesses]
        _distinct([*keys, *others], "signing keys")
        _distinct([device.xwing for person in self.persons for device in person.devices], "X-Wing keys")
        for key in keys:
            try:
                check_public(key)
            except CustodyError as error:
                raise ValueError(error.message) from None

    def _check_rosters(self) -> None:
        known = {person.id for person in self.persons}
        _distinct([roster.name for roster in self.rosters], "rosters")
        _distinct([pattern for roster in self.rosters for pattern in roster.guards], "guarded name patterns")
        if GOVERNANCE not in {roster.name for roster in self.rosters}:
            message = "rosters: there is no roster named governance"
            raise ValueError(message)
        for roster in self.rosters:
            _distinct([group.name for group in roster.groups], f"groups of roster {roster.name}")
            _distinct(list(roster.persons), f"persons of roster {roster.name} (one slot per person)")
            for group in roster.groups:
                if group.threshold > len(group.members):
                    message = f"roster {roster.name}: group {group.name} asks {group.threshold} of {len(group.members)}"
                    raise ValueError(message)
            _known(roster.persons, known, f"roster {roster.name}")
            if roster.cool_off and roster.release != "after-quorum":
                message = f"roster {roster.name}: a cool-off implies release after-quorum"
                raise ValueError(message)

    def _check_identities(self) -> None:
        known = {person.id for person in self.persons}
        _distinct([broker.id for broker in self.brokers], "brokers")
        identities = [broker.identity for broker in self.brokers] + [person.identity for person in self.persons]
        _distinct(identities, "identities of persons and brokers")
        domain = f"spiffe://{self.trust_domain}/"
        for identity in [*identities, *(owner.workload for owner in self.owners)]:
            if not f"{identity}/".startswith(domain):
                message = f"identity {identity} is outside the trust domain {self.trust_domain}"
                raise ValueError(message)
        _distinct([owner.workload for owner in self.owners], "workloads of owners")
        for owner in self.owners:
            _known(owner.persons, known, f"owners of {owner.workload}")
        for sealer in self.sealers:
            if not sealer.sealer.startswith(domain):
                _known((sealer.sealer,), known, "sealers")

    @cached_property
    def log_name(self) -> str:
        """The name of the current log: its origin."""
        return VKey.parse(self.log.vkey).name

    @cached_property
    def checkpoint_policy(self) -> Policy:
        """Log key and witness policy: what a checkpoint must bear to be believed under this root."""
        return Policy.parse(("\n".join(self.witness_policy) + "\n").encode())

    @cached_property
    def devices(self) -> Mapping[str, tuple[NamedPerson, Device]]:
        """Every device and its person by key id (hex), the ids computed from the keys."""
        return {device.key_id: (person, device) for person in self.persons for device in person.devices}

    @cached_property
    def signing_keys(self) -> Mapping[str, bytes]:
        """The Ed25519 keys of all devices and brokers by key id (hex)."""
        devices = {key_id: device.ed25519 for key_id, (_, device) in self.devices.items()}
        return devices | {broker.key_id: broker.ed25519 for broker in self.brokers}

    @cached_property
    def identities(self) -> frozenset[str]:
        """The SPIFFE IDs of persons and brokers: no workload acts under one of these."""
        return frozenset([*(person.identity for person in self.persons), *(broker.identity for broker in self.brokers)])

    @cached_property
    def _persons(self) -> Mapping[str, NamedPerson]:
        return {person.id: person for person in self.persons}

    @cached_property
    def _brokers(self) -> Mapping[str, BrokerKey]:
        return {broker.id: broker for broker in self.brokers}

    @cached_property
    def _guards(self) -> Mapping[str, Roster]:
        return {pattern: roster for roster in self.rosters for pattern in roster.guards}

    @cached_property
    def _owners(self) -> Mapping[str, tuple[str, ...]]:
        return {owner.workload: owner.persons for owner in self.owners}

    @cached_property
    def _sealers(self) -> Mapping[str, frozenset[str]]:
        names: dict[str, set[str]] = {}
        for entry in self.sealers:
            names.setdefault(entry.sealer, set()).update(entry.names)
        return {sealer: frozenset(patterns) for sealer, patterns in names.items()}

    def person(self, person_id: str) -> NamedPerson | None:
        """Return the person with this id, if the root names one."""
        return self._persons.get(person_id)

    def roster(self, name: str) -> Roster | None:
        """Return the roster with this name, if there is one."""
        return next((roster for roster in self.rosters if roster.name == name), None)

    def roster_for(self, version: str) -> Roster | None:
        """Return the roster that guards a version: that of the most specific pattern."""
        return next((self._guards[pattern] for pattern in covering(version) if pattern in self._guards), None)

    def broker(self, broker_id: str) -> BrokerKey | None:
        """Return the broker with this id, if the root names one."""
        return self._brokers.get(broker_id)

    def device(self, key: str) -> tuple[NamedPerson, Device] | None:
        """Return the person and device behind a key id (hex), if any."""
        return self.devices.get(key)

    def owners_of(self, workload: str) -> frozenset[str]:
        """Return the persons who own a workload: all whose pattern covers it."""
        return frozenset(person for pattern in covering(workload) for person in self._owners.get(pattern, ()))

    def may_seal(self, sealer: str, version: str) -> bool:
        """Tell whether a person or workload may seal a version of this name."""
        names = set(covering(version))
        return any(names & self._sealers.get(pattern, frozenset()) for pattern in covering(sealer))


def _distinct(values: list[str] | list[bytes], what: str) -> None:
    if len(set(values)) != len(values):
        message = f"{what} are not distinct"
        raise ValueError(message)


def _known(persons: tuple[str, ...], known: set[str], where: str) -> None:
    unknown = sorted(set(persons) - known)
    if unknown:
        message = f"{where}: {unknown[0]} is not among the persons"
        raise ValueError(message)
