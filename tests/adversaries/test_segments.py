"""Whoever writes the store, or kept a file key: what they put there is refused, the file and the segment named."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from custody.app.sealing import Sealed
from custody.client import Custody, Session
from custody.crypto.floe import HEADER_SIZE
from custody.errors import CustodyError, IntegrityError, NotFoundError
from custody.values import U64
from tests.adversaries.conftest import STORES
from tests.doubles import malice
from tests.doubles.direct import DirectSite

SEGMENT = 1 << 16
STORED = SEGMENT + 32


@pytest.fixture(
    scope="module", params=[(mode, store) for store in STORES for mode in ("stream", "direct")], ids="-".join
)
def ground(request: pytest.FixtureRequest) -> tuple[str, str]:
    """How the job gets its bytes, and what the store is."""
    mode, store = request.param
    return mode, store


@pytest.fixture(scope="module")
def mode(ground: tuple[str, str]) -> str:
    return ground[0]


@pytest.fixture(scope="module")
def site(ground: tuple[str, str], sites: Callable[[str], DirectSite]) -> DirectSite:
    return sites(ground[1])


@pytest.fixture(scope="module")
def lease(site: DirectSite, sealed: Sealed, mode: str) -> str:
    """A lease with sessions enough for every test here."""
    return site.granted(sealed, sessions=U64(100), bytes=U64(100 * sealed.content.size), mode=mode)[1]


@pytest.fixture(scope="module")
def custody(site: DirectSite) -> Iterator[Custody]:
    """The job's program."""
    with site.job() as custody:
        yield custody


@pytest.fixture(scope="module")
def other(site: DirectSite, source: Path, fresh: Callable[[str], str]) -> Sealed:
    """Another version of the same files: same sizes, other keys."""
    version = site.seal(source, fresh("other"))
    site.register(version)
    return version


@dataclass(frozen=True)
class Target:
    """A stored file that reads well until somebody tampers with it."""

    custody: Custody
    lease: str
    blob: malice.Stored

    def read(self) -> bytes:
        """Read it in a session of its own. A buffer whose bytes are refused is wiped."""
        with self.custody.lease(self.lease).open(patience=0) as session:
            return self.read_in(session)

    @staticmethod
    def read_in(session: Session, offset: int = 0) -> bytes:
        """Read it from a byte on."""
        out = bytearray(b"?" * (session.size("weights.bin") - offset))
        try:
            session.readinto("weights.bin", out, offset)
        except CustodyError:
            assert out in (bytes(len(out)), b"?" * len(out))  # refused before it was given, or wiped
            raise
        return bytes(out)


@pytest.fixture
def target(site: DirectSite, sealed: Sealed, lease: str, source: Path, custody: Custody) -> Iterator[Target]:
    """File 1, which reads well; put back afterwards."""
    target = Target(custody, lease, malice.stored(site, sealed, "1.floe"))
    whole = target.blob.read()
    assert target.read() == (source / "weights.bin").read_bytes()
    yield target
    target.blob.write(whole)


def slot(i: int) -> slice:
    return slice(HEADER_SIZE + i * STORED, HEADER_SIZE + (i + 1) * STORED)


def swap(data: bytearray, i: int, k: int) -> None:
    data[slot(i)], data[slot(k)] = data[slot(k)], data[slot(i)]


def copy(data: bytearray, i: int, k: int) -> None:
    data[slot(k)] = data[slot(i)]


def drop(data: bytearray, i: int) -> None:
    del data[slot(i)]


def flip(data: bytearray, at: int) -> None:
    data[at] ^= 1


@pytest.mark.parametrize(
    ("tamper", "match"),
    [
        pytest.param(lambda data: swap(data, 0, 2), r"weights\.bin: segment 0: authentication failed", id="reorder"),
        pytest.param(lambda data: copy(data, 1, 2), r"weights\.bin: segment 2: authentication failed", id="duplicate"),
        pytest.param(lambda data: drop(data, 1), r"segment 2 is cut off|bytes, not", id="drop"),
        pytest.param(lambda data: data.__delitem__(slice(-1, None)), r"segment 3 is cut off|bytes, not", id="a byte"),
        pytest.param(lambda data: data.__delitem__(slot(3)), r"segment 3 is cut off|bytes, not", id="a segment"),
        pytest.param(bytearray.clear, r"segment 0 is cut off|bytes, not", id="empty"),
        pytest.param(lambda data: data.extend(data[slot(0)]), r"segment 3 is not the end|bytes, not", id="append"),
        pytest.param(lambda data: flip(data, HEADER_SIZE + 20), r"segment 0: authentication failed", id="flip a bit"),
        pytest.param(lambda data: flip(data, 40), r"weights\.bin: FLOE header", id="flip a bit of the header"),
    ],
)
def test_segment_games(target: Target, tamper: Callable[[bytearray], None], match: str) -> None:
    data = bytearray(target.blob.read())
    tamper(data)
    target.blob.write(bytes(data))
    with pytest.raises(IntegrityError, match=match):
        target.read()


@pytest.mark.parametrize("part", ["the whole file", "the header", "a segment"])
def test_a_file_of_another_version(site: DirectSite, other: Sealed, target: Target, part: str) -> None:
    foreign = malice.stored(site, other, "1.floe").read()
    own = target.blob.read()
    assert len(foreign) == len(own)
    swapped = {
        "the whole file": foreign,
        "the header": foreign[:HEADER_SIZE] + own[HEADER_SIZE:],
        "a segment": own[: slot(2).start] + foreign[slot(2)] + own[slot(3).start :],
    }
    target.blob.write(swapped[part])
    match = "segment 2: authentication failed" if part == "a segment" else "FLOE header"
    with pytest.raises(IntegrityError, match=rf"weights\.bin: {match}"):
        target.read()


def test_files_replaced_while_they_are_read(site: DirectSite, other: Sealed, target: Target, source: Path) -> None:
    """The header was good; then the bytes under it become another version's. What S3 has replaced is gone at once."""
    with target.custody.lease(target.lease).open(patience=0) as session:
        assert session.read("weights.bin", 0, SEGMENT) == (source / "weights.bin").read_bytes()[:SEGMENT]
        target.blob.write(malice.stored(site, other, "1.floe").read())
        error = NotFoundError if site.bucket else IntegrityError
        with pytest.raises((IntegrityError, error), match=r"segment 1: authentication failed|not what it was|version"):
            target.read_in(session, SEGMENT)


@pytest.mark.parametrize(  # a bucket has objects only
    "ground", [("stream", "directory"), ("direct", "directory")], ids="-".join, indirect=True
)
def test_what_lies_in_the_place_of_a_blob_is_not_followed_and_not_waited_for(target: Target, tmp_path: Path) -> None:
    path = target.blob.path
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    with pytest.raises(IntegrityError, match="a link"):
        target.read()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(IntegrityError, match="not a regular file"):
        target.read()


def test_a_file_that_is_gone(target: Target) -> None:
    target.blob.remove()
    with pytest.raises(NotFoundError, match=r"1\.floe"):
        target.read()


def test_a_segment_forged_with_the_file_key(site: DirectSite, sealed: Sealed, target: Target, source: Path) -> None:
    """A former job kept the file key. The tag is good, so a broker cannot tell; the job's digest check does."""
    target.blob.write(malice.forge(site, sealed, 1, 2, b"backdoor"))
    with target.custody.lease(target.lease).open(patience=0) as session:
        assert session.read("weights.bin", 0, SEGMENT) == (source / "weights.bin").read_bytes()[:SEGMENT]
        with pytest.raises(IntegrityError, match=r"weights\.bin: segment 2: not the plaintext that was sealed"):
            target.read_in(session)


def test_another_digest_list(site: DirectSite, sealed: Sealed, other: Sealed, target: Target) -> None:
    blob = malice.stored(site, sealed, "1.digests")
    honest = blob.read()
    for lying in (malice.stored(site, other, "1.digests").read(), honest[::-1], bytes(128), honest[:-32]):
        blob.write(lying)
        with pytest.raises(IntegrityError, match=r"digest|bytes, not"):
            target.read()
    blob.write(honest)


def test_wraps_of_another_version_beside_the_ciphertext(site: DirectSite, sealed: Sealed, other: Sealed) -> None:
    """Another manifest is refused by the broker; other wraps in it open for no custodian."""
    blob = malice.stored(site, sealed, "manifest.json")
    honest = blob.read()
    with site.calls("alice") as alice:
        wrap = alice.get_version(sealed.content.version).wraps[0]
        blob.write(malice.stored(site, other, "manifest.json").read())
        with pytest.raises(IntegrityError, match="not the one that was logged"):
            alice.get_version(sealed.content.version)
        blob.write(honest)
        assert alice.get_version(sealed.content.version).wraps[0] == wrap
