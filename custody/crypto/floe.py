"""FLOE: authenticated, key-committing encryption of a file with access to any segment (c2sp.org/FLOE).

Fixed parameters: AES-256-GCM, HKDF-Expand-SHA384, a 32-byte message IV, a new AEAD key every 2^20 segments. ::

    params  = 00 | 00 | u32 stored segment size | u32 32                                         10 bytes
    header  = params || iv (32) || tag (32)                                                      74 bytes
    KDF(key, purpose, n) = HKDF-Expand-SHA384(key, params || iv || purpose || aad, n)
    tag     = KDF(file key, "HEADER_TAG:", 32)       message key = KDF(file key, "MESSAGE_KEY:", 48)
    AEAD key of segment p = KDF(message key, "DEK:" || u64 (p with its low 20 bits cleared), 32)
    segment = prefix (4) || nonce (12) || ciphertext || GCM tag (16),  GCM AAD = u64 p || final (1)
    prefix  = FFFFFFFF, or in the final segment its stored size as u32
    stored file = header || segment 0 || ... || segment count-1

The header tag commits to the key: a ciphertext made for two keys (GCM alone allows it) is refused before any segment.
Which segment is final follows from the file size, which the caller knows from a signed document. The prefix is checked
against that and never believed, so a truncated or extended file fails with the segment named.
"""

import hmac
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, NamedTuple, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384

from custody.crypto.encoding import lp, u64
from custody.crypto.hkdf import expand_into
from custody.crypto.secret import SecretBytes
from custody.crypto.sodium import wipe
from custody.errors import FormatError, IntegrityError

__all__ = [
    "HEADER_SIZE",
    "KEY_SIZE",
    "MAX_SEGMENT",
    "OVERHEAD",
    "Decryptor",
    "Encryptor",
    "Params",
    "SegmentRange",
    "floe_aad",
    "segment_count",
    "segment_range",
    "stored_size",
]

KEY_SIZE: Final = 32
HEADER_SIZE: Final = 74
OVERHEAD: Final = 32
"""Stored bytes of a segment beyond its plaintext: prefix, nonce, GCM tag."""
MAX_SEGMENT: Final = 1 << 30
"""AES-GCM of the library takes less than 2^31 bytes at once."""

_MAX_SEGMENTS: Final = 1 << 40
_PARAMS_SIZE: Final = 10
_IV_SIZE: Final = 32
_TAG_SIZE: Final = 32
_MESSAGE_KEY_SIZE: Final = 48
_NONCE_SIZE: Final = 12
_GCM_TAG_SIZE: Final = 16
_BODY: Final = 16  # where the GCM ciphertext starts in a stored segment
_NOT_FINAL: Final = 0xFFFFFFFF
_ROTATION_MASK: Final = 20

_prefix = struct.Struct(">I")
_segment_aad = struct.Struct(">QB")


@dataclass(frozen=True, slots=True)
class Params:
    """``segment`` is the plaintext size of every segment but the last, in bytes. The rotation is for vectors only."""

    segment: int
    _rotation: int = _ROTATION_MASK

    def __post_init__(self) -> None:
        if not 0 < self.segment <= MAX_SEGMENT:
            raise ValueError(f"a segment of {self.segment} bytes")

    def encode(self) -> bytes:
        """Encode as the first 10 bytes of the header."""
        return struct.pack(">BBII", 0, 0, self.segment + OVERHEAD, _IV_SIZE)


class SegmentRange(NamedTuple):
    """Where a segment lies, in bytes: in the stored file (header included) and in the plaintext."""

    stored_offset: int
    stored_length: int
    offset: int
    length: int
    is_final: bool


def segment_count(size: int, segment: int) -> int:
    """Count the segments of a file of ``size`` bytes: at least one. ``FormatError`` beyond 2^40."""
    if size < 0 or segment < 1:
        raise ValueError(f"a file of {size} bytes in segments of {segment}")
    count = max(1, -(-size // segment))
    if count > _MAX_SEGMENTS:
        raise FormatError(f"file size: {count} segments, FLOE ends at 2^40")
    return count


def stored_size(size: int, segment: int) -> int:
    """Size of the stored file in bytes: header, plaintext, and 32 bytes for each segment."""
    return HEADER_SIZE + size + OVERHEAD * segment_count(size, segment)


def segment_range(size: int, segment: int, i: int) -> SegmentRange:
    """Where segment ``i`` (from 0) of a file of ``size`` bytes lies. ``ValueError`` outside the file."""
    count = segment_count(size, segment)
    if not 0 <= i < count:
        raise ValueError(f"segment {i} of {count}")
    offset = i * segment
    length = min(segment, size - offset)
    return SegmentRange(HEADER_SIZE + i * (segment + OVERHEAD), length + OVERHEAD, offset, length, i == count - 1)


def floe_aad(vid: bytes, file_index: int, file_size: int, segments: int) -> bytes:
    """Bind a file to its version, place and size: ``lp("custody/v1/floe")||vid||u64 index||u64 size||u64 count``."""
    if len(vid) != 32:  # noqa: PLR2004 - the size of a vid
        raise ValueError("vid has 32 bytes")
    return lp(b"custody/v1/floe") + vid + u64(file_index) + u64(file_size) + u64(segments)


class _Message:
    """What encryption and decryption of one message share: the message key, and the AEAD keys made from it."""

    def __init__(self, key: SecretBytes, aad: bytes, params: Params, iv: bytes) -> None:
        if len(key) != KEY_SIZE or len(iv) != _IV_SIZE:
            raise ValueError("a FLOE key and a FLOE IV have 32 bytes each")
        self._segment = params.segment
        self._mask = params._rotation  # noqa: SLF001 - same file
        self._head = params.encode() + iv
        self._aad = aad
        self._closed = False
        self._lock = threading.Lock()
        # By epoch, that is, for each 2^20 segments: one entry for each tebibyte of a file with 1 MiB segments.
        self._keys: dict[int, SecretBytes] = {}
        self._idle: dict[int, list[AESGCM]] = {}
        tag = bytearray(_TAG_SIZE)
        expand_into(SHA384(), key.view, self._head + b"HEADER_TAG:" + aad, memoryview(tag))
        self._tag = bytes(tag)
        self._message_key = SecretBytes(_MESSAGE_KEY_SIZE)
        expand_into(SHA384(), key.view, self._head + b"MESSAGE_KEY:" + aad, self._message_key.view)

    def _borrow(self, position: int) -> tuple[AESGCM, list[AESGCM]]:
        """Take an AEAD object for ``position``, and the list it is to be given back to.

        The library lets only one thread at a time use an object; with one each, threads scale with the cores.
        """
        idle = self._idle.get(position >> self._mask)
        if idle:
            try:
                return idle.pop(), idle
            except IndexError:  # another thread was faster
                pass
        return self._rotate(position >> self._mask)

    def _rotate(self, epoch: int) -> tuple[AESGCM, list[AESGCM]]:
        if not 0 <= epoch <= (_MAX_SEGMENTS - 1) >> self._mask:
            raise ValueError("FLOE segments are numbered from 0 to 2^40 - 1")
        with self._lock:
            self._require_open()
            key = self._keys.get(epoch)
            if key is None:
                key = SecretBytes(KEY_SIZE)
                info = self._head + b"DEK:" + u64(epoch << self._mask) + self._aad
                expand_into(SHA384(), self._message_key.view, info, key.view)
                self._keys[epoch] = key
            return AESGCM(key.view), self._idle.setdefault(epoch, [])

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError("the keys of this file have been wiped")

    def close(self) -> None:
        """Wipe the message key and the AEAD keys. A segment that another thread has under way is discarded."""
        with self._lock:
            self._closed = True
            for idle in self._idle.values():
                idle.clear()
            for key in (self._message_key, *self._keys.values()):
                key.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Encryptor(_Message):
    """Encrypts the segments of one file, in any order, from any thread.

    ``rng`` gives n random bytes: the message IV and one nonce for each segment. ``header`` is to be stored first. The
    caller encrypts each position once, and exactly the last one as final. Close it when done.
    """

    def __init__(self, key: SecretBytes, aad: bytes, params: Params, rng: Callable[[int], bytes]) -> None:
        super().__init__(key, aad, params, rng(_IV_SIZE))
        self._rng = rng
        self.header: Final = self._head + self._tag

    def encrypt_into(self, position: int, is_final: bool, plaintext: memoryview, out: memoryview) -> int:  # noqa: FBT001
        """Encrypt segment ``position`` into the first ``len(plaintext) + 32`` bytes of ``out``; return that number.

        ``plaintext`` is a whole segment, or for the final one at most that. The buffers must not overlap.
        """
        self._require_open()
        length = len(plaintext)
        stored = length + OVERHEAD
        if length > self._segment or (length != self._segment and not is_final) or len(out) < stored:
            raise ValueError(f"segment {position}: {length} bytes of plaintext, room for {len(out)}")
        nonce = self._rng(_NONCE_SIZE)
        if len(nonce) != _NONCE_SIZE:  # the library takes others, and GCM is then another function
            raise ValueError(f"a nonce of {len(nonce)} bytes")
        _prefix.pack_into(out, 0, stored if is_final else _NOT_FINAL)
        out[4:_BODY] = nonce
        aead, idle = self._borrow(position)
        aead.encrypt_into(nonce, plaintext, _segment_aad.pack(position, is_final), out[_BODY:stored])
        idle.append(aead)
        if self._closed:
            idle.clear()
            wipe(out[:stored])
            self._require_open()
        return stored


class Decryptor(_Message):
    """Decrypts segments of one file, in any order, from any thread. Close it when done.

    Raises ``FormatError`` for a header of another length or other parameters, and ``IntegrityError`` for a header tag
    that this key and AAD do not give: a wrong key, a header of another file, a ciphertext made for two keys.
    """

    def __init__(self, key: SecretBytes, aad: bytes, params: Params, header: bytes) -> None:
        if len(header) != HEADER_SIZE:
            raise FormatError(f"FLOE header: {len(header)} bytes instead of {HEADER_SIZE}")
        if header[:_PARAMS_SIZE] != params.encode():
            raise FormatError("FLOE header: other parameters than the content names")
        super().__init__(key, aad, params, bytes(header[_PARAMS_SIZE : _PARAMS_SIZE + _IV_SIZE]))
        if not hmac.compare_digest(self._tag, header[-_TAG_SIZE:]):
            self.close()
            raise IntegrityError("FLOE header: the tag does not fit this key and file")

    def decrypt_into(self, position: int, is_final: bool, stored: memoryview, out: memoryview) -> int:  # noqa: FBT001
        """Decrypt segment ``position`` into the first ``len(stored) - 32`` bytes of ``out``; return that number.

        ``stored`` and ``is_final`` are what ``segment_range`` gives for the signed file size; fewer stored bytes of the
        final segment would be fewer bytes of plaintext. The buffers must not overlap. Raises ``IntegrityError`` naming
        the segment; the library leaves unverified plaintext behind when a tag fails, so ``out`` is wiped first.
        """
        self._require_open()
        length = len(stored) - OVERHEAD
        if length < 0 or length > self._segment or (length != self._segment and not is_final):
            raise IntegrityError(f"segment {position}: {len(stored)} stored bytes")
        if _prefix.unpack_from(stored)[0] != (len(stored) if is_final else _NOT_FINAL):
            raise IntegrityError(f"segment {position}: the length prefix is wrong")
        if len(out) < length:
            raise ValueError(f"segment {position}: {length} bytes of plaintext, room for {len(out)}")
        target = out[:length]
        aead, idle = self._borrow(position)
        try:
            aead.decrypt_into(stored[4:_BODY], stored[_BODY:], _segment_aad.pack(position, is_final), target)
            idle.append(aead)
        except InvalidTag as error:
            wipe(target)
            self._require_open()
            raise IntegrityError(f"segment {position}: authentication failed") from error
        if self._closed:
            idle.clear()
            wipe(target)
            self._require_open()
        return length
