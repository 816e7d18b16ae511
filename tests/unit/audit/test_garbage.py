"""Whatever lies in the log's directory, an audit ends with a report or a ``CustodyError``; one wrong byte is not OK."""

from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from custody.audit.saved import Saved
from custody.errors import CustodyError, FormatError
from tests.unit.audit.published import Published
from tests.unit.rules.test_honest_history import whole

WHOLE = whole()
HONEST = Published.each(WHOLE)
PATHS = sorted(HONEST.files)


def copy(log: Published) -> Published:
    return Published(WHOLE, dict(log.files), log.entries, log.tree)


@given(path=st.sampled_from(PATHS), place=st.integers(0, 2**20), bit=st.integers(0, 7), listed=st.booleans())
@example(path="checkpoint", place=1073, bit=2, listed=False)
def test_one_flipped_bit_anywhere_is_found(path: str, place: int, bit: int, listed: bool) -> None:  # noqa: FBT001
    log = copy(HONEST)
    data = bytearray(log.files[path])
    data[place % len(data)] ^= 1 << bit
    log.files[path] = bytes(data)
    report = log.audit(listed=listed)
    old = path.startswith(("documents/0", "tile/")) and not path.endswith(
        ".p/41"
    )  # nobody needs it any more, nor finds it unlisted
    assert report.ok == (old and not listed)


PLACES = [*PATHS, "checkpoints/99", "checkpoints/007", "tile/0/000"]


@given(
    changes=st.dictionaries(st.sampled_from(PLACES), st.none() | st.binary(max_size=300), max_size=4),
    swap=st.none() | st.tuples(st.sampled_from(PATHS), st.sampled_from(PATHS)),
    listed=st.booleans(),
)
def test_garbage_anywhere_ends_in_a_report_or_an_error_of_ours(
    changes: dict[str, bytes | None],
    swap: tuple[str, str] | None,
    listed: bool,  # noqa: FBT001
) -> None:
    log = copy(HONEST)
    for path, data in changes.items():
        log.files.pop(path, None)
        if data is not None:
            log.files[path] = data
    if swap is not None and swap[0] in log.files:
        log.files[swap[1]] = log.files[swap[0]]
    with suppress(CustodyError):
        report = log.audit(listed=listed)
        assert report.ok == (report.found == 0 and report.audited == report.size)
        assert len(report.findings) <= report.found


@given(st.binary(max_size=400))
def test_a_saved_state_is_parsed_or_refused(data: bytes) -> None:
    with suppress(FormatError):
        assert Saved.parse(data, "state").encode().removesuffix(b"\n") == data.removesuffix(b"\n")


def test_a_saved_state_comes_back() -> None:
    assert Saved.parse(HONEST.saved().encode(), "state") == HONEST.saved()
