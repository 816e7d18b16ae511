"""A model to measure with: a safetensors file of a hundred tensors of 16-bit floats, each a hundredth of it."""

import importlib
import importlib.util
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from custody.client.frameworks import Framework
from custody.segments.buffers import huge_buffer

__all__ = ["Model"]

_TENSORS: Final = 100
_ROW: Final = 64
_PIECE: Final = 1 << 20


@dataclass(frozen=True)
class Model:
    """A file, and its tensors as PyTorch or, where that is not installed, NumPy has them.

    NumPy knows no bfloat16; float16 takes its place then, which is as long.
    """

    path: Path
    size: int
    tensor: int

    @classmethod
    def write(cls, path: Path, size: int) -> "Model":
        """Write about ``size`` bytes: random ones, for nobody must be able to compress them."""
        rows = max(1, size // _TENSORS // (2 * _ROW))
        tensor = 2 * _ROW * rows
        entries = {
            name: {"dtype": _dtype(), "shape": [rows, _ROW], "data_offsets": [i * tensor, (i + 1) * tensor]}
            for i, name in enumerate(map(tensor_name, range(_TENSORS)))
        }
        header = json.dumps(entries, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)
        left = _TENSORS * tensor
        with path.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            while left:
                left -= file.write(os.urandom(min(left, _PIECE)))
        return cls(path, path.stat().st_size, tensor)

    @property
    def name(self) -> str:
        """The file's name in the version."""
        return self.path.name

    @property
    def one(self) -> str:
        """Name of a tensor in the middle."""
        return tensor_name(_TENSORS // 3)

    @property
    def framework(self) -> Framework:
        """What tensors are made with."""
        return "torch" if _has("torch") else "numpy"

    @cached_property
    def memory(self) -> memoryview:
        """The whole file in memory of this process, in huge pages."""
        out = huge_buffer(self.size)
        with self.path.open("rb", buffering=0) as file:
            done = 0
            while done < self.size:
                done += file.readinto(out[done:]) or 0
        return out

    def forget(self) -> None:
        """Give that memory back, once nobody uses it."""
        self.__dict__.pop("memory", None)

    def torch_tensors(self) -> dict[str, Any]:
        """The tensors in that memory. ``ImportError`` without PyTorch."""
        torch = importlib.import_module("torch")
        torch.set_num_threads(2)
        start = self.size - _TENSORS * self.tensor
        data = torch.frombuffer(self.memory, dtype=torch.bfloat16, offset=start)
        parts = data.view(_TENSORS, -1, _ROW)
        return {tensor_name(i): parts[i] for i in range(_TENSORS)}


def tensor_name(i: int) -> str:
    """Name of tensor ``i``: as the file has them, in this order."""
    return f"layers.{i:02}.weight"


def _dtype() -> str:
    return "BF16" if _has("torch") else "F16"


def _has(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
