"""What the program in the report page says of honest and of forged bytes, in Node and in Chromium."""

import base64
import copy
from collections.abc import Iterator
from typing import Any

import pytest

from custody.audit.page.data import page_data
from custody.documents.decision import Decision
from custody.documents.dsse import Envelope, Signature
from custody.rules.quorum import approvers
from tests.doubles.page_engine import ENGINES, NO_ENGINE, Verify, engine
from tests.doubles.world import World
from tests.unit.audit.busy import published
from tests.unit.audit.page.odd import odd_entries
from tests.unit.audit.published import Published, forced

pytestmark = pytest.mark.skipif(not ENGINES, reason=NO_ENGINE)


@pytest.fixture(scope="module", params=ENGINES or ["none"])
def verify(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verify]:
    with engine(request.param, tmp_path_factory.mktemp("engine")) as found:
        yield found


def data_of(log: Published, **settings: Any) -> dict[str, Any]:
    return page_data(log.source(), log.audit(), genesis=log.world.genesis.digest, made=log.world.now, **settings)


@pytest.fixture
def honest() -> dict[str, Any]:
    return copy.deepcopy(data_of(published()))


def bad(found: dict[str, Any]) -> list[int]:
    return [entry["index"] for entry in found["entries"] if entry["state"] == "bad"]


def texts(found: dict[str, Any], index: int) -> str:
    entry = next(entry for entry in found["entries"] if entry["index"] == index)
    return "; ".join(f"{check['state']} {check['text']}" for check in entry["checks"])


def index_of(kind: str, log: Published | None = None) -> int:
    entries = (log or published()).world.log.entries
    return next(index for index, entry in enumerate(entries) if entry.type == kind)


def test_an_honest_log_verifies_and_what_was_not_checked_is_not_called_verified(
    verify: Verify, honest: dict[str, Any]
) -> None:
    found = verify(honest)
    assert found["able"]
    assert {check["state"] for check in [*found["checkpoint"], *found["roots"]]} == {"ok"}
    assert [(item["name"], item["state"]) for item in found["cosigners"]] == [
        ("w0", "ok"),
        ("w1", "ok"),
        ("w2", "unchecked"),
    ]
    assert bad(found) == []
    entries = published().world.log.entries
    states = {(entry.type, found["entries"][index]["state"]) for index, entry in enumerate(entries)}
    verified = {kind for kind, state in states if state == "ok"}
    assert verified == {"root", "manifest", "request", "decision", "release", "grant", "hello", "stop"}
    assert {kind for kind, state in states if state == "unchecked"} == {
        *("system", "opening-intent", "opening-outcome", "session-intent", "session-outcome", "close", "stop")
    }
    assert "ok a quorum of verified approvals: alice, bob" in texts(found, index_of("grant"))


def test_a_flipped_byte_in_an_entry_is_marked_there_and_nowhere_else(verify: Verify, honest: dict[str, Any]) -> None:
    index = index_of("session-outcome")
    entry = honest["entries"][index]
    entry["text"] = entry["text"].replace('"bytes":"3000"', '"bytes":"3001"')
    found = verify(honest)
    assert bad(found) == [index]
    assert "NOT AN ENTRY OF THIS LOG" in texts(found, index)


def test_a_proof_of_another_entry_is_refused(verify: Verify, honest: dict[str, Any]) -> None:
    one, other = honest["entries"][10], honest["entries"][30]
    one["proof"], other["proof"] = other["proof"], one["proof"]
    assert bad(verify(honest)) == [10, 30]


def test_an_entry_in_the_place_of_another_is_refused(verify: Verify, honest: dict[str, Any]) -> None:
    honest["entries"][10] = honest["entries"][10] | {"index": 11}
    honest["entries"][20] = honest["entries"][20] | {"index": -1}
    honest["entries"][21] = honest["entries"][21] | {"index": 10**9}
    honest["entries"][22]["proof"] = []
    honest["entries"][23]["proof"].append(0)
    honest["entries"][24]["proof"][-1] = 10**6
    found = verify(honest)
    assert sorted(bad(found)) == [-1, 11, 22, 23, 24, 10**9]


def _forge_cosignature(note: str, name: str) -> str:
    lines = note.split("\n")
    place = next(number for number, line in enumerate(lines) if line.startswith(f"— {name} "))
    blob = bytearray(base64.b64decode(lines[place].split(" ")[2]))
    blob[-1] ^= 1
    lines[place] = f"— {name} {base64.b64encode(blob).decode()}"
    return "\n".join(lines)


def test_a_forged_cosignature_makes_the_checkpoint_and_all_under_it_void(
    verify: Verify, honest: dict[str, Any]
) -> None:
    honest["checkpoint"] = _forge_cosignature(honest["checkpoint"], "witness.example.org/0")
    found = verify(honest)
    assert {item["name"]: item["state"] for item in found["cosigners"]}["w0"] == "bad"
    assert "the cosignature of w0 does not verify" in [check["text"] for check in found["checkpoint"]]
    assert len(bad(found)) == len(honest["entries"])


def test_a_forged_signature_of_the_log_is_refused(verify: Verify, honest: dict[str, Any]) -> None:
    honest["checkpoint"] = _forge_cosignature(honest["checkpoint"], "custody.example.org/log")
    found = verify(honest)
    assert "bad not signed by the key of the log" in [f"{c['state']} {c['text']}" for c in found["checkpoint"]]


def test_one_bad_signature_of_a_known_key_is_enough_to_refuse(verify: Verify, honest: dict[str, Any]) -> None:
    forged = _forge_cosignature(honest["checkpoint"], "witness.example.org/0").rstrip("\n").split("\n")
    bad_line = next(line for line in forged if line.startswith("— witness.example.org/0 "))
    honest["checkpoint"] += f"{bad_line}\n"
    assert {item["name"]: item["state"] for item in verify(honest)["cosigners"]}["w0"] == "bad"
    stranger = "— stranger.example.org " + base64.b64encode(b"\x01" * 76).decode()
    honest["checkpoint"] = honest["checkpoint"].replace(bad_line, stranger)
    assert {check["state"] for check in verify(honest)["checkpoint"]} == {"ok"}, "a stranger's line means nothing"


def test_one_witness_of_three_is_no_quorum(verify: Verify) -> None:
    log = Published(World(b"alone"))
    log.witnesses = log.world.witnesses[:1]
    log.publish()
    found = verify(data_of(log))
    assert "bad no quorum of witnesses, only w0" in [f"{c['state']} {c['text']}" for c in found["checkpoint"]]
    assert bad(found) == [0]


def test_a_cosignature_at_another_time_than_it_states_is_refused(verify: Verify, honest: dict[str, Any]) -> None:
    lines = honest["checkpoint"].split("\n")
    place = next(number for number, line in enumerate(lines) if "witness.example.org/1" in line)
    blob = bytearray(base64.b64decode(lines[place].split(" ")[2]))
    blob[11] ^= 1  # the last byte of the time, after the key id
    lines[place] = f"— witness.example.org/1 {base64.b64encode(blob).decode()}"
    honest["checkpoint"] = "\n".join(lines)
    assert {item["name"]: item["state"] for item in verify(honest)["cosigners"]}["w1"] == "bad"


def _with_decision(forge: Any) -> tuple[Published, int]:
    """A log that a lying broker wrote, with a decision that its rules refuse, and a grant upon it."""
    world = World(b"forged")
    world.seal()
    case = world.file()
    case.decide("bob")
    forced(world, lambda: case.log_decision(forge(world, case), "alice"))
    return Published.each(world), len(world.log.entries) - 1


def _by_another_key(world: World, case: Any) -> Envelope:
    honest = case.decision("alice")
    signature = Signature(keyid=world.devices["alice"].key_id, sig=world.devices["erin"].sign(honest.signed_bytes))
    return Envelope(payload=honest.payload, payloadType=honest.payloadType, signatures=(signature,))


def test_a_decision_with_a_forged_signature_is_marked(verify: Verify) -> None:
    log, index = _with_decision(_by_another_key)
    found = verify(data_of(log))
    assert bad(found) == [index]
    assert "bad decision: the signature of person:alice is FORGED" in texts(found, index)


def test_a_decision_that_another_person_signed_is_marked(verify: Verify) -> None:
    log, index = _with_decision(lambda world, case: world.sign(case.decision("alice").document(Decision), "carol"))
    found = verify(data_of(log))
    assert "bad decision: not signed with a key of person:alice" in texts(found, index)


def test_an_entry_that_says_other_than_its_decision_is_marked(verify: Verify) -> None:
    world = World(b"says")
    world.seal()
    case = world.file()
    forced(world, lambda: case.log_decision(case.decision("alice", "deny"), "alice", verdict="approve"))
    found = verify(data_of(Published.each(world)))
    assert "bad the entry differs from its document: verdict" in texts(found, len(world.log.entries) - 1)


def test_an_entry_that_names_another_actor_than_its_document_is_marked(verify: Verify) -> None:
    world = World(b"actor")
    forced(world, lambda: world.log_hello(world.hello("alice"), "bob"))
    content = world.content()
    signed, sharing = world.sign(content, "sam"), world.sign(world.sharing(content), "sam")
    forced(world, lambda: world.log_manifest(signed, sharing, "carol"))
    found = verify(data_of(Published.each(world)))
    assert bad(found) == [1, 2]
    assert all("bad the entry differs from its document: actor" in texts(found, index) for index in (1, 2))


@pytest.mark.parametrize(
    ("approved", "named", "later"),
    [
        (("alice",), ("alice", "bob"), ()),
        (("alice",), ("alice",), ()),
        (("alice", "bob"), ("alice", "bob", "carol"), ()),
        (("alice",), ("alice", "bob"), ("bob",)),
    ],
    ids=["somebody named did not approve", "too few", "one too many is named", "approved after the grant"],
)
def test_a_grant_without_a_quorum_is_marked(
    verify: Verify, approved: tuple[str, ...], named: tuple[str, ...], later: tuple[str, ...]
) -> None:
    world = World(b"grant")
    world.seal()
    case = world.file()
    for person in approved:
        case.decide(person)
    assert approvers(world.state, case.found, case.lease, world.now) == approved
    forced(world, lambda: case.grant(persons=named))
    index = len(world.log.entries) - 1
    for person in later:
        forced(world, lambda: case.log_decision(case.decision(person), person))  # noqa: B023 - called at once
    found = verify(data_of(Published.each(world)))
    assert bad(found) == [index]
    assert "bad no quorum of verified approvals: only alice" in texts(found, index)


def test_a_forged_decision_makes_no_quorum(verify: Verify) -> None:
    world = World(b"forged quorum")
    world.seal()
    case = world.file()
    case.decide("bob")
    forced(world, lambda: case.log_decision(_by_another_key(world, case), "alice"))
    forced(world, lambda: case.grant(persons=("alice", "bob")))
    last = len(world.log.entries) - 1
    found = verify(data_of(Published.each(world)))
    assert bad(found) == [last - 1, last]
    assert "only bob" in texts(found, last)


def test_another_signature_than_the_one_that_was_logged_is_marked(verify: Verify) -> None:
    world = World(b"again")
    world.seal()
    case = world.file()
    case.decide("alice")
    data = data_of(Published.each(world))
    logged = world.log.entries[-1].documents[0].envelope
    document = world.log.envelopes[logged].document(Decision)
    data["documents"][logged] = world.sign(document, "alice/token").encode().decode()
    assert bad(verify(data)) == [len(world.log.entries) - 1], "hers as well, and not what the log holds"


def test_other_bytes_under_the_digest_of_a_document_are_marked(verify: Verify, honest: dict[str, Any]) -> None:
    entries = published().world.log.entries
    index = index_of("decision")
    one, other = entries[index], next(entry for entry in entries[index + 1 :] if entry.type == "decision")
    honest["documents"][one.documents[0].envelope] = honest["documents"][other.documents[0].envelope]
    found = verify(honest)
    assert "bad decision: not the document that the entry names" in texts(found, index)
    assert index_of("grant") in bad(found), "the quorum of a grant counts verified decisions only"


def test_a_document_that_is_not_here_is_not_verified(verify: Verify, honest: dict[str, Any]) -> None:
    index = index_of("hello")
    del honest["documents"][published().world.log.entries[index].documents[0].envelope]
    found = verify(honest)
    assert "unchecked hello: the document is not in this page" in texts(found, index)
    assert found["entries"][index]["state"] == "unchecked"


def test_another_genesis_than_the_pinned_one_is_refused(verify: Verify, honest: dict[str, Any]) -> None:
    honest["genesis"] = "ab" * 32
    found = verify(honest)
    assert [check["text"] for check in found["roots"]] == [
        "a trust root does not verify: it is not the genesis that is pinned"
    ]
    assert len(bad(found)) == len(honest["entries"])


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        ((), ""),
        (("alice",), "no quorum of governance signed it"),
        (("henry",), "somebody new has not signed it"),
    ],
)
def test_later_roots_need_governance_and_everybody_new(verify: Verify, missing: tuple[str, ...], text: str) -> None:
    world = World(b"roots")
    world.tick(60)
    world.devices["henry"] = world.device("henry")
    world.replace_root("henry", persons=(*world.root.persons, world.named("henry")))
    data = data_of(Published.each(world))
    second = Envelope.parse(data["roots"][1].encode())
    gone = {world.devices[name].key_id for name in missing}
    left = tuple(item for item in second.signatures if item.keyid not in gone)
    data["roots"][1] = (
        Envelope(payload=second.payload, payloadType=second.payloadType, signatures=left).encode().decode()
    )
    last = verify(data)["roots"][1]
    assert last["state"] == ("bad" if missing else "ok")
    assert text in last["text"]


def test_what_is_no_canonical_json_is_no_entry(verify: Verify) -> None:
    log = Published.each(World(b"noise"))
    log.append([b'{"a":1,"a":1}', b"\xff\xfe", b'{ "a":1}'])
    found = verify(data_of(log))
    assert bad(found) == [1, 2, 3]
    assert all("ok in the log" in texts(found, index) for index in (1, 2, 3))
    assert "not canonical JSON" in texts(found, 1)


def test_no_entry_however_odd_keeps_the_others_from_being_judged(verify: Verify) -> None:
    log = Published.each(World(b"odd"))
    odd = odd_entries()
    log.append(odd)
    found = verify(data_of(log))
    assert found["entries"][0]["state"] == "ok"
    assert all(entry["inLog"] for entry in found["entries"])
    good = [index for index in range(1, len(odd) + 1) if index not in bad(found)]
    assert [texts(found, index).split("; ")[1] for index in good] == [
        "unchecked of a type that this page does not know",  # constructor, a name that every object of JavaScript has
        "unchecked of a type that this page does not know",  # __proto__
    ]


def test_a_forged_size_makes_a_page_in_no_time(verify: Verify) -> None:
    log = Published.each(World(b"huge"))
    log.files["checkpoint"] = log.note(1 << 50, root=b"\x01" * 32)
    data = data_of(log)
    assert data["left_out"] == (1 << 50) - len(data["entries"])
    assert verify(data)["entries"] == []


def test_a_log_without_entries_has_nothing_that_verifies(verify: Verify) -> None:
    log = Published(World(b"empty", genesis=False))
    log.publish([])
    found = verify(data_of(log))
    assert found["entries"] == []
    assert found["checkpoint"][0]["state"] == "bad"


def test_a_page_of_the_newest_entries_holds_what_they_build_on(verify: Verify) -> None:
    data = data_of(published(), most=16)
    assert len(data["entries"]) == 16
    assert data["left_out"] == 30
    found = verify(data)
    assert bad(found) == []
    kinds = [published().world.log.entries[item["index"]].type for item in data["entries"]]
    assert {"root", "manifest", "request"} <= set(kinds[:8])
