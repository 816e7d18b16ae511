"""Beginning an upload: again when its answer was lost, and when killed sealers have left no room."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from custody.broker import uploads
from custody.broker.context import Context, Peer
from custody.broker.upload_sessions import Upload
from custody.errors import DeniedError, NotFoundError, UnavailableError
from custody.segments.layout import version_prefix
from tests.doubles.world import World
from tests.unit.broker.place import broker_of

SAM = Peer("spiffe://example.org/person/sam", "")
OTHER = Peer("spiffe://example.org/train/1", "")
VID = bytes(range(32))
SEGMENT = 1 << 16
DIGESTS = (0, True)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    with broker_of(World(), tmp_path) as context:
        yield context


@pytest.fixture
def clock(context: Context, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(context.ledger.clock())
    monkeypatch.setattr(context.ledger, "clock", clock)
    return clock


def begin(context: Context, peer: Peer = SAM, version: str = "demo/new@1", vid: bytes = VID) -> Upload:
    return uploads.begin(context, peer, version, vid, SEGMENT, [5])


def begin_another(context: Context, peer: Peer = SAM) -> Upload:
    vid = os.urandom(32)
    return begin(context, peer, f"demo/{vid.hex()[:8]}@1", vid)


def test_the_same_begin_again_gets_the_same_upload(context: Context) -> None:
    first = begin(context)
    assert all(begin(context) is first for _ in range(9))
    for _ in range(3):
        begin_another(context)  # it has one place, not ten
    assert begin(context) is first
    assert uploads.write(context, SAM, first.id, DIGESTS, 0, bytes(32)) == 32


@pytest.mark.parametrize(
    "other",
    [
        lambda context: begin(context, OTHER),
        lambda context: begin(context, version="demo/new@2"),
        lambda context: uploads.begin(context, SAM, "demo/new@1", VID, 1 << 20, [5]),
        lambda context: uploads.begin(context, SAM, "demo/new@1", VID, SEGMENT, [6]),
        lambda context: uploads.begin(context, SAM, "demo/new@1", VID, SEGMENT, [5, 5]),
    ],
    ids=["identity", "version", "segment", "size", "files"],
)
def test_another_begin_with_the_vid_gets_nothing(context: Context, other: Callable[[Context], Upload]) -> None:
    first = begin(context)
    with pytest.raises(DeniedError, match="vid is in use"):
        other(context)
    assert begin(context) is first


def test_an_upload_of_which_something_came_is_not_given_to_a_second_program(context: Context) -> None:
    first = begin(context)
    uploads.write(context, SAM, first.id, DIGESTS, 0, bytes(16))
    with pytest.raises(DeniedError, match="vid is in use"):
        begin(context)
    uploads.write(context, SAM, first.id, DIGESTS, 16, bytes(16))
    uploads.finish_blob(context, SAM, first.id, DIGESTS)
    with pytest.raises(DeniedError, match="vid is in use"):
        begin(context)


@pytest.mark.parametrize("fails", [False, True])
def test_a_begin_that_comes_while_the_first_is_under_way_waits_for_it(
    context: Context, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    inside, go_on, put_new = threading.Event(), threading.Event(), context.store.put_new

    def slow(key: str, source: bytes) -> None:
        inside.set()
        assert go_on.wait(10)
        if fails:
            raise UnavailableError("the store is down")
        put_new(key, source)

    monkeypatch.setattr(context.store, "put_new", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(begin, context)
        assert inside.wait(10)
        second = pool.submit(begin, context)
        with pytest.raises(TimeoutError):
            second.result(0.1)
        go_on.set()
        if not fails:
            assert second.result() is first.result()
            return
        for attempt, message in ((first, "is down"), (second, "just ended")):
            with pytest.raises(UnavailableError, match=message):
                attempt.result()
    monkeypatch.undo()
    begin(context)


def test_a_sealer_whose_uploads_are_at_work_gets_no_fifth(context: Context, clock: Clock) -> None:
    mine = [begin_another(context) for _ in range(4)]
    clock.now += 3599
    with pytest.raises(UnavailableError, match="too many"):
        begin_another(context)
    for upload in mine:
        assert context.uploads.get(upload.id, SAM.identity, clock.now) is upload


def test_the_idlest_upload_of_a_killed_sealer_gives_way_to_its_next(context: Context, clock: Clock) -> None:
    theirs = begin_another(context, OTHER)
    mine = []
    for _ in range(4):
        clock.now += 10
        mine.append(begin_another(context))
        uploads.write(context, SAM, mine[-1].id, DIGESTS, 0, bytes(32))
        uploads.finish_blob(context, SAM, mine[-1].id, DIGESTS)
    clock.now += 3600
    uploads.write(context, SAM, mine[0].id, (0, False), 0, bytes(1))
    new = begin_another(context)
    with pytest.raises(NotFoundError):
        context.uploads.get(mine[1].id, SAM.identity, clock.now)
    assert list(context.store.list(version_prefix(mine[1].vid))) == []
    for upload, peer in ((theirs, OTHER), (mine[0], SAM), (mine[2], SAM), (mine[3], SAM), (new, SAM)):
        assert context.uploads.get(upload.id, peer.identity, clock.now) is upload
    with pytest.raises(UnavailableError, match="too many"):
        begin_another(context)  # all have been heard of now


def test_begun_again_it_ends_no_other_and_is_not_idle(context: Context, clock: Clock) -> None:
    mine = [begin(context), *(begin_another(context) for _ in range(3))]
    clock.now += 3600
    assert begin(context) is mine[0]
    begin_another(context)
    with pytest.raises(NotFoundError):
        context.uploads.get(mine[1].id, SAM.identity, clock.now)
    for upload in (mine[0], *mine[2:]):
        assert context.uploads.get(upload.id, SAM.identity, clock.now) is upload
