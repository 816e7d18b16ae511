"""Files are open while somebody reads them, and a few beyond that."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import pytest

from custody.errors import UnavailableError
from custody.segments.shelf import Shelf

WAIT = 10.0


@dataclass
class Opened:
    index: int
    closed: int = 0

    def close(self) -> None:
        self.closed += 1


@dataclass
class Library:
    """Opens files, and knows which are open."""

    opened: list[Opened] = field(default_factory=list)

    def open(self, index: int) -> Opened:
        self.opened.append(Opened(index))
        return self.opened[-1]

    @property
    def open_now(self) -> list[int]:
        return [file.index for file in self.opened if not file.closed]


@dataclass
class Slowly:
    """Opens file 0 when it is told to."""

    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def use(self, shelf: Shelf[Opened], library: Library) -> Opened:
        def opened() -> Opened:
            self.begun.set()
            assert self.go_on.wait(WAIT)
            return library.open(0)

        with shelf.lend(0, opened) as file:
            return file


def read(shelf: Shelf[Opened], library: Library, index: int) -> None:
    with shelf.lend(index, lambda: library.open(index)) as file:
        assert not file.closed
        assert file.index == index


def test_who_waits_for_a_file_that_somebody_else_opens_may_want_it_no_more() -> None:
    library, shelf, slowly = Library(), Shelf[Opened](1), Slowly()

    def wanted() -> None:
        raise UnavailableError("not wanted")

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(slowly.use, shelf, library)
        assert slowly.begun.wait(WAIT)
        with pytest.raises(UnavailableError, match="not wanted"), shelf.lend(0, lambda: library.open(1), wanted):
            pass
        slowly.go_on.set()
        assert first.result().index == 0


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_however_many_files_are_read_a_few_stay_open(kept: int) -> None:
    library, shelf = Library(), Shelf[Opened](kept)
    for index in range(100):
        read(shelf, library, index)
        assert library.open_now == list(range(max(0, index + 1 - kept), index + 1))
    shelf.close()
    assert [file.closed for file in library.opened] == [1] * 100


def test_one_that_is_read_again_stays() -> None:
    library, shelf = Library(), Shelf[Opened](2)
    for index in (0, 1, 0, 2, 0, 3, 0):
        read(shelf, library, index)
    assert [file.index for file in library.opened] == [0, 1, 2, 3]
    assert library.open_now == [0, 3]


def test_one_that_is_being_read_is_not_closed_and_is_opened_once() -> None:
    library, shelf = Library(), Shelf[Opened](1)
    with ExitStack() as stack:
        for index in (0, 1, 2, 0):
            stack.enter_context(shelf.lend(index, partial(library.open, index)))
        read(shelf, library, 7)
        read(shelf, library, 8)
        assert library.open_now == [0, 1, 2, 8]
    assert len(library.open_now) == 1


def test_who_comes_while_a_file_is_opened_waits_for_it_and_holds_up_no_other_file() -> None:
    library, shelf, slowly = Library(), Shelf[Opened](1), Slowly()
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(slowly.use, shelf, library)
        assert slowly.begun.wait(WAIT)
        others = [threads.submit(slowly.use, shelf, library) for _ in range(3)]
        read(shelf, library, 1)
        slowly.go_on.set()
        assert {id(one.result(WAIT)) for one in (first, *others)} == {id(library.opened[1])}
    assert [file.index for file in library.opened] == [1, 0]


def test_closing_closes_what_is_lent_and_what_is_opened_too_late() -> None:
    library, shelf = Library(), Shelf[Opened](1)
    with shelf.lend(0, lambda: library.open(0)) as file:
        shelf.close()
        assert file.closed == 1
    assert file.closed == 1
    with pytest.raises(ValueError, match="closed"), shelf.lend(1, lambda: library.open(1)):
        pass
    assert library.open_now == []


def test_one_that_cannot_be_opened_leaves_nothing() -> None:
    library, shelf = Library(), Shelf[Opened](1)

    def fail() -> Opened:
        raise OSError

    with pytest.raises(OSError), shelf.lend(0, fail):
        pass
    read(shelf, library, 0)
    assert library.open_now == [0]
