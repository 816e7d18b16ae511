"""Sealing into a store, for whoever may write it; what a seal that dies leaves there is swept by the next one."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass

from custody.app.sealing import OVER_A_NETWORK, Sealing
from custody.app.settling import settle, settles, writer_of
from custody.app.unfinished import Unfinished, throw_away
from custody.app.versions import has_version
from custody.errors import ConflictError, CustodyError
from custody.ports import Presigner, Store
from custody.segments.finishing import AT_ONCE
from custody.segments.layout import manifest_key
from custody.segments.streams import Sink

__all__ = ["IntoStore"]


@dataclass(frozen=True, slots=True)
class IntoStore:
    """``custody.app.sealing.Target``. ``notes`` are kept of seals under way, where somebody will look for them.

    ``ConflictError`` where the store holds ``version`` already.
    """

    store: Store
    version: str
    notes: Unfinished | None = None

    def __post_init__(self) -> None:
        """Look before anybody types a passphrase."""
        self._require_new()

    @property
    def ends(self) -> int:
        """See ``Target.ends``."""
        if settles(self.store):
            return 0
        return OVER_A_NETWORK if isinstance(self.store, Presigner) else AT_ONCE

    @contextmanager
    def sealing(self, vid: bytes, _job: Sealing) -> Iterator[None]:
        """See ``Target.sealing``. A note that cannot be followed by its blobs stays: the next seal sweeps them."""
        with self.notes.sealing(vid.hex()) if self.notes else nullcontext(lambda: None) as forget:
            try:
                yield
            except BaseException:
                with suppress(CustodyError):
                    throw_away(self.store, vid)
                    forget()
                raise
            forget()

    def writer(self, key: str) -> AbstractContextManager[Sink]:
        """See ``Target.writer``."""
        return writer_of(self.store)(key)

    def give_up(self) -> None:
        """See ``Target.give_up``. A store waits for as long as it does."""

    def publish(self, vid: bytes, manifest: bytes) -> None:
        """See ``Target.publish``."""
        settle(self.store)
        self._require_new()  # somebody may have been faster while the files were encrypted
        self.store.put_new(manifest_key(vid), manifest)

    def _require_new(self) -> None:
        if has_version(self.store, self.version):
            raise ConflictError(
                f"{self.version} exists already in this store", hint="a version never changes; seal under another label"
            )
