"""Properties of the log formats: one spelling, no other errors than our own, and no proof survives a changed bit."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody.errors import CustodyError, FormatError, IntegrityError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import MemoryTree, leaf_hash, verify_consistency, verify_inclusion
from custody.tlog.merkle import consistency_proof as prove_growth
from custody.tlog.merkle import inclusion_proof as prove_inclusion
from custody.tlog.note import COSIGNATURE, ED25519, Note, NoteSigner, SignatureLine, VKey, open_note
from custody.tlog.policy import LogKey, Policy, Witness
from custody.tlog.proof import Proof, verify_proof
from custody.tlog.reader import TileReader
from custody.tlog.tiles import ENTRIES, Tile, changed_bundles, changed_tiles, encode_bundle, parse_bundle
from custody.tlog.witness_protocol import AddCheckpoint, update
from tests.doubles.tlog import ORIGIN, TIME, Fetch, Log, log_signer, witness_signer

_LOG = Log(300)
_WITNESS = witness_signer()
_POLICY = Policy((LogKey(log_signer().vkey),), (Witness("w", _WITNESS.vkey),), (), "w")
_NOTE = _LOG.checkpoint(cosigners=[_WITNESS])
_PROOF = _LOG.receipt(77, _NOTE).encode()
_REQUEST = _LOG.request(77).encode()
_LEAF = leaf_hash(_LOG.entries[77])

_HASHES = st.binary(min_size=32, max_size=32)
_SIZES = st.integers(0, 2**63 - 1)
_NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="+"), min_size=1)
_SEEDS = st.binary(min_size=32, max_size=32)

_PARSERS: list[Callable[[bytes], object]] = [
    Note.parse,
    Checkpoint.parse,
    SignatureLine.parse,
    Proof.parse,
    AddCheckpoint.parse,
    Policy.parse,
    lambda data: open_note(data, [_WITNESS.vkey, log_signer().vkey]),
    lambda data: VKey.parse(data.decode("latin-1")),
    lambda data: NoteSigner.parse(data.decode("latin-1")),
    lambda data: Tile.parse(data.decode("latin-1")),
    lambda data: parse_bundle(data, 3),
]


@given(st.sampled_from(_PARSERS), st.binary(max_size=400))
def test_garbage_raises_only_our_own_errors(parse: Callable[[bytes], object], data: bytes) -> None:
    with contextlib.suppress(CustodyError):
        parse(data)


_SAMPLES = [
    _NOTE,
    _PROOF,
    _REQUEST,
    _LOG.head().encode(),
    _POLICY.encode(),
    _WITNESS.vkey.encode().encode(),
    _WITNESS.encode_secret().encode(),
    b"tile/0/x001/x234/067.p/12",
]


@given(
    st.sampled_from(_PARSERS),
    st.sampled_from(_SAMPLES),
    st.integers(0, 10**6),
    st.integers(0, 3),
    st.binary(max_size=6),
)
def test_mutilated_input_raises_only_our_own_errors(
    parse: Callable[[bytes], object], sample: bytes, place: int, cut: int, inserted: bytes
) -> None:
    place %= len(sample)
    with contextlib.suppress(CustodyError):
        parse(sample[:place] + inserted + sample[place + cut :])


@given(st.sampled_from(_SAMPLES), st.integers(0, 10**6), st.integers(0, 3), st.binary(max_size=6))
def test_whatever_parses_has_one_spelling(sample: bytes, place: int, cut: int, inserted: bytes) -> None:
    place %= len(sample)
    data = sample[:place] + inserted + sample[place + cut :]
    for parse in (Note.parse, Checkpoint.parse, Proof.parse, AddCheckpoint.parse):
        try:
            parsed = parse(data)
        except CustodyError:
            continue
        assert parsed.encode() == data


@given(_NAMES, _SIZES, _HASHES)
def test_checkpoints_round_trip(origin: str, size: int, root: bytes) -> None:
    head = Checkpoint(origin, size, root)
    assert Checkpoint.parse(head.encode()) == head


@given(_NAMES, _SEEDS, st.sampled_from([ED25519, COSIGNATURE]), st.integers(1, 2**63 - 1), st.text())
def test_keys_and_signatures_round_trip(name: str, seed: bytes, kind: int, time: int, body: str) -> None:
    signer = NoteSigner(name, kind, seed)
    assert VKey.parse(signer.vkey.encode()) == signer.vkey
    assert NoteSigner.parse(signer.encode_secret()).vkey == signer.vkey
    text = "".join(char for char in body if char >= " ").encode("utf-8", "ignore") + b"\n"
    stated = time if kind == COSIGNATURE else None
    note = text + b"\n" + signer.sign(text, stated)
    assert Note.parse(note).encode() == note
    assert open_note(note, [signer.vkey]).verified == ((signer.vkey, stated),)


@given(st.integers(ENTRIES, 63), _SIZES, st.integers(1, 256))
def test_tile_paths_round_trip(level: int, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert Tile.parse(tile.path()) == tile


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_bundles_round_trip(entries: list[bytes]) -> None:
    data = encode_bundle(entries)
    assert parse_bundle(data, len(entries)) == entries
    with pytest.raises(FormatError):
        parse_bundle(data, len(entries) + 1)


@given(_SIZES, st.lists(_HASHES, max_size=63), st.none() | st.binary(min_size=1))
def test_proofs_round_trip(index: int, hashes: list[bytes], extra: bytes | None) -> None:
    proof = Proof(index, tuple(hashes), _NOTE, extra)
    assert Proof.parse(proof.encode()) == proof


@given(_SIZES, st.lists(_HASHES, max_size=63))
def test_requests_round_trip(old: int, hashes: list[bytes]) -> None:
    request = AddCheckpoint(old, tuple(hashes), _NOTE)
    assert AddCheckpoint.parse(request.encode()) == request


@given(st.integers(0, len(_PROOF) * 8 - 1))
def test_any_flipped_bit_of_a_receipt_is_refused(bit: int) -> None:
    verify_proof(Proof.parse(_PROOF), _LEAF, _POLICY.check)
    data = bytearray(_PROOF)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CustodyError):
        verify_proof(Proof.parse(bytes(data)), _LEAF, _POLICY.check)


@given(st.integers(0, len(_PROOF) - 1))
def test_any_truncated_receipt_is_refused(length: int) -> None:
    with pytest.raises(CustodyError):
        verify_proof(Proof.parse(_PROOF[:length]), _LEAF, _POLICY.check)


@given(st.integers(1, 300), st.data())
def test_inclusion_proofs_verify_and_any_flipped_bit_fails(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    leaf, root = leaf_hash(_LOG.entries[index]), _LOG.tree.root(size)
    proof = prove_inclusion(index, size, _LOG.tree.hash_at)
    verify_inclusion(leaf, index, size, proof, root)
    parts = [leaf, root, *proof]
    which, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    parts[which] = (int.from_bytes(parts[which], "big") ^ 1 << bit).to_bytes(32, "big")
    with pytest.raises(IntegrityError):
        verify_inclusion(parts[0], index, size, parts[2:], parts[1])


@given(st.integers(2, 300), st.data())
def test_consistency_proofs_verify_and_any_flipped_bit_fails(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size - 1))
    proof = prove_growth(old, size, _LOG.tree.hash_at)
    old_root, root = _LOG.tree.root(old), _LOG.tree.root(size)
    verify_consistency(old, size, proof, old_root, root)
    parts = [old_root, root, *proof]
    which, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    parts[which] = (int.from_bytes(parts[which], "big") ^ 1 << bit).to_bytes(32, "big")
    with pytest.raises(IntegrityError):
        verify_consistency(old, size, parts[2:], parts[0], parts[1])


@given(st.integers(-(2**64), 2**64), st.integers(-(2**64), 2**64), st.lists(st.binary(max_size=40), max_size=70))
def test_garbage_proofs_raise_only_integrity_errors(first: int, second: int, proof: list[bytes]) -> None:
    root = _LOG.tree.root()
    with pytest.raises(IntegrityError):
        verify_inclusion(b"\x01" * 32, first, second, proof, root)
    with pytest.raises(IntegrityError):
        verify_consistency(first, second, proof, b"\x01" * 32, root)


@given(st.integers(0, 700), st.integers(0, 700))
def test_a_log_stored_in_steps_is_readable_at_each(first: int, more: int) -> None:
    whole = Log(first + more)
    start = Log(first)
    files = start.files() | whole.files(first)
    for log in (start, whole):
        reader = TileReader(Fetch(files), log.head())
        for index in range(-(-log.tree.size // 256)):
            assert reader.bundle(index) == log.entries[256 * index : 256 * (index + 1)]
    assert {tile.path() for tile in changed_tiles(0, first)} <= files.keys()
    assert {tile.path() for tile in changed_bundles(0, first)} <= files.keys()


@given(st.integers(0, 299), st.integers(0, 299), st.integers(0, 299))
def test_a_witness_follows_one_history_only(branch: int, old: int, size: int) -> None:
    # Whatever a forked log asks, the witness accepts only what the tree it cosigned is a prefix of.
    fork = Log(300, branch=branch)
    old, size = sorted((old, size))
    state_tree = MemoryTree([_LOG.tree.hash_at(0, i) for i in range(old)])
    accepted = update(None, _LOG.request(0, old), [log_signer().vkey])
    answer = update(accepted.state, fork.request(old, size), [log_signer().vkey])  # type: ignore[union-attr]
    same = state_tree.root() == fork.tree.root(old)
    assert (type(answer).__name__ == "Accepted") == same


def test_the_samples_are_honest() -> None:
    checked = verify_proof(Proof.parse(_PROOF), _LEAF, _POLICY.check)
    assert (checked.checkpoint.origin, checked.cosigned) == (ORIGIN, {"w": TIME})
