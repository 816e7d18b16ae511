"""Reading a blob at once, from whatever store it lies in."""

from contextlib import closing

from custody.errors import IntegrityError
from custody.ports import BlobReader

__all__ = ["read_whole"]


def read_whole(blob: BlobReader, key: str, limit: int) -> bytes:
    """Return all of a blob and close it. ``IntegrityError`` for more than ``limit`` bytes, before any is read."""
    with closing(blob):
        if blob.size > limit:
            raise IntegrityError(f"store: {key} has {blob.size} bytes, more than the {limit} it may have")
        data = bytearray(blob.size)
        blob.read_into(0, memoryview(data))
        return bytes(data)
