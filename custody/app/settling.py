"""Many blobs made durable at once, where a store can: for versions, of which nothing is visible before the manifest."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from custody.ports import BlobWriter, Settler, Store

__all__ = ["settle", "settles", "writer_of"]


def settles(store: Store) -> bool:
    """Tell whether the end of a blob waits for nothing, since all are made durable by ``settle``."""
    return isinstance(store, Settler) and store.settles


def writer_of(store: Store) -> Callable[[str], AbstractContextManager[BlobWriter]]:
    """Return what writes blobs that count after ``settle`` only."""
    return store.unsettled_writer if isinstance(store, Settler) else store.writer


def settle(store: Store) -> None:
    """Make all blobs durable; to be called before the first byte leads to them."""
    if isinstance(store, Settler):
        store.settle()
