"""The only place in a broker where keys live: release-key seeds of waiting requests, file keys of open leases.

Everything here is ``SecretBytes``, in memory only, and gone with the process. The file keys of a lease in direct mode
are not even here, but in a process of their own (``Keeper``), which ends when the lease does.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from custody.broker.keeper import Keeper
from custody.broker.opener import FileKeys
from custody.crypto.secret import SecretBytes
from custody.errors import DeniedError

__all__ = ["Vault"]


class Vault:
    """Seeds by request digest, file keys by lease id. Methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seeds: dict[str, SecretBytes] = {}
        self._leases: dict[str, dict[int, FileKeys]] = {}
        self._keepers: dict[str, Keeper] = {}
        self._openings: dict[str, tuple[threading.Lock, int]] = {}

    def put_seed(self, request: str, seed: SecretBytes) -> None:
        """Keep the seed of a request's release key, wiping an older one."""
        with self._lock:
            old = self._seeds.pop(request, None)
            self._seeds[request] = seed
        if old:
            old.close()

    def seed(self, request: str) -> SecretBytes:
        """Return a request's seed. Raises ``DeniedError`` when this broker does not hold it."""
        with self._lock:
            found = self._seeds.get(request)
        if found is None:
            message = "this broker holds no release key for the request"
            raise DeniedError(message, hint="after a restart custodians send their shares again: custody release")
        return found

    def drop_seed(self, request: str) -> None:
        """Wipe a request's seed."""
        with self._lock:
            seed = self._seeds.pop(request, None)
        if seed:
            seed.close()

    def put_lease(self, lease: str, keys: Mapping[int, FileKeys] | Keeper) -> None:
        """Keep the keys of an open lease."""
        with self._lock:
            if isinstance(keys, Keeper):
                self._keepers[lease] = keys
            else:
                self._leases[lease] = dict(keys)

    @contextmanager
    def opening(self, lease: str) -> Iterator[None]:
        """Let one caller at a time open a lease: when a fleet arrives at once, one opens and the others wait for it."""
        with self._lock:
            lock, waiting = self._openings.get(lease, (threading.Lock(), 0))
            self._openings[lease] = (lock, waiting + 1)
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, waiting = self._openings[lease]
                if waiting == 1:
                    del self._openings[lease]
                else:
                    self._openings[lease] = (lock, waiting - 1)

    def has_lease(self, lease: str) -> bool:
        """Tell whether the lease's keys are here."""
        with self._lock:
            return lease in self._leases or lease in self._keepers

    def file_keys(self, lease: str, file: int) -> FileKeys:
        """Return the keys of one file of an open lease. Raises ``DeniedError`` when they are gone."""
        with self._lock:
            found = self._leases.get(lease, {}).get(file)
        if found is None:
            message = "the lease is not open"
            raise DeniedError(message)
        return found

    def keeper(self, lease: str) -> Keeper:
        """Return what seals the keys of an open lease in direct mode. Raises ``DeniedError`` when it is gone."""
        with self._lock:
            found = self._keepers.get(lease)
        if found is None:
            message = "the lease is not open"
            raise DeniedError(message)
        return found

    def drop_lease(self, lease: str) -> None:
        """Wipe a lease's keys."""
        with self._lock:
            keys = self._leases.pop(lease, {})
            keeper = self._keepers.pop(lease, None)
        for pair in keys.values():
            pair.close()
        if keeper:
            keeper.close()

    def wipe(self) -> None:
        """Wipe everything: the process ends, or must be assumed lost."""
        with self._lock:
            leases, requests = [*self._leases, *self._keepers], list(self._seeds)
        for lease in leases:
            self.drop_lease(lease)
        for request in requests:
            self.drop_seed(request)
