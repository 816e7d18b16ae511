"""The only file that touches ``nacl._sodium``, the private cffi module of PyNaCl.

Why a private module: the public ``nacl.bindings`` take and return ``bytes``, which cannot be wiped. Here libsodium
works on raw buffers. Nothing promises that the private names stay, so the dependency lock pins PyNaCl to one version
by hash, and the unit tests of this file call every function in it.

Scalars are 32 bytes, little-endian, modulo ``L``, the order of the prime group of ed25519. **libsodium reduces its
operands silently**: whoever takes a scalar from outside asks ``is_canonical`` first.
An output may be one of the inputs.

libsodium leaves copies of a scalar's operands on the C stack. So each operation is followed by the same call on
zeros, which writes over the same stack slots; the memory scan of the tests watches that this holds.
"""

from typing import Final

from nacl._sodium import ffi, lib

from custody.errors import ConfigError

__all__ = [
    "SCALAR_SIZE",
    "UNIFORM_SIZE",
    "Buffer",
    "L",
    "is_canonical",
    "is_valid_point",
    "lock",
    "random_into",
    "scalar_add",
    "scalar_mul",
    "scalar_reduce",
    "scalar_sub",
    "wipe",
    "wipe_bytes",
]

Buffer = bytes | bytearray | memoryview
"""What may be read from. Where a function writes, it takes a ``memoryview`` of something writable."""

L: Final = 2**252 + 27742317777372353535851937790883648493
"""The order of the prime group of ed25519 (RFC 8032 section 5.1)."""

SCALAR_SIZE: Final = 32
UNIFORM_SIZE: Final = 64
"""So many uniform bytes, reduced modulo L, are uniform up to a bias below 2^-250."""

_ZERO: Final = bytes(UNIFORM_SIZE)
_POINT_SIZE: Final = 32

if lib.sodium_init() < 0:  # pragma: no cover - fails only where the kernel gives no entropy
    _message = "libsodium does not start"
    raise ConfigError(_message)


def _readable(data: Buffer, size: int) -> "ffi.CData":
    if len(data) != size:
        raise ValueError(f"a buffer of {len(data)} bytes where {size} are needed")
    return ffi.from_buffer("unsigned char[]", data)


def _writable(data: memoryview, size: int) -> "ffi.CData":
    if len(data) != size:
        raise ValueError(f"a buffer of {len(data)} bytes where {size} are needed")
    return ffi.from_buffer("unsigned char[]", data, require_writable=True)


def wipe(buffer: memoryview | bytearray) -> None:
    """Overwrite a writable buffer with zeros, by a call that no compiler leaves out."""
    lib.sodium_memzero(ffi.from_buffer("unsigned char[]", buffer, require_writable=True), len(buffer))


def wipe_bytes(data: bytes) -> None:
    """Overwrite a ``bytes`` object that a library handed out, and that nobody else holds.

    Python calls ``bytes`` immutable; CPython keeps the content in the object, and writing there works. It is a best
    effort for secrets that a library returns this way (HPKE, SHAKE256), not a promise: the library may hold copies.
    Objects of fewer than two bytes are shared by the interpreter and are left alone.
    """
    if len(data) > 1:
        lib.sodium_memzero(ffi.from_buffer("unsigned char[]", data), len(data))


def lock(buffer: memoryview) -> bool:
    """Keep a buffer out of swap and core dumps (mlock, MADV_DONTDUMP). False where the memory limit forbids mlock."""
    return bool(lib.sodium_mlock(ffi.from_buffer("unsigned char[]", buffer), len(buffer)) == 0)


def random_into(buffer: memoryview) -> None:
    """Fill a buffer from the system's generator (getrandom), without a ``bytes`` in between."""
    lib.randombytes(_writable(buffer, len(buffer)), len(buffer))


def scalar_reduce(out: memoryview, uniform: Buffer) -> None:
    """``out = uniform mod L``; ``uniform`` has 64 bytes."""
    target = _writable(out, SCALAR_SIZE)
    lib.crypto_core_ed25519_scalar_reduce(target, _readable(uniform, UNIFORM_SIZE))
    lib.crypto_core_ed25519_scalar_reduce(ffi.new("unsigned char[32]"), _ZERO)


def scalar_add(out: memoryview, a: Buffer, b: Buffer) -> None:
    """``out = a + b mod L``."""
    target = _writable(out, SCALAR_SIZE)
    lib.crypto_core_ed25519_scalar_add(target, _readable(a, SCALAR_SIZE), _readable(b, SCALAR_SIZE))
    lib.crypto_core_ed25519_scalar_add(ffi.new("unsigned char[32]"), _ZERO, _ZERO)


def scalar_sub(out: memoryview, a: Buffer, b: Buffer) -> None:
    """``out = a - b mod L``."""
    target = _writable(out, SCALAR_SIZE)
    lib.crypto_core_ed25519_scalar_sub(target, _readable(a, SCALAR_SIZE), _readable(b, SCALAR_SIZE))
    lib.crypto_core_ed25519_scalar_sub(ffi.new("unsigned char[32]"), _ZERO, _ZERO)


def scalar_mul(out: memoryview, a: Buffer, b: Buffer) -> None:
    """``out = a * b mod L``."""
    target = _writable(out, SCALAR_SIZE)
    lib.crypto_core_ed25519_scalar_mul(target, _readable(a, SCALAR_SIZE), _readable(b, SCALAR_SIZE))
    lib.crypto_core_ed25519_scalar_mul(ffi.new("unsigned char[32]"), _ZERO, _ZERO)


def is_canonical(scalar: Buffer) -> bool:
    """Whether a 32-byte scalar is below L. Takes the same time for all values: it reduces a copy and compares."""
    wide = ffi.new("unsigned char[64]")
    reduced = ffi.new("unsigned char[32]")
    source = _readable(scalar, SCALAR_SIZE)
    ffi.memmove(wide, source, SCALAR_SIZE)
    lib.crypto_core_ed25519_scalar_reduce(reduced, wide)
    same = lib.sodium_memcmp(reduced, source, SCALAR_SIZE) == 0
    lib.sodium_memzero(wide, UNIFORM_SIZE)
    lib.sodium_memzero(reduced, SCALAR_SIZE)
    lib.crypto_core_ed25519_scalar_reduce(reduced, _ZERO)
    return bool(same)


def is_valid_point(point: bytes) -> bool:
    """Whether 32 bytes are the canonical encoding of a point of the prime group: not of small order, not mixed."""
    return bool(lib.crypto_core_ed25519_is_valid_point(_readable(point, _POINT_SIZE)) == 1)
