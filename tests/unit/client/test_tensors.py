"""Tensors of a session: the sealer's bytes, in one buffer, and no more of the file is fetched than they need."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from custody.client import frameworks
from custody.client.session import Session
from custody.errors import ConfigError, FormatError, IntegrityError, NotFoundError
from custody.wire.pieces import Piece
from tests.unit.client.broker import SEGMENT, Broker

PATH = "model.safetensors"
RNG = np.random.default_rng(5)
TENSORS = {
    "embed": RNG.standard_normal((40, 64), np.float32),  # 10,240 bytes
    "layer.0": RNG.integers(-9, 9, (3000,), np.int16),
    "layer.1": RNG.standard_normal((20, 100), np.float32),
    "scalar": np.array(7, np.int64),
    "nothing": np.zeros((0, 4), np.float32),
    "flags": np.array([True, False, True]),
}
FILE = save(TENSORS)

torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch, a large extra, is not installed")


@pytest.fixture
def broker(tmp_path: Path) -> Broker:
    return Broker(tmp_path / "tls", files={PATH: FILE, "bad.safetensors": b"\xff" * 100})


def address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def same(loaded: dict[str, Any], names: Any = None) -> None:
    assert set(loaded) == set(names or TENSORS)
    for name, array in loaded.items():
        assert array.dtype == TENSORS[name].dtype
        assert array.shape == TENSORS[name].shape
        assert (array == TENSORS[name]).all()


def test_all_tensors_are_views_of_one_buffer_in_the_order_of_the_file(broker: Broker) -> None:
    steps: list[int] = []
    with broker.lease().open() as session:
        loaded = session.load_tensors(PATH, framework="numpy", progress=steps.append)
    same(loaded)
    total = sum(array.nbytes for array in TENSORS.values())
    addresses = [address(array) for array in loaded.values() if array.size]
    assert addresses == sorted(addresses)
    assert addresses[-1] - addresses[0] < total
    assert all(
        array.flags.aligned and array.flags.writeable and not array.flags.owndata
        for array in loaded.values()
        if array.size
    )
    assert sum(steps) == total
    assert broker.case.found.spent == len(FILE), "the header's segment is not fetched twice"


SMALL = {"few": np.arange(5, dtype=np.int16)}


@pytest.mark.parametrize(
    "file",
    [save(SMALL), save(SMALL, {"note": "x" * SEGMENT}), save({"nothing": np.zeros((0, 4), np.float32)})],
    ids=["a file shorter than a segment", "a header beyond what is read first", "no bytes"],
)
def test_a_header_of_any_length_is_fetched_once(tmp_path: Path, file: bytes) -> None:
    broker = Broker(tmp_path / "tls", files={PATH: file})
    with broker.lease().open() as session:
        loaded = session.load_tensors(PATH, framework="numpy")
    assert [array.tolist() for array in loaded.values()] in ([[0, 1, 2, 3, 4]], [[]])
    assert broker.case.found.spent == len(file)


def fetched(broker: Broker, do: Callable[[Session], object]) -> int:
    """How many bytes a session was served."""
    before = int(broker.case.found.spent)
    with broker.lease().open() as session:
        do(session)
    return int(broker.case.found.spent) - before


@pytest.mark.parametrize("names", [{"layer.1"}, {"embed", "scalar"}, {"nothing"}, set()])
def test_by_name_only_the_segments_are_fetched_that_hold_it(broker: Broker, names: set[str]) -> None:
    loaded: dict[str, Any] = {}
    size = fetched(broker, lambda session: loaded.update(session.load_tensors(PATH, names, framework="numpy")))
    assert set(loaded) == names
    for name in names:
        assert (loaded[name] == TENSORS[name]).all()
    wanted = sum(TENSORS[name].nbytes for name in names)
    assert size <= (1 + 2 * len(names)) * SEGMENT + wanted, "the header's segment, and those at both ends of each"
    assert size < len(FILE)


def test_rows_are_loaded_alone(broker: Broker) -> None:
    loaded: dict[str, Any] = {}
    names = {"embed": slice(30, 32), "scalar": None}
    size = fetched(broker, lambda session: loaded.update(session.load_tensors(PATH, names, framework="numpy")))
    assert (loaded["embed"] == TENSORS["embed"][30:32]).all()
    assert loaded["scalar"] == 7
    assert size <= 4 * SEGMENT


@pytest.mark.parametrize("memory", [0, 8000, 1 << 30])
def test_walking_yields_each_tensor_in_order_and_reuses_two_buffers(broker: Broker, memory: int) -> None:
    copies, places = {}, set()
    with broker.lease().open() as session:
        for name, array in session.walk_tensors(PATH, framework="numpy", memory=memory):
            copies[name] = array.copy()
            if array.size:
                places.add(address(array))
        kept = array
    same(copies)
    assert not np.any(kept), "it was wiped at the end"
    if not memory:
        assert len(places) <= 4, "two buffers; an array may lie at another alignment in each"
    assert broker.case.found.spent == len(FILE)


def test_giving_up_a_walk_ends_its_thread(broker: Broker) -> None:
    with broker.lease().open() as session:
        walk = session.walk_tensors(PATH, framework="numpy", memory=0)
        next(iter(walk))
        walk.close()  # type: ignore[attr-defined]  # it is a generator
        assert session.load_tensors(PATH, {"scalar"}, framework="numpy")["scalar"] == 7


def test_altered_weights_are_wiped_and_no_tensor_comes_out(broker: Broker) -> None:
    honest = broker.read_within

    def lie(*args: Any) -> Any:
        for piece in honest(*args):
            if piece.segment == 4:
                data = bytes([piece.data[0] ^ 1]) + piece.data[1:]
                yield Piece(segment=piece.segment, offset=piece.offset, data=data)
            else:
                yield piece

    broker.lie("read_within", lie)
    with broker.lease().open() as session, pytest.raises(IntegrityError, match="segment 4"):
        session.load_tensors(PATH, framework="numpy")
    with broker.lease().open() as session, pytest.raises(IntegrityError, match="segment 4"):
        list(session.walk_tensors(PATH, framework="numpy", memory=0))


def test_a_bad_header_and_a_name_that_is_not_there_are_refused_before_any_tensor_is_fetched(broker: Broker) -> None:
    with broker.lease().open() as session:
        with pytest.raises(FormatError, match="a header of"):
            session.load_tensors("bad.safetensors", framework="numpy")
        with pytest.raises(NotFoundError, match=r"no tensor 'layer\.7'"):
            session.load_tensors(PATH, ["embed", "layer.7"], framework="numpy")
    assert broker.case.found.spent <= 100 + SEGMENT


def test_a_framework_that_is_not_installed_is_said(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with broker.lease().open() as session, pytest.raises(ConfigError, match="torch is not installed"):
        session.load_tensors(PATH)


def test_numpy_has_no_bfloat16_and_says_so() -> None:
    from custody.client.tensor_header import Tensor

    with pytest.raises(FormatError, match="NumPy has no BF16"):
        frameworks.viewer("numpy")(Tensor("w", "BF16", (1,), 0, 2), memoryview(bytearray(2)))


@torch
def test_torch_gets_views_of_one_buffer_too(broker: Broker) -> None:
    with broker.lease().open() as session:
        loaded = session.load_tensors(PATH)
    for name, tensor in loaded.items():
        assert tuple(tensor.shape) == TENSORS[name].shape
        assert (tensor.numpy() == TENSORS[name]).all()
    addresses = [tensor.data_ptr() for tensor in loaded.values() if tensor.numel()]
    assert addresses[-1] - addresses[0] < len(FILE)


@torch
@pytest.mark.parametrize("dtype", sorted(frameworks._TORCH))
def test_torch_has_every_type_of_the_format(dtype: str) -> None:
    from custody.client.tensor_header import BITS, Tensor

    size = BITS[dtype] // 8
    view = frameworks.viewer("torch")(Tensor("w", dtype, (2, 3), 0, 6 * size), memoryview(bytearray(6 * size)))
    assert view.shape == (2, 3)
    assert view.element_size() == size
    assert frameworks._TORCH.keys() == BITS.keys()
