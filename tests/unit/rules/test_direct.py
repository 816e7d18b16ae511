"""What is refused as a session in direct mode, or as its outcome: keys that leave are counted whole, or nothing is."""

from functools import partial
from typing import Any

import pytest

from custody.entries.entry import FileBytes
from custody.errors import DeniedError, IntegrityError
from custody.values import U64
from tests.doubles.case import Case
from tests.doubles.refusal import Act, refused
from tests.doubles.world import World
from tests.unit.rules.test_sessions import span

KEY = bytes(1216)


def signed(world: World, case: Case, **changes: Any) -> Act:
    """A session whose document was changed before it was signed."""
    job = world.job()
    return partial(case.log_session, case.session(job, **changes), job)


def direct(**changes: Any) -> tuple[World, Case]:
    """An open lease of direct mode."""
    world = World()
    return world, world.opened(mode="direct", **changes)


def test_direct_mode_counts_whole_files_and_needs_a_key_to_send_them_to() -> None:
    world, case = direct()
    for size in (1, 5699, 5701):
        act = signed(world, case, xwing=KEY, bytes=U64(size))
        with refused(world, DeniedError, "bytes: direct mode counts the whole files, 5700 bytes"):
            act()
    act = signed(world, case, bytes=U64(5700))
    with refused(world, DeniedError, "xwing: the lease is of mode direct"):
        act()
    act = signed(world, case, xwing=KEY, files=span(0, 3), bytes=U64(5700))
    with refused(world, DeniedError, "files: not all of them are in the lease"):
        act()
    assert case.found.spent == 0
    case.begin(xwing=KEY, bytes=U64(5700))
    assert case.found.spent == 5700  # before anything is handed out


def test_an_entry_says_when_keys_leave_for_good_and_never_otherwise() -> None:
    world, case = direct()
    job = world.job()
    with refused(world, IntegrityError, "it names another mode"):
        case.log_session(case.session(job, xwing=KEY, bytes=U64(5700)), job, mode=None)
    world = World()
    case = world.opened()
    job = world.job()
    with refused(world, IntegrityError, "it names another mode"):
        case.log_session(case.session(job), job, mode="direct")


@pytest.mark.parametrize(
    "changes",
    [
        {"served": (FileBytes(file=U64(0), bytes=U64(699)),)},
        {},
        {"served": (FileBytes(file=U64(0), bytes=U64(1)),), "outcome": "aborted"},
    ],
    ids=["of a part of a file", "of nothing, though all went well", "of a part, though it was aborted"],
)
def test_keys_that_were_handed_out_are_not_said_to_have_been_used_in_part(changes: dict[str, Any]) -> None:
    world, case = direct()
    session = case.begin(xwing=KEY, files=span(0, 0), bytes=U64(700))
    with refused(world, IntegrityError, "direct mode serves whole files"):
        case.end(session, **changes)
    case.end(session, (0, 700))
    assert case.found.spent == 700


def test_a_direct_session_that_ended_before_any_key_left_counts_nothing() -> None:
    _, case = direct()
    case.end(case.begin(xwing=KEY, bytes=U64(5700)), outcome="aborted")
    assert case.found.spent == 0
    case.begin(xwing=KEY, bytes=U64(5700))
    case.close("broker-lost")
    assert case.found.spent == 5700  # nobody knows whether keys left: they count


def test_what_was_granted_as_a_stream_gives_no_key_though_direct_was_asked() -> None:
    world = World()
    world.seal()
    case = Case.of(world, "demo/tiny@1", mode="direct")
    case.terms = case.make_terms(mode="stream")
    case.log_request()
    for person in ("alice", "bob"):
        case.decide(person)
    case.grant()
    case.open()
    act = signed(world, case, xwing=KEY, bytes=U64(5700))
    with refused(world, DeniedError, "xwing: the lease is of mode stream"):
        act()
    case.begin()
