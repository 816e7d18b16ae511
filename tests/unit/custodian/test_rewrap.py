"""A share is wrapped anew only if it is the one that was dealt; and it is in the clear only in a process that ends."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from custody.crypto import hpke
from custody.crypto.secret import SecretBytes
from custody.crypto.sharing import share_commitment
from custody.custodian.rewrap import rewrap_aside
from custody.custodian.rewrap_child import Job, Target, read_exactly, rewrap
from custody.errors import FormatError, IntegrityError, UnavailableError

VID = b"v" * 32
DEVICE, SHARING = b"d" * 32, b"s" * 32
INFO = hpke.wrap_info(SHARING, 0, 2, DEVICE)
RELEASE = hpke.release_info(b"r" * 32, b"t" * 32, b"k" * 32, SHARING, 0, 2, DEVICE)


@dataclass
class Keys:
    own: SecretBytes
    broker: SecretBytes
    share: SecretBytes

    def job(self, **changes: Any) -> Job:
        job = Job(
            vid=VID,
            group=0,
            index=2,
            commitment=share_commitment(VID, 0, 2, self.share.view),
            info=INFO,
            wrapped=hpke.seal(hpke.public_key(self.own), INFO, self.share.view),
            targets=(Target(hpke.public_key(self.broker), RELEASE),),
        )
        return msgspec.structs.replace(job, **changes)

    def opened(self, wrapped: bytes, info: bytes = RELEASE) -> bytes:
        with SecretBytes(32) as y:
            hpke.open_into(self.broker, info, wrapped, y)
            return bytes(y.view)


@pytest.fixture
def keys() -> Iterator[Keys]:
    with (
        SecretBytes.take(bytearray(b"o" * 32)) as own,
        SecretBytes.take(bytearray(b"b" * 32)) as broker,
        SecretBytes.take(bytearray(range(32))) as share,
    ):
        yield Keys(own, broker, share)


def test_the_share_arrives_at_the_release_key_for_exactly_what_was_meant(keys: Keys) -> None:
    (wrapped,) = rewrap(keys.job(), keys.own)
    assert keys.opened(wrapped) == bytes(keys.share.view)
    with pytest.raises(IntegrityError):
        keys.opened(wrapped, hpke.release_info(b"R" * 32, b"t" * 32, b"k" * 32, SHARING, 0, 2, DEVICE))


def test_a_share_that_is_not_the_committed_one_goes_nowhere(keys: Keys) -> None:
    with pytest.raises(IntegrityError, match=r"slot 0/2 is not the one that the sealer committed to"):
        rewrap(keys.job(commitment=share_commitment(VID, 0, 2, bytes(32))), keys.own)


@pytest.mark.parametrize(
    "info",
    [
        hpke.wrap_info(SHARING, 0, 1, DEVICE),
        hpke.wrap_info(SHARING, 1, 2, DEVICE),
        hpke.wrap_info(b"S" * 32, 0, 2, DEVICE),
        hpke.wrap_info(SHARING, 0, 2, b"D" * 32),
    ],
    ids=["another slot", "another group", "another sharing", "another device"],
)
def test_a_wrap_made_for_something_else_does_not_open(keys: Keys, info: bytes) -> None:
    wrapped = hpke.seal(hpke.public_key(keys.own), info, keys.share.view)
    with pytest.raises(IntegrityError, match="does not open"):
        rewrap(keys.job(wrapped=wrapped), keys.own)


def test_another_persons_wrap_does_not_open(keys: Keys) -> None:
    wrapped = hpke.seal(hpke.public_key(keys.broker), INFO, keys.share.view)
    with pytest.raises(IntegrityError, match="does not open"):
        rewrap(keys.job(wrapped=wrapped), keys.own)


def test_a_release_key_that_is_none_is_refused(keys: Keys) -> None:
    with pytest.raises(FormatError, match="X-Wing public key"):
        rewrap(keys.job(targets=(Target(b"\xff" * 1216, RELEASE),)), keys.own)


def test_the_child_process_does_the_same(keys: Keys) -> None:
    (wrapped,) = rewrap_aside(keys.job(), keys.own)
    assert keys.opened(wrapped) == bytes(keys.share.view)


def test_the_child_process_says_what_is_wrong(keys: Keys) -> None:
    with pytest.raises(IntegrityError, match="not the one that the sealer committed to"):
        rewrap_aside(keys.job(commitment=bytes(32)), keys.own)


def test_a_child_that_dies_leaves_an_error_and_no_process(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    spawn = subprocess.Popen

    def dying(*_: object, **settings: Any) -> "subprocess.Popen[bytes]":
        started.append(spawn([sys.executable, "-c", "import sys; sys.stdin.buffer.read(9)"], **settings))
        return started[-1]

    monkeypatch.setattr("custody.custodian.rewrap.subprocess.Popen", dying)
    with pytest.raises(UnavailableError, match="ended without an answer"):
        rewrap_aside(keys.job(), keys.own)
    assert started[0].poll() is not None


def test_an_answer_of_another_length_is_not_believed(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    spawn = subprocess.Popen
    program = (
        "import struct, sys; sys.stdin.buffer.read(9);"
        "d = b'{\"wrapped\": []}'; sys.stdout.buffer.write(struct.pack('>I', len(d)) + d); sys.stdout.flush();"
        "sys.stdin.buffer.read()"
    )
    answering = [sys.executable, "-c", program]
    monkeypatch.setattr(
        "custody.custodian.rewrap.subprocess.Popen", lambda *_, **settings: spawn(answering, **settings)
    )
    with pytest.raises(IntegrityError, match="answered something else"):
        rewrap_aside(keys.job(), keys.own)


def test_a_pipe_that_closes_early_is_an_error() -> None:
    import os

    reader, writer = os.pipe()
    os.write(writer, b"ab")
    os.close(writer)
    with pytest.raises(FormatError, match="closed the pipe"):
        read_exactly(reader, 3)
    os.close(reader)
