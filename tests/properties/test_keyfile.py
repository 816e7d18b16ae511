"""Whatever bytes stand in a key file: it is parsed to exactly those bytes, or refused with ``FormatError``."""

import json

from hypothesis import given
from hypothesis import strategies as st

from custody.crypto.encoding import b64encode
from custody.crypto.keyfile import KdfParams, KeyFile
from custody.errors import FormatError

labels = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=64)
params = st.builds(
    KdfParams, memory_kib=st.integers(65536, 1 << 20), passes=st.integers(3, 16), lanes=st.integers(4, 16)
)


def sized(n: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=n, max_size=n)


files = st.builds(
    KeyFile,
    ed25519=sized(32),
    xwing=st.binary(min_size=16, max_size=16).map(lambda x: x * 76),
    label=labels,
    params=params,
    salt=sized(16),
    nonce=sized(12),
    commitment=sized(32),
    ciphertext=sized(80),
)


@given(files)
def test_a_file_is_read_as_it_was_written(file: KeyFile) -> None:
    data = file.encode()
    assert KeyFile.parse(data) == file
    assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode() + b"\n"


@given(files, st.data())
def test_a_changed_byte_is_refused_or_is_another_canonical_file(file: KeyFile, data: st.DataObject) -> None:
    raw = bytearray(file.encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = KeyFile.parse(bytes(raw))
    except FormatError:
        return
    assert parsed.encode() == raw


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary().map(b64encode)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))


@given(files, st.data(), values)
def test_any_value_in_any_field_is_refused_or_canonical(file: KeyFile, data: st.DataObject, value: object) -> None:
    found = json.loads(file.encode())
    place = data.draw(st.sampled_from([found, found["kdf"]]))
    place[data.draw(st.sampled_from([*place, "other"]))] = value
    raw = json.dumps(found, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    try:
        assert KeyFile.parse(raw).encode() == raw
    except FormatError:
        return


@given(st.binary(max_size=300))
def test_garbage_is_refused(raw: bytes) -> None:
    try:
        KeyFile.parse(raw)
    except FormatError:
        return
    raise AssertionError("garbage was accepted")
