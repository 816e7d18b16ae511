"""Tensors as views of memory that is there already, for NumPy and for torch. Neither is needed until it is named."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from custody.client.tensor_header import Tensor
from custody.errors import ConfigError, FormatError

__all__ = ["Framework", "View", "viewer"]

Framework = Literal["numpy", "torch"]

View = Callable[[Tensor, memoryview], Any]
"""Makes the tensor whose bytes a buffer holds, without a copy. The tensor keeps the buffer alive."""

_NUMPY: Final[Mapping[str, str]] = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
    "C64": "complex64",
}

_TORCH: Final[Mapping[str, str]] = {
    **_NUMPY,
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}


def viewer(framework: Framework) -> View:
    """Return what makes views for a framework. ``ConfigError`` where it is not installed."""
    try:
        module = importlib.import_module(framework)
    except ImportError:
        raise ConfigError(f"{framework} is not installed", hint=f"pip install 'custody[{framework}]'") from None
    return _numpy(module) if framework == "numpy" else _torch(module)


def _numpy(numpy: Any) -> View:
    def view(tensor: Tensor, buffer: memoryview) -> Any:
        dtype = _NUMPY.get(tensor.dtype)
        if dtype is None:
            raise FormatError(f"{tensor.name[:100]!a}: NumPy has no {tensor.dtype}", hint="load it with torch")
        if not buffer:
            return numpy.empty(tensor.shape, dtype=dtype)  # NumPy makes no view of nothing
        return numpy.frombuffer(buffer, dtype=dtype).reshape(tensor.shape)

    return view


def _torch(torch: Any) -> View:
    def view(tensor: Tensor, buffer: memoryview) -> Any:
        dtype = getattr(torch, _TORCH[tensor.dtype], None)
        if dtype is None:
            raise FormatError(f"{tensor.name[:100]!a}: this torch has no {tensor.dtype}", hint="take a newer one")
        if not buffer:
            return torch.empty(tensor.shape, dtype=dtype)  # torch makes no view of nothing
        return torch.frombuffer(buffer, dtype=dtype).reshape(tensor.shape)

    return view
