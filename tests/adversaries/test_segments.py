"""Whoever writes the store, or kept a file key: what they put there is refused, the file and the segment named."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from custody.app.sealing import Sealed
from custody.crypto.floe import HEADER_SIZE
from custody.crypto.secret import SecretBytes
from custody.errors import CustodyError, IntegrityError, NotFoundError
from custody.segments.layout import FilePlan
from custody.segments.open import SegmentChecker
from custody.values import U64
from custody.wire.messages import OpenReply
from tests.doubles import malice
from tests.doubles.site import Site

SEGMENT = 1 << 16
STORED = SEGMENT + 32


@pytest.fixture(scope="module")
def lease(site: Site, sealed: Sealed) -> str:
    """A lease with sessions enough for every test here."""
    size = sealed.content.size
    return site.granted(sealed, sessions=U64(100), bytes=U64(100 * size))[1]


@pytest.fixture(scope="module")
def other(site: Site, source: Path, fresh: Callable[[str], str]) -> Sealed:
    """Another version of the same files: same sizes, other keys."""
    version = site.seal(source, fresh("other"))
    site.register(version)
    return version


@dataclass(frozen=True)
class Target:
    """A stored file that reads well until somebody tampers with it."""

    site: Site
    sealed: Sealed
    lease: str
    path: Path

    def read(self) -> bytes:
        """Read it in a session of its own."""
        with self.site.calls("job") as job:
            session = self.site.open(job, self.sealed, self.lease).session
            try:
                return self.site.read(job, session, 1)
            finally:
                job.close_session(session)


@pytest.fixture
def target(site: Site, sealed: Sealed, lease: str, source: Path) -> Iterator[Target]:
    """File 1, which reads well; put back afterwards."""
    target = Target(site, sealed, lease, malice.stored(site, sealed, "1.floe"))
    whole = target.path.read_bytes()
    assert target.read() == (source / "weights.bin").read_bytes()
    yield target
    target.path.unlink(missing_ok=True)
    target.path.write_bytes(whole)


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
        pytest.param(lambda data: swap(data, 0, 2), "segment 0: authentication failed", id="reorder"),
        pytest.param(lambda data: copy(data, 1, 2), "segment 2: authentication failed", id="duplicate"),
        pytest.param(lambda data: drop(data, 1), "segment 2 is cut off", id="drop"),
        pytest.param(lambda data: data.__delitem__(slice(-1, None)), "segment 3 is cut off", id="truncate by a byte"),
        pytest.param(lambda data: data.__delitem__(slot(3)), "segment 3 is cut off", id="truncate by a segment"),
        pytest.param(bytearray.clear, "segment 0 is cut off", id="empty"),
        pytest.param(lambda data: data.extend(data[slot(0)]), "segment 3 is not the end", id="append a segment"),
        pytest.param(lambda data: flip(data, HEADER_SIZE + 20), "segment 0: authentication failed", id="flip a bit"),
        pytest.param(lambda data: flip(data, 40), "FLOE header", id="flip a bit of the header"),
    ],
)
def test_segment_games(target: Target, tamper: Callable[[bytearray], None], match: str) -> None:
    data = bytearray(target.path.read_bytes())
    tamper(data)
    target.path.write_bytes(data)
    with pytest.raises(IntegrityError, match=rf"weights\.bin: {match}"):
        target.read()


@pytest.mark.parametrize("part", ["the whole file", "the header", "a segment"])
def test_a_file_of_another_version(site: Site, other: Sealed, target: Target, part: str) -> None:
    foreign = malice.stored(site, other, "1.floe").read_bytes()
    own = target.path.read_bytes()
    assert len(foreign) == len(own)
    swapped = {
        "the whole file": foreign,
        "the header": foreign[:HEADER_SIZE] + own[HEADER_SIZE:],
        "a segment": own[: slot(2).start] + foreign[slot(2)] + own[slot(3).start :],
    }
    target.path.write_bytes(swapped[part])
    match = "segment 2: authentication failed" if part == "a segment" else "FLOE header"
    with pytest.raises(IntegrityError, match=rf"weights\.bin: {match}"):
        target.read()


def test_files_replaced_while_they_are_read(site: Site, sealed: Sealed, other: Sealed, target: Target) -> None:
    """The header was good; then the bytes under it become another version's."""
    lease = site.granted(sealed)[1]
    with site.calls("job") as job:
        session = site.open(job, sealed, lease).session
        first = [piece.data for piece in job.read(session, 1, 0, 1)]
        shutil.copyfile(malice.stored(site, other, "1.floe"), target.path)  # in place: the same file for the broker
        with pytest.raises(IntegrityError, match="segment 1: authentication failed"):
            list(job.read(session, 1, 1, 1))
    assert first


def test_a_link_that_leads_out_of_the_store(site: Site, target: Target) -> None:
    outside = site.directory / "outside.floe"
    shutil.copy(target.path, outside)
    target.path.unlink()
    target.path.symlink_to(outside)
    with pytest.raises(CustodyError, match=r"1\.floe"):
        target.read()


def test_a_file_that_is_gone(target: Target) -> None:
    target.path.unlink()
    with pytest.raises(NotFoundError, match=r"1\.floe"):
        target.read()


def checker(sealed: Sealed, opened: OpenReply, digest_list: bytes) -> SegmentChecker:
    """The job's side."""
    key = SecretBytes.take(bytearray(opened.digest_keys[1]))
    return SegmentChecker(FilePlan.of(sealed.content, 1), key, digest_list, sealed.content.files[1].digests)


def test_a_segment_forged_with_the_file_key(site: Site, sealed: Sealed, target: Target, source: Path) -> None:
    """A former job kept the file key. The broker cannot tell; the job's digest check does, and wipes its buffer."""
    genuine = (source / "weights.bin").read_bytes()
    target.path.write_bytes(malice.forge(site, sealed, 1, 2, b"backdoor"))
    with site.calls("job") as job:
        opened = site.open(job, sealed, target.lease)
        served = bytearray(site.read(job, opened.session, 1))
        check = checker(sealed, opened, job.read_digests(opened.session, 1))
        job.close_session(opened.session)
    assert served[2 * SEGMENT :].startswith(b"backdoor")  # the tag is good
    pieces = [memoryview(served)[i * SEGMENT : (i + 1) * SEGMENT] for i in range(4)]
    for i in (0, 1, 3):
        check.check(i, pieces[i])
        assert pieces[i] == genuine[i * SEGMENT : (i + 1) * SEGMENT]
    with pytest.raises(IntegrityError, match=r"weights\.bin: segment 2: not the plaintext that was sealed"):
        check.check(2, pieces[2])
    assert pieces[2] == bytes(SEGMENT)


def test_another_digest_list(site: Site, sealed: Sealed, other: Sealed, lease: str) -> None:
    path = malice.stored(site, sealed, "1.digests")
    honest = path.read_bytes()
    for lying in (malice.stored(site, other, "1.digests").read_bytes(), honest[::-1], bytes(128)):
        path.write_bytes(lying)
        with site.calls("job") as job:
            opened = site.open(job, sealed, lease)
            served = job.read_digests(opened.session, 1)
            with pytest.raises(IntegrityError, match="digest list"):
                checker(sealed, opened, served)
            job.close_session(opened.session)
    path.write_bytes(honest)


def test_wraps_of_another_version_beside_the_ciphertext(site: Site, sealed: Sealed, other: Sealed) -> None:
    """Another manifest is refused by the broker; other wraps in it open for no custodian."""
    path = malice.stored(site, sealed, "manifest.json")
    honest = path.read_bytes()
    with site.calls("alice") as alice:
        wrap = alice.get_version(sealed.content.version).wraps[0]
        path.write_bytes(malice.stored(site, other, "manifest.json").read_bytes())
        with pytest.raises(IntegrityError, match="not the one that was logged"):
            alice.get_version(sealed.content.version)
        path.write_bytes(honest)
        assert alice.get_version(sealed.content.version).wraps[0] == wrap
