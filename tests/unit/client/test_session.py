"""Sessions end to end over an honest broker and lying ones: every byte is the sealer's, or nothing is returned."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from custody.client.session import FileInfo
from custody.errors import (
    ConfigError,
    CustodyError,
    DeniedError,
    FormatError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from custody.values import U64
from custody.wire.v1 import broker_pb2 as pb
from tests.unit.client.broker import FILES, SEGMENT, Broker
from tests.unit.custodian.counter import raising

BIG = "weights/0.bin"
SIZE = sum(FILES.values())


def test_a_session_lists_its_files_and_reads_them_whole_and_in_part(broker: Broker) -> None:
    with broker.lease().open() as session:
        assert session.files == tuple(FileInfo(path, size) for path, size in sorted(FILES.items()))
        assert session.read("config.json", 0, 10) == broker.plain["config.json"][:10]
        buffer = bytearray(FILES[BIG])
        assert session.readinto(BIG, buffer) == len(buffer)
        assert bytes(buffer) == broker.plain[BIG]
        assert session.read("empty") == b""
        assert session.size("empty") == 0


def test_leaving_the_session_logs_what_was_served_and_wipes_the_keys(broker: Broker) -> None:
    with broker.lease().open() as session:
        session.read("config.json")
        keys = list(session._live._opened.digest_keys.values())
    assert all(key.closed for key in keys)
    assert broker.case.found.spent == FILES["config.json"]
    (evidence,) = session.receipts
    assert evidence.outcome is not None
    session.close()
    with pytest.raises(ValueError, match="closed"):
        session.read("config.json", 0, 1)


@pytest.mark.parametrize("offset", [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT + 5])
@pytest.mark.parametrize("length", [0, 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT - 1])
def test_any_range_is_the_plaintexts(broker: Broker, offset: int, length: int) -> None:
    length = min(length, FILES[BIG] - offset)
    with broker.lease().open() as session:
        assert session.read(BIG, offset, length) == broker.plain[BIG][offset : offset + length]


def test_consecutive_ranges_spend_each_segment_once(broker: Broker) -> None:
    """As a loader of safetensors reads: the header first, then tensor after tensor, none at a segment's boundary."""
    with broker.lease().open(bytes=FILES[BIG]) as session:
        parts, offset = [], 0
        for length in (8, 100, 3000, 5000, SEGMENT, FILES[BIG] - 8 - 100 - 3000 - 5000 - SEGMENT):
            parts.append(session.read(BIG, offset, length))
            offset += length
        assert b"".join(parts) == broker.plain[BIG]
    assert broker.case.found.spent == FILES[BIG]


def test_a_range_outside_the_file_is_refused(broker: Broker) -> None:
    with broker.lease().open() as session:
        for offset, length in ((-1, 2), (0, FILES[BIG] + 1), (FILES[BIG], 1)):
            with pytest.raises(FormatError, match="asked, it has"):
                session.readinto(BIG, bytearray(length), offset)
        with pytest.raises(NotFoundError, match="no file 'nope'"):
            session.read("nope")


def test_only_some_files(broker: Broker) -> None:
    with broker.lease().open(["weights/*"]) as session:
        assert [file.path for file in session.files] == ["weights/0.bin", "weights/1.bin"]
        with pytest.raises(NotFoundError):
            session.read("config.json")


def test_many_threads_read_at_once(broker: Broker) -> None:
    wrong: list[str] = []
    with broker.lease().open() as session:

        def read(path: str) -> None:
            if session.read(path) != broker.plain[path]:
                wrong.append(path)

        threads = [threading.Thread(target=read, args=(path,)) for path in FILES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


# -------------------------------------------------------------------------------------------------------- other weights


def _tampered(broker: Broker, change: Callable[[pb.Segment], pb.Segment]) -> None:
    honest = broker.read_within

    def lying(*arguments: Any) -> Iterator[pb.Segment]:
        for piece in honest(*arguments):
            yield change(piece)

    broker.lie("read_within", lying)


def _flip(piece: pb.Segment) -> pb.Segment:
    piece.data = bytes([piece.data[0] ^ 1]) + piece.data[1:]
    return piece


def test_weights_that_decrypt_but_are_not_the_sealers_are_refused_and_the_buffer_is_wiped(broker: Broker) -> None:
    _tampered(broker, lambda piece: _flip(piece) if piece.segment == 2 else piece)
    buffer = bytearray(b"\xaa" * FILES[BIG])
    with broker.lease().open() as session, pytest.raises(IntegrityError, match=r"weights/0.bin: segment 2"):
        session.readinto(BIG, buffer)
    assert buffer == bytearray(len(buffer))


def test_a_part_of_a_segment_is_checked_as_a_whole(broker: Broker) -> None:
    """The bytes asked for are right; another one of their segment is not."""
    _tampered(broker, lambda piece: _flip(piece) if piece.offset else piece)
    with broker.lease().open() as session, pytest.raises(IntegrityError):
        session.read(BIG, 0, 8)


def _moved(piece: pb.Segment) -> pb.Segment:
    piece.segment += 1
    return piece


def _shifted(piece: pb.Segment) -> pb.Segment:
    piece.offset += 1
    return piece


def _longer(piece: pb.Segment) -> pb.Segment:
    piece.data += b"x" * SEGMENT
    return piece


def _emptied(piece: pb.Segment) -> pb.Segment:
    piece.data = b""
    return piece


@pytest.mark.parametrize("change", [_moved, _shifted, _longer, _emptied])
def test_pieces_out_of_place_are_refused(broker: Broker, change: Callable[[pb.Segment], pb.Segment]) -> None:
    _tampered(broker, change)
    with broker.lease().open() as session, pytest.raises(IntegrityError, match="the broker sent"):
        session.read(BIG)


def test_segments_of_another_file_are_refused(broker: Broker) -> None:
    honest = broker.read_within
    broker.lie("read_within", lambda session, file, *rest: honest(session, 3 if file == 2 else file, *rest))
    with broker.lease().open() as session, pytest.raises(IntegrityError):
        session.read(BIG, 0, 2 * SEGMENT)


def test_another_digest_list_is_refused_before_any_segment(broker: Broker) -> None:
    broker.lists[2] = broker.lists[2][32:] + broker.lists[2][:32]
    broker.lie("read_within", lambda *_: pytest.fail("a segment was asked for"))
    with broker.lease().open() as session, pytest.raises(IntegrityError, match="digest list"):
        session.read(BIG)


def test_another_digest_key_lets_no_segment_pass(broker: Broker) -> None:
    broker.keys[2] = bytes(32)
    with broker.lease().open() as session, pytest.raises(IntegrityError, match="segment 0"):
        session.read(BIG)


def test_a_lease_of_another_content_than_the_pinned_one_is_refused(broker: Broker) -> None:
    with pytest.raises(IntegrityError, match="is pinned"):
        broker.lease().open(content="ab" * 32)
    assert broker.asked == []
    with broker.lease().open(content=broker.content.digest):
        pass


def test_a_lease_of_another_content_than_the_logs_is_refused(broker: Broker) -> None:
    """The version's entry in the log is of other weights than the lease says."""
    lease = broker.lease()
    other = broker.world.content("demo/other@1")
    sharing = broker.world.sharing(other)
    broker.world.log_manifest(broker.world.sign(other, "sam"), broker.world.sign(sharing, "sam"))
    broker.lie("get_version", lambda _: replace(broker.log.version("demo/other@1"), version="demo/tiny@1"))
    with pytest.raises(IntegrityError):
        lease.open()
    assert broker.asked == []


# ------------------------------------------------------------------------------------------------------------- mending


def test_a_stream_that_breaks_goes_on_at_the_first_missing_segment(broker: Broker) -> None:
    broker.breaks = [3, 1]
    with broker.lease().open() as session:
        assert session.read(BIG) == broker.plain[BIG]
    assert broker.asked == ["open"]
    assert broker.connections == 3  # a new one after each break


def test_a_session_lost_with_the_brokers_process_is_opened_again(broker: Broker) -> None:
    told: list[str] = []
    with broker.lease().open(note=told.append) as session:
        session.read("config.json")
        broker.restart()
        assert session.read(BIG) == broker.plain[BIG]
        assert len(session.receipts) == 2
    assert broker.asked == ["open", "open"]
    assert any("opening another" in line for line in told)


def test_a_file_that_was_being_read_when_the_session_was_lost_is_read_on(broker: Broker) -> None:
    honest = broker.read_within
    streams: list[int] = []

    def dying(*arguments: Any) -> Iterator[pb.Segment]:
        streams.append(1)
        for place, piece in enumerate(honest(*arguments)):
            if len(streams) == 1 and place == 3:
                broker.restart()
                raise UnavailableError("the connection broke")
            yield piece

    broker.lie("read_within", dying)
    with broker.lease().open() as session:
        assert session.read(BIG) == broker.plain[BIG]
        assert len(session.receipts) == 2
    assert broker.asked == ["open", "open"]


def test_a_session_opened_again_asks_for_the_remaining_bytes_only(broker: Broker) -> None:
    with broker.lease().open() as session:
        session.read("config.json")
        broker.restart()
        session.read("weights/1.bin")
        (live,) = broker.sessions.values()
        assert live.left == SIZE - FILES["config.json"] - FILES["weights/1.bin"]


def test_shares_that_a_restarted_broker_lacks_are_waited_for(broker: Broker) -> None:
    told: list[str] = []
    with broker.lease().open(note=told.append) as session:
        broker.restart(shares=False)
        sleep = broker.clock.sleep

        def later(seconds: float) -> None:
            sleep(seconds)
            if broker.clock.passed > 60 and broker.case.found.phase == "granted":
                broker.unlock()

        broker.clock.sleep = later  # type: ignore[method-assign]
        session._live._link.around = broker.clock.surroundings()
        assert session.read("config.json") == broker.plain["config.json"]
    assert 60 < broker.clock.passed < 900
    assert any("waiting" in line for line in told)


def test_patience_ends(broker: Broker) -> None:
    broker.lie("read_within", raising(UnavailableError("the connection broke")))
    with broker.lease().open(patience=30) as session, pytest.raises(UnavailableError, match="the connection broke"):
        session.read(BIG)
    assert 25 < broker.clock.passed < 61


def test_patience_ends_with_the_lease(broker: Broker) -> None:
    with broker.lease().open(patience=10**9) as session:
        broker.lie("read_within", raising(UnavailableError("the connection broke")))
        broker.world.tick(int(broker.lease().terms.not_after) - broker.world.now - 5)
        with pytest.raises(UnavailableError):
            session.read(BIG)
    assert broker.clock.passed < 10


def test_a_revoked_job_is_cut_off_and_told_so(broker: Broker) -> None:
    with broker.lease().open(patience=5) as session:
        session.read("config.json")
        broker.case.log_stop(broker.case.stop("revoke", "erin"), "erin")
        broker.case.close("revoked")
        broker.sessions.clear()
        with pytest.raises(DeniedError):
            session.read(BIG)


def test_a_ceiling_that_the_job_set_is_not_stepped_over_by_opening_again(broker: Broker) -> None:
    with broker.lease().open(bytes=SEGMENT) as session:
        assert session.read(BIG, 0, SEGMENT) == broker.plain[BIG][:SEGMENT]
        with pytest.raises(DeniedError, match="byte budget"):
            session.read(BIG, SEGMENT, SEGMENT)
    assert broker.asked == ["open"]


def test_a_broker_that_never_knows_the_session_does_not_make_it_open_for_ever(broker: Broker) -> None:
    with broker.lease().open() as session:
        broker.lie("read_within", raising(DeniedError("there is no such session")))
        with pytest.raises(CustodyError):
            session.read(BIG)
    assert broker.asked.count("open") <= 4


def test_an_open_whose_answer_was_lost_is_ended_and_done_anew(broker: Broker) -> None:
    honest = broker.open_session
    lost: list[str] = []

    def losing(envelope: Any) -> Any:
        reply = honest(envelope)
        if not lost:
            lost.append(reply.session)
            raise UnavailableError("the answer was lost")
        return reply

    broker.lie("open_session", losing)
    with broker.lease().open() as session:
        assert session.read("config.json") == broker.plain["config.json"]
        assert lost[0] not in broker.sessions
        assert broker.case.found.spent <= SIZE


def test_a_person_cannot_open_a_lease(broker: Broker) -> None:
    from custody.client.identity import DeviceIdentity

    custody = broker.custody(identity=DeviceIdentity("frank", broker.world.devices["frank"]))
    with pytest.raises(ConfigError, match="the lease is for"):
        custody.lease(broker.case.digest).open()


def test_a_lease_is_given_back_at_the_end_when_asked(broker: Broker) -> None:
    with broker.lease().open(return_lease=True) as session:
        session.read("config.json")
    assert broker.case.found.stopped == "returned"
    assert broker.asked == ["open", "stop"]


@pytest.mark.parametrize("ceiling", [0, -1])
def test_a_ceiling_of_nothing_is_refused(broker: Broker, ceiling: int) -> None:
    with pytest.raises(FormatError, match="more than zero"):
        broker.lease().open(bytes=ceiling)


def test_the_ceiling_is_the_sessions_share_of_the_lease(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "tls", sessions=U64(3), bytes=U64(3 * SIZE - 30))
    with broker.lease().open(["config.json"]):
        (live,) = broker.sessions.values()
        assert live.left == SIZE - 10


def test_a_lease_that_was_just_looked_at_is_not_asked_about_again(broker: Broker) -> None:
    lease = broker.lease()
    broker.lie("get_request", raising(UnavailableError("nobody should ask")))
    with lease.open() as session:
        assert session.read("config.json") == broker.plain["config.json"]


def test_what_others_spent_since_the_lease_was_found_is_left_to_them(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "tls", sessions=U64(2), bytes=U64(SIZE + SEGMENT))
    late = broker.lease()
    with broker.lease().open(bytes=2 * SEGMENT) as session:
        session.read(BIG, 0, 2 * SEGMENT)
        with late.open() as other:
            assert other.read("config.json") == broker.plain["config.json"]
            ceilings = [live.left for live in broker.sessions.values()]
    assert ceilings[1] == SIZE + SEGMENT - 2 * SEGMENT - len(broker.plain["config.json"])
