"""A wrong history for each rule of proto/spec/log.md, Successor: how a log ends, and what may follow."""

from typing import Any

import pytest

from custody.documents.root import Log
from tests.doubles.case import Case
from tests.doubles.successor import end_log, final_checkpoint, successor_key, successor_root
from tests.doubles.world import World
from tests.unit.audit.wrong import Lie, Prepare, judge, opened, refile, wrong

BOTH = ("alice", "dave")


def ended(world: World) -> Case:
    """The log has ended while a lease was open."""
    case = opened(world)
    end_log(world)
    return case


def ending(actor: str | None) -> Lie:
    return lambda world, _: end_log(world, actor=world.party(actor) if actor else None)


def successor(**changes: Any) -> Lie:
    """Log a root that names a successor; ``changes`` are to the final checkpoint in it."""

    def lie(world: World, _: Case) -> object:
        root = successor_root(world, successor_key(world), final_checkpoint(world, **changes))
        return world.log_root(world.sign_root(root, *BOTH))

    return lie


def signed_by(name: str) -> Lie:
    return lambda world, case: successor(key=successor_key(world, name))(world, case)


def signed_by_one_witness(world: World, case: Case) -> object:
    return successor(witnesses=world.witnesses[:1])(world, case)


def older(world: World, case: Case) -> object:
    return successor(size=world.state.size - 1)(world, case)


def larger(world: World, case: Case) -> object:
    return successor(size=world.state.size + 1, root=b"f" * 32)(world, case)


def stating(predecessor: bytes | None) -> Lie:
    """Log a root that names a successor, and these bytes as the final checkpoint."""
    return lambda world, _: world.log_root(
        world.sign_root(successor_root(world, successor_key(world), predecessor), *BOTH)
    )


def predecessor_invented(world: World, _: Case) -> object:
    log = Log(vkey=world.log_key.vkey.encode(), predecessor=final_checkpoint(world))
    return world.log_root(world.sign_root(world.next_root(log=log), *BOTH))


_AFTER = "the log has ended: only a trust root that names its successor may follow"
_FINAL = "trust root of epoch 1: the final checkpoint of custody.example.org/log: "

SUCCESSORS = [
    wrong("a log ended by nobody", opened, "somebody else than the broker ends the log", ending(None)),
    wrong("a log ended by a person", opened, "somebody else than the broker ends the log", ending("alice")),
    wrong("a hello after the end", ended, _AFTER, lambda w, _: w.log_hello(w.hello())),
    wrong("a request after the end", ended, _AFTER, lambda w, _: refile(w)),
    wrong("a session after the end", ended, _AFTER, lambda w, c: c.begin(w.job())),
    wrong("the broker's start after the end", ended, _AFTER, lambda w, _: w.append("system", reason="broker-start")),
    wrong("a log that ends twice", ended, _AFTER, lambda w, _: end_log(w)),
    wrong(
        "a root after the end that names no successor",
        ended,
        "the log has ended, and this trust root names no successor",
        lambda w, _: w.log_root(w.sign_root(w.next_root(), *BOTH)),
    ),
    wrong(
        "a successor of a log that goes on",
        opened,
        "it names a successor of a log that has not ended",
        successor(),
    ),
    wrong(
        "a predecessor, and no successor",
        opened,
        "trust root of epoch 1: the log is the same, but another one is said to be before it",
        predecessor_invented,
    ),
    wrong(
        "no final checkpoint",
        ended,
        "trust root of epoch 1 names another log, and not where custody.example.org/log ended",
        stating(None),
    ),
    wrong("an older checkpoint", ended, "the final checkpoint that it names is not where the log ended", older),
    wrong("a larger checkpoint", ended, "the final checkpoint that it names is not where the log ended", larger),
    wrong("bytes that are no checkpoint", ended, _FINAL, stating(b"final")),
    wrong("a final checkpoint of another log", ended, _FINAL, signed_by("custody.example.org/other")),
    wrong("a final checkpoint under another key", ended, _FINAL, signed_by("custody.example.org/log")),
    wrong("a final checkpoint without a quorum", ended, _FINAL, signed_by_one_witness),
]


@pytest.mark.parametrize(("prepare", "text", "lie"), SUCCESSORS)
def test_a_wrong_end_or_successor_is_found(prepare: Prepare, text: str, lie: Lie) -> None:
    judge(prepare, text, lie)
