"""A log that ended goes on as another one: what follows from a root that names it, and what does not."""

from collections.abc import Callable

import pytest

from custody.documents.root import Log, Root
from custody.entries.receipt import Receipt
from custody.errors import ConflictError, CustodyError, IntegrityError
from custody.rules.roots import follow_roots
from custody.rules.trust import Seen, Trust
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import MemoryTree, inclusion_proof
from custody.tlog.note import NoteSigner
from custody.tlog.proof import Proof
from tests.doubles.successor import end_log, final_checkpoint, successor_key, successor_root
from tests.doubles.world import DEPLOYMENT, World

BOTH = ("alice", "dave")
STAGING = "staging.example.org/log"


@pytest.fixture
def world() -> World:
    return World()


def succeed(world: World) -> NoteSigner:
    """End the log and go on, as it should be."""
    end_log(world)
    key = successor_key(world)
    world.log_root(world.sign_root(successor_root(world, key, final_checkpoint(world)), *BOTH))
    return key


def receipt(world: World, index: int, key: NoteSigner) -> Receipt:
    """An entry under a checkpoint of the whole log that ``key`` signed, and two witnesses."""
    tree = MemoryTree()
    for entry in world.log.entries:
        tree.append(bytes.fromhex(entry.leaf))
    proof = tuple(inclusion_proof(index, tree.size, tree.hash_at))
    return Receipt(world.log.entries[index].encode(), Proof(index, proof, final_checkpoint(world, key=key)).encode())


def test_everything_stays_but_the_log(world: World) -> None:
    case = world.opened()
    hello = world.hello()
    world.log_hello(hello)
    before = len(world.log.entries)
    succeed(world)
    assert (world.state.size, world.state.ended) == (before + 2, False)
    assert world.state.root.deployment == DEPLOYMENT
    assert world.state.root.log_name == "custody.example.org/log-2"
    with pytest.raises(ConflictError):
        world.log_hello(hello)
    with pytest.raises(ConflictError):
        world.seal()
    assert case.found.phase == "open"
    job = world.job()
    case.end(case.begin(job), (0, 700))
    assert case.found.spent == 700
    world.replace_root()  # and the next root keeps log and predecessor


def no_end(world: World) -> Root:
    return successor_root(world, successor_key(world), final_checkpoint(world))


def no_checkpoint(world: World) -> Root:
    end_log(world)
    return successor_root(world, successor_key(world), None)


def an_older_checkpoint(world: World) -> Root:
    world.log_hello(world.hello())
    end_log(world)
    return successor_root(world, successor_key(world), final_checkpoint(world, world.state.size - 1))


def signed_by_another_log(world: World) -> Root:
    end_log(world)
    other = successor_key(world, "custody.example.org/other")
    return successor_root(world, successor_key(world), final_checkpoint(world, key=other))


def signed_by_the_successor(world: World) -> Root:
    end_log(world)
    key = successor_key(world)
    return successor_root(world, key, final_checkpoint(world, key=key))


def signed_by_another_key_of_that_name(world: World) -> Root:
    end_log(world)
    forged = successor_key(world, world.log_key.vkey.name)
    return successor_root(world, successor_key(world), final_checkpoint(world, key=forged))


def without_a_quorum(world: World) -> Root:
    end_log(world)
    return successor_root(world, successor_key(world), final_checkpoint(world, witnesses=world.witnesses[:1]))


def no_checkpoint_at_all(world: World) -> Root:
    end_log(world)
    return successor_root(world, successor_key(world), b"final")


def no_successor(world: World) -> Root:
    end_log(world)
    return world.next_root()


def a_predecessor_without_a_successor(world: World) -> Root:
    vkey = world.log_key.vkey.encode()
    return world.next_root(log=Log(vkey=vkey, predecessor=final_checkpoint(world)))


def another_predecessor_afterwards(world: World) -> Root:
    succeed(world)
    log = world.state.root.log
    return world.next_root(log=Log(vkey=log.vkey, predecessor=None))


@pytest.mark.parametrize(
    ("attack", "match"),
    [
        (no_end, "has not ended"),
        (no_checkpoint, "not where custody.example.org/log ended"),
        (an_older_checkpoint, "not where the log ended"),
        (signed_by_another_log, "the final checkpoint of custody.example.org/log"),
        (signed_by_the_successor, "the final checkpoint of custody.example.org/log"),
        (signed_by_another_key_of_that_name, "the final checkpoint of custody.example.org/log"),
        (without_a_quorum, "the final checkpoint of custody.example.org/log"),
        (no_checkpoint_at_all, "the final checkpoint of custody.example.org/log"),
        (no_successor, "names no successor"),
        (a_predecessor_without_a_successor, "the log is the same"),
        (another_predecessor_afterwards, "the log is the same"),
    ],
)
def test_a_root_that_names_a_wrong_successor_is_refused(
    world: World, attack: Callable[[World], Root], match: str
) -> None:
    root = attack(world)
    size, ended = world.state.size, world.state.ended
    with pytest.raises(IntegrityError, match=match):
        world.log_root(world.sign_root(root, *BOTH))
    assert (world.state.size, world.state.ended) == (size, ended)


def test_a_log_that_goes_on_after_its_end_is_refused(world: World) -> None:
    world.seal()
    end_log(world)
    for go_on in (
        lambda: world.log_hello(world.hello()),
        world.file,
        lambda: world.append("system", reason="broker-start"),
        lambda: end_log(world),
    ):
        with pytest.raises(IntegrityError, match="the log has ended"):
            go_on()


@pytest.mark.parametrize("actor", [None, "alice"])
def test_only_the_broker_says_that_the_log_ends(world: World, actor: str | None) -> None:
    with pytest.raises(IntegrityError, match="somebody else"):
        end_log(world, actor=world.party(actor) if actor else None)
    assert not world.state.ended


def test_the_successor_of_staging_is_none_of_production(world: World) -> None:
    staging = World(b"world", deployment=STAGING)  # the same people, the same keys
    end_log(staging)
    root = staging.sign_root(successor_root(staging, successor_key(staging), final_checkpoint(staging)), *BOTH)
    staging.log_root(root)
    end_log(world)
    with pytest.raises(IntegrityError, match="of deployment staging"):
        world.log_root(root)
    moved = successor_root(world, successor_key(world), final_checkpoint(staging, key=staging.log_key))
    with pytest.raises(IntegrityError, match=f"the final checkpoint of {DEPLOYMENT}"):
        world.log_root(world.sign_root(moved, *BOTH))


def test_tools_follow_the_root_to_the_successor_and_believe_the_old_log_no_more(world: World) -> None:
    world.log_hello(world.hello())
    old = world.log_key
    before = receipt(world, 1, old)
    trust = Trust(DEPLOYMENT, world.genesis.digest, Seen())
    trust.take_roots([(world.genesis, receipt(world, 0, old))])
    trust.check(before)
    key = succeed(world)
    newest = world.log.envelopes[world.state.root_envelopes[-1]]
    assert follow_roots([world.genesis, newest], deployment=DEPLOYMENT, genesis=world.genesis.digest)
    last = world.state.size - 1
    trust.take_roots([(world.genesis, receipt(world, 0, key)), (newest, receipt(world, last, key))])
    assert trust.check(receipt(world, 1, key)).checkpoint.origin == key.vkey.name  # entries of old have new receipts
    hello = world.hello()
    world.log_hello(hello)
    trust.check_current(receipt(world, world.state.size - 1, key), hello)
    for index in (1, world.state.size - 1):
        with pytest.raises(CustodyError):
            trust.check(receipt(world, index, old))


def test_a_tool_that_was_never_told_is_not_told_by_the_old_log(world: World) -> None:
    """Who still believes the old root sees nothing of the successor: its checkpoints are of a log it does not know."""
    trust = Trust(DEPLOYMENT, world.genesis.digest, Seen())
    trust.take_roots([(world.genesis, receipt(world, 0, world.log_key))])
    key = succeed(world)
    with pytest.raises(CustodyError):
        trust.check(receipt(world, 0, key))
    assert Checkpoint.parse(final_checkpoint(world, key=key).split(b"\n\n")[0] + b"\n").origin != DEPLOYMENT
