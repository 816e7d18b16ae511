"""Files that end in the background: bounded, and never left half-way."""

import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from custody.segments.finishing import Finishing
from tests.doubles.interrupting import interrupting


@dataclass
class File:
    order: int
    weight: int = 1
    fails: BaseException | None = None
    waits: threading.Event | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    abandoned: list[BaseException] = field(default_factory=list)

    def end(self) -> None:
        if self.waits is not None:
            assert self.waits.wait(60)
        if self.fails is not None:
            raise self.fails
        self.ended.set()

    def abandon(self, error: BaseException) -> None:
        self.abandoned.append(error)


def test_files_end_at_once_and_the_block_waits_for_all() -> None:
    last = threading.Event()
    files = [File(0, waits=last), File(1, waits=last), File(2)]
    with Finishing() as finishing:
        for file in files:
            finishing.admit(file)
            finishing.submit(file)
        assert files[2].ended.wait(60), "while the others wait"
        last.set()
    assert all(file.ended.is_set() and not file.abandoned for file in files)


@pytest.mark.parametrize("limit", [{"files": 2}, {"weight": 10}])
def test_who_begins_too_much_waits(limit: dict[str, Any]) -> None:
    door = threading.Event()
    files = [File(0, 5, waits=door), File(1, 5, waits=door), File(2, 5)]
    with Finishing(**limit) as finishing:
        for file in files[:2]:
            finishing.admit(file)
            finishing.submit(file)
        waiting = threading.Thread(target=finishing.admit, args=[files[2]])
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
        door.set()
        waiting.join(60)
        assert not waiting.is_alive()
        finishing.submit(files[2])
    assert files[2].ended.is_set()


def test_a_file_heavier_than_all_may_is_alone() -> None:
    file = File(0, weight=1 << 40)
    with Finishing() as finishing:
        finishing.admit(file)
        finishing.submit(file)
    assert file.ended.is_set()


def test_of_several_failures_the_first_files_is_raised_and_the_rest_abandoned() -> None:
    later = threading.Event()
    early, late = ValueError("of file 1"), ValueError("of file 2")
    files = [File(0), File(1, fails=early, waits=later), File(2, fails=late), File(3)]
    with pytest.raises(ValueError, match="of file 1"), Finishing() as finishing:  # noqa: PT012 - what is tested
        for file in files:
            finishing.admit(file)
        finishing.submit(files[1])
        finishing.submit(files[0])
        assert files[0].ended.wait(60)
        finishing.submit(files[2])
        while True:  # as one who begins files does
            try:
                finishing.check()
            except ValueError:
                later.set()
                raise
    assert [len(file.abandoned) for file in files] == [0, 0, 0, 1]


def test_a_block_that_raises_abandons_what_has_not_ended() -> None:
    door, error = threading.Event(), KeyboardInterrupt()
    files = [File(order, waits=door if order == 0 else None) for order in range(4)]
    with pytest.raises(KeyboardInterrupt) as caught, Finishing(threads=1) as finishing:  # noqa: PT012 - what is tested
        for file in files:
            finishing.admit(file)
        for file in files[:3]:
            finishing.submit(file)
        threading.Timer(0.05, door.set).start()
        raise error
    assert caught.value is error
    assert files[0].ended.is_set(), "what had begun to end ends"
    assert [file.abandoned for file in files] == [[], [error], [error], [error]]


def test_being_interrupted_comes_before_other_failures() -> None:
    file = File(0, fails=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), Finishing() as finishing:  # noqa: PT012 - what is tested
        finishing.admit(file)
        finishing.submit(file)
        while not finishing._failures:
            pass
        raise ValueError


def test_while_nothing_is_ending_nobody_waits_for_room() -> None:
    """Those who should write what has begun may have failed, and wait for the one who begins."""
    files = [File(0, 5), File(1, 5)]
    with Finishing(files=1, weight=5) as finishing:
        finishing.admit(files[0])
        beginning = threading.Thread(target=finishing.admit, args=[files[1]], daemon=True)
        beginning.start()
        beginning.join(60)
        assert not beginning.is_alive()
        for file in files:
            finishing.submit(file)
    assert all(file.ended.is_set() for file in files)


def test_ends_that_fail_at_once_leave_the_cause_to_be_told() -> None:
    class Failures(dict[int, BaseException]):
        """While somebody looks at them, the next comes in, unless a lock keeps it out."""

        def values(self) -> Any:
            looking = iter(super().values())
            if len(self) == 1:
                door.set()
                came.wait(0.1)
            return looking

        def __setitem__(self, order: int, error: BaseException) -> None:
            super().__setitem__(order, error)
            if order == 1:
                came.set()

    door, came = threading.Event(), threading.Event()
    files = [File(0), File(1, fails=ValueError("of file 1"), waits=door), File(2, fails=ValueError("of file 2"))]
    with pytest.raises(ValueError, match="of file 1"), Finishing(threads=2) as finishing:  # noqa: PT012 - what is tested
        finishing._failures = Failures()
        for file in files:
            finishing.admit(file)
        for file in (files[1], files[2], files[0]):
            finishing.submit(file)


def test_who_interrupts_the_waiting_again_and_again_still_finds_everything_ended() -> None:
    door = threading.Event()
    file = File(0, waits=door)
    with (  # noqa: PT012 - what is tested
        pytest.raises(KeyboardInterrupt),
        interrupting(times=2, then=door.set) as begin,
        Finishing() as finishing,
    ):
        finishing.admit(file)
        finishing.submit(file)
        begin()
    assert file.ended.is_set()
