"""A trust root that contradicts itself is none; and what a sound one says."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from custody.crypto.encoding import b64encode
from custody.documents.root import Root
from custody.errors import FormatError
from custody.tlog.note import COSIGNATURE, ED25519, NoteSigner
from tests.doubles import samples
from tests.doubles.world import DEPLOYMENT, JOB, World

Members = dict[str, Any]
NONE = "00" * 32
LEAF = b64encode(World().job().chain[0])
OTHER_LOG = NoteSigner(DEPLOYMENT, ED25519, bytes(32)).vkey.encode()
SMALL_ORDER = b64encode(bytes([1]) + bytes(31))  # the neutral element


def honest() -> Members:
    value: Members = json.loads(samples.envelopes()["root"].payload)
    return value


def dump(value: Members) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def change(*path: str | int, to: Any) -> Callable[[Members], None]:
    """Put a value somewhere."""

    def apply(root: Members) -> None:
        place: Any = root
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return apply


def copy(source: tuple[str | int, ...], target: tuple[str | int, ...]) -> Callable[[Members], None]:
    """Put the value of one place into another."""

    def apply(root: Members) -> None:
        value: Any = root
        for step in source:
            value = value[step]
        change(*target, to=value)(root)

    return apply


def witnesses(*lines: str) -> Callable[[Members], None]:
    """Another witness policy for the same log; ``%0``, ``%1``, ``%2`` are witness keys."""
    signers = [NoteSigner(f"w{i}.example.org", COSIGNATURE, bytes([i + 1]) * 32) for i in range(3)]

    def apply(root: Members) -> None:
        policy = [f"log {root['log']['vkey']}", *lines]
        for i, signer in enumerate(signers):
            policy = [line.replace(f"%{i}", signer.vkey.encode()) for line in policy]
        root["witness_policy"] = policy

    return apply


def another_log(name: str, signature_type: int = ED25519) -> Callable[[Members], None]:
    """Another log key, named in the witness policy as well."""

    def apply(root: Members) -> None:
        vkey = NoteSigner(name, signature_type, bytes(32)).vkey.encode()
        root["witness_policy"][0] = f"log {vkey}"
        root["log"]["vkey"] = vkey

    return apply


def log_key_of_alice(root: Members) -> None:
    world = World(genesis=False)
    signer = NoteSigner(DEPLOYMENT, ED25519, bytes(world.devices["alice"].seed.view))
    root["witness_policy"][0] = f"log {signer.vkey.encode()}"
    root["log"]["vkey"] = signer.vkey.encode()


def one_person_in_two_groups(root: Members) -> None:
    root["rosters"][1]["groups"][1]["members"] = ["alice", "dave"]


ROWS: list[tuple[str, Callable[[Members], None], str]] = [
    ("genesis with a previous root", change("previous", to=NONE), "previous: genesis (epoch 0) has none"),
    ("later root without a previous one", change("epoch", to="1"), "previous: genesis (epoch 0) has none"),
    ("no persons", change("persons", to=[]), "at `persons`"),
    ("a person twice", change("persons", 1, "id", to="alice"), "persons are not distinct"),
    (
        "a device name twice",
        change("persons", 0, "devices", 1, "name", to="laptop"),
        "devices of alice are not distinct",
    ),
    ("a person without a device", change("persons", 0, "devices", to=[]), "at `persons[0].devices`"),
    (
        "one key for two persons",
        copy(("persons", 0, "devices", 0, "ed25519"), ("persons", 1, "devices", 0, "ed25519")),
        "signing keys are not distinct",
    ),
    (
        "one X-Wing key for two devices",
        copy(("persons", 0, "devices", 0, "xwing"), ("persons", 0, "devices", 1, "xwing")),
        "X-Wing keys are not distinct",
    ),
    (
        "one key for a person and a broker",
        copy(("persons", 0, "devices", 0, "ed25519"), ("brokers", 0, "ed25519")),
        "signing keys are not distinct",
    ),
    ("one key for a person and the log", log_key_of_alice, "signing keys are not distinct"),
    ("a key of small order", change("persons", 0, "devices", 0, "ed25519", to=SMALL_ORDER), "not a canonical point"),
    ("a broker key of small order", change("brokers", 0, "ed25519", to=SMALL_ORDER), "not a canonical point"),
    ("a roster twice", change("rosters", 1, "name", to="custodians"), "rosters are not distinct"),
    ("a pattern twice", change("rosters", 1, "guards", to=["*"]), "guarded name patterns are"),
    ("no governance", change("rosters", 2, "name", to="board-2"), "there is no roster named governance"),
    (
        "a group twice",
        change("rosters", 1, "groups", 1, "name", to="security"),
        "groups of roster board",
    ),
    ("one person in two groups", one_person_in_two_groups, "persons of roster board (one slot per person)"),
    (
        "one person twice in a group",
        change("rosters", 0, "groups", 0, "members", to=["alice", "alice"]),
        "persons of roster custodians (one slot per person)",
    ),
    (
        "more needed than there are",
        change("rosters", 0, "groups", 0, "threshold", to=4),
        "asks 4 of 3",
    ),
    ("none needed", change("rosters", 0, "groups", 0, "threshold", to=0), "at `rosters[0].groups[0].threshold`"),
    ("a custodian nobody knows", change("rosters", 0, "groups", 0, "members", 0, to="zoe"), "zoe is not among the"),
    ("a cool-off without waiting", change("rosters", 1, "release", to="with-decision"), "a cool-off implies release"),
    ("a broker twice", change("brokers", 1, "id", to="broker-1"), "brokers are not distinct"),
    (
        "one identity for a person and a broker",
        change("brokers", 0, "identity", to="spiffe://example.org/person/alice"),
        "identities of persons and brokers are not distinct",
    ),
    (
        "an identity of another domain",
        change("persons", 0, "identity", to="spiffe://example.org.evil.com/alice"),
        "is outside the trust domain example.org",
    ),
    ("an owned workload of another domain", change("owners", 0, "workload", to="spiffe://a/*"), "is outside the trust"),
    ("an owner nobody knows", change("owners", 0, "persons", to=["zoe"]), "zoe is not among the persons"),
    ("a workload nobody owns", change("owners", 0, "persons", to=[]), "at `owners[0].persons`"),
    ("a sealer nobody knows", change("sealers", 0, "sealer", to="zoe"), "zoe is not among the persons"),
    ("a sealer of another domain", change("sealers", 1, "sealer", to="spiffe://a/*"), "is not among the persons"),
    ("a trust domain that is none", change("trust_domain", to="Example.org"), "at `trust_domain`"),
    ("a SPIFFE root that is none", change("spiffe_roots", 0, to="AAAA"), "certificate: not a DER certificate"),
    (
        "a leaf as SPIFFE root",
        change("spiffe_roots", 0, to=b64encode(World().job().chain[0])),
        "not that of an authority",
    ),
    ("a log key that is none", change("log", "vkey", to="log"), "vkey: not of the form"),
    (
        "a log the policy does not name",
        change("log", "vkey", to=NoteSigner(DEPLOYMENT, 1, bytes(32)).vkey.encode()),
        "log",
    ),
    ("a first log of another name", another_log("other.example.org/log"), "named like the deployment"),
    ("a log key for cosignatures", another_log(DEPLOYMENT, COSIGNATURE), "type 0x04"),
    ("a first log with a predecessor", change("log", "predecessor", to="AAAA"), "has no predecessor"),
    ("no witnesses", witnesses("quorum none"), "quorum none accepts checkpoints that no witness has seen"),
    ("no quorum", witnesses("witness w0 %0"), "no quorum line"),
    (
        "witnesses that permit a fork",
        witnesses("witness w0 %0", "witness w1 %1", "group any 1 w0 w1", "quorum any"),
        "two disjoint sets of witnesses",
    ),
    (
        "a witness key twice",
        witnesses("witness w0 %0", "witness w1 %0", "group g all w0 w1", "quorum g"),
        "occurs twice",
    ),
    ("a policy that is none", change("witness_policy", to=["bogus"]), "neither log, witness, group nor quorum"),
]


@pytest.mark.parametrize(("alter", "message"), [pytest.param(*row[1:], id=row[0].replace(" ", "-")) for row in ROWS])
def test_refused_as_a_root(alter: Callable[[Members], None], message: str) -> None:
    root = honest()
    assert Root.parse(dump(root)).epoch == 0
    alter(root)
    with pytest.raises(FormatError) as caught:
        Root.parse(dump(root))
    assert message in caught.value.message


def test_an_authority_stands_once() -> None:
    root = honest()
    root["spiffe_roots"] *= 2
    with pytest.raises(FormatError, match="spiffe_roots are not distinct"):
        Root.parse(dump(root))


def test_a_workload_is_owned_in_one_place() -> None:
    root = honest()
    root["owners"] *= 2
    with pytest.raises(FormatError, match="workloads of owners are not distinct"):
        Root.parse(dump(root))


def test_one_witness_is_a_policy() -> None:
    root = honest()
    witnesses("witness w0 %0", "quorum w0")(root)
    assert Root.parse(dump(root)).checkpoint_policy.quorum == "w0"


def test_a_root_finds_what_it_holds() -> None:
    world = World()
    root = world.state.root
    alice = root.person("alice")
    assert alice is not None
    assert [device.name for device in alice.devices] == ["laptop", "token"]
    assert root.person("zoe") is None
    token = world.devices["alice/token"]
    assert root.device(token.key_id) == (alice, alice.devices[1])
    assert root.device(NONE) is None
    assert len(root.devices) == 9
    assert root.broker("broker-1") == root.brokers[0]
    assert root.broker("alice") is None
    assert root.roster("board") == root.rosters[1]
    assert root.roster("zoe") is None
    assert root.roster_for("frontier/llm@1") == root.rosters[1]
    assert root.roster_for("frontier@1") == root.rosters[0]
    assert root.owners_of(JOB) == {"erin"}
    assert root.owners_of("spiffe://example.org/train/run") == set()
    assert root.may_seal("sam", "frontier/llm@1")
    assert root.may_seal("spiffe://example.org/train/run", "demo/tiny@1")
    assert not root.may_seal("spiffe://example.org/train/run", "frontier/llm@1")
    assert not root.may_seal("alice", "demo/tiny@1")
    assert "spiffe://example.org/broker-1" in root.identities


def test_owners_of_a_workload_are_all_whose_pattern_covers_it() -> None:
    root = honest()
    root["owners"] = [
        {"workload": "spiffe://example.org/*", "persons": ["dave"]},
        {"workload": "spiffe://example.org/job/*", "persons": ["erin"]},
        {"workload": JOB, "persons": ["frank", "erin"]},
    ]
    assert Root.parse(dump(root)).owners_of(JOB) == {"dave", "erin", "frank"}


def test_key_ids_are_computed_and_stand_nowhere_in_a_root() -> None:
    world = World()
    text = world.genesis.payload.decode()
    assert all(device.key_id not in text for device in world.devices.values())
