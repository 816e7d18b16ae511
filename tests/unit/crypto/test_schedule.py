import hmac

import pytest

from custody.crypto import schedule
from custody.crypto.encoding import lp, u64
from custody.crypto.secret import SecretBytes
from custody.errors import IntegrityError

VID = bytes(range(32))


def key(deployment: str = "example.org/custody", version: str = "frontier/llm@2", vid: bytes = VID) -> SecretBytes:
    with SecretBytes.take(bytearray(b"\x05" * 32)) as s:
        return schedule.version_key(s, vid, deployment, version)


def content(secret: SecretBytes) -> bytes:
    return bytes(secret.view)


def expand(prk: bytes, info: bytes, size: int) -> bytes:
    return hmac.digest(prk, info + b"\1", "sha512")[:size]


def test_the_schedule_is_hkdf_as_written_by_hand() -> None:
    info = lp(b"custody/v1/version") + lp(b"example.org/custody") + lp(b"frontier/llm@2")
    expected = expand(hmac.digest(VID, b"\x05" * 32, "sha512"), info, 64)
    made = key()
    assert bytes(made.view) == expected
    assert schedule.key_commit(made) == expand(expected, lp(b"custody/v1/commit"), 32)
    assert content(schedule.file_key(made, 3)) == expand(expected, lp(b"custody/v1/file") + u64(3), 32)
    assert content(schedule.digest_key(made, 3)) == expand(expected, lp(b"custody/v1/digest") + u64(3), 32)


def test_no_two_keys_of_one_version_are_equal() -> None:
    made = key()
    keys = {content(derive(made, j)) for derive in (schedule.file_key, schedule.digest_key) for j in range(9)}
    assert len(keys) == 18


def test_another_deployment_version_or_vid_gives_another_key() -> None:
    keys = {
        schedule.key_commit(made)
        for made in (key(), key(deployment="staging.example.org"), key(version="frontier/llm@3"), key(vid=bytes(32)))
    }
    assert len(keys) == 4


def test_deployment_and_version_cannot_be_shifted_into_each_other() -> None:
    assert schedule.key_commit(key("ab", "c@1")) != schedule.key_commit(key("a", "bc@1"))


def test_a_key_commit_of_another_key_is_refused() -> None:
    made = key()
    schedule.check_commit(made, schedule.key_commit(made))
    for wrong in (schedule.key_commit(key(version="frontier/llm@3")), bytes(32), schedule.key_commit(made)[:31], b""):
        with pytest.raises(IntegrityError, match="key_commit"):
            schedule.check_commit(made, wrong)


def test_sizes_are_the_callers_business_to_get_right() -> None:
    with pytest.raises(ValueError):
        schedule.version_key(SecretBytes(31), VID, "d", "v@1")
    with pytest.raises(ValueError):
        schedule.version_key(SecretBytes(32), VID[:31], "d", "v@1")
    with pytest.raises(ValueError):
        schedule.file_key(SecretBytes(32), 0)
    with pytest.raises(ValueError):
        schedule.file_key(SecretBytes(64), -1)
