"""The digest of a policy bundle."""

import hashlib

import pytest

from custody.errors import FormatError
from custody.rules.bundle import bundle_digest


def test_the_digest_is_over_names_and_bytes_sorted_by_name() -> None:
    expected = hashlib.sha256()
    for part in (b"a.cedar", b"permit", b"b", b""):
        expected.update(len(part).to_bytes(8, "big") + part)
    assert bundle_digest({"b": b"", "a.cedar": b"permit"}) == expected.hexdigest()


def test_moving_bytes_between_names_and_files_changes_the_digest() -> None:
    digests = [
        bundle_digest(files)
        for files in ({"a": b"xy"}, {"ax": b"y"}, {"a": b"x", "y": b""}, {"a": b"", "x": b"y"}, {"a": b"xy", "z": b""})
    ]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "é", "a\nb", "x" * 101])
def test_what_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(FormatError, match="is not a file name"):
        bundle_digest({name: b""})


def test_an_empty_bundle_is_refused() -> None:
    with pytest.raises(FormatError, match="holds no file"):
        bundle_digest({})
