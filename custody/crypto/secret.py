"""Memory for secrets: out of swap and core dumps, not inherited by children, wiped on close (design section 8).

A ``SecretBytes`` lies in anonymous private pages: mlocked where the memory limit allows it, MADV_DONTDUMP,
MADV_WIPEONFORK (``secret_pages``).

What this does not do: a library that takes a copy (a key schedule, a stack frame) keeps it out of our reach. What we
know of such copies stands where the library is called.
"""

import ctypes
import os
import resource
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Final, NoReturn, Self

from custody.crypto import sodium
from custody.crypto.secret_pages import allocate, generation
from custody.errors import ConfigError, FormatError

__all__ = ["RandomInto", "SecretBytes", "harden_process"]

RandomInto = Callable[[memoryview], None]
"""Fills a buffer with uniform random bytes. In production ``sodium.random_into``; in tests a seeded stream."""

_PR_SET_DUMPABLE: Final = 4


class SecretBytes:
    """A fixed number of secret bytes.

    ``view`` is the content, writable. ``close()``, leaving the ``with`` block, garbage collection and a normal end of
    the interpreter wipe it; afterwards, and in a forked child, ``view`` raises ``ValueError``. There is no repr of the
    content, no pickle, no copy, no ``bytes()``, no hash, and ``==`` is identity: compare with ``hmac.compare_digest``.

    ``require_lock`` turns a refused mlock into ``ConfigError``. The default goes on without it, since a container's
    RLIMIT_MEMLOCK is often 64 KiB and an unlocked secret in a host without swap is still better than none; ``locked``
    tells which it is.
    """

    __slots__ = ("__weakref__", "_finalizer", "_generation", "_size", "_view", "locked")

    def __init__(self, size: int, *, require_lock: bool = False) -> None:
        if size < 1:
            raise ValueError("a secret has at least one byte")
        view, self.locked = allocate(size)
        if require_lock and not self.locked:
            raise ConfigError(
                "the memory of a secret cannot be locked",
                hint="raise RLIMIT_MEMLOCK (LimitMEMLOCK= in systemd, ulimit -l in a shell)",
            )
        self._size = size
        self._generation = generation()
        self._view: memoryview | None = view
        self._finalizer = weakref.finalize(self, sodium.wipe, view)

    @classmethod
    def random(cls, size: int, random_into: RandomInto) -> Self:
        """Make ``size`` fresh random bytes."""
        secret = cls(size)
        random_into(secret.view)
        return secret

    @classmethod
    def take(cls, source: bytearray | memoryview) -> Self:
        """Move the content of a writable buffer here: it is copied, then the source is wiped."""
        secret = cls(len(source))
        secret.view[:] = source
        sodium.wipe(source)
        return secret

    @classmethod
    def take_bytes(cls, source: bytes) -> Self:
        """Move what a library returned as ``bytes`` and nobody else holds; see ``sodium.wipe_bytes`` for the limits."""
        secret = cls(len(source))
        secret.view[:] = source
        sodium.wipe_bytes(source)
        return secret

    @classmethod
    def read_from(cls, fd: int, size: int) -> Self:
        """Read exactly ``size`` bytes from a file descriptor, in place. ``FormatError`` where it ends before."""
        secret = cls(size)
        done = 0
        while done < size:
            count = os.readv(fd, [secret.view[done:]])
            if count == 0:
                secret.close()
                raise FormatError(f"a secret of {size} bytes ends after {done}")
            done += count
        return secret

    @property
    def view(self) -> memoryview:
        """The content, writable. ``ValueError`` after ``close()`` and in a forked child."""
        if self._view is None:
            raise ValueError("the secret has been wiped")
        if self._generation != generation():
            raise ValueError("the secret stayed in the parent process")
        return self._view

    @property
    def closed(self) -> bool:
        """Whether the content has been wiped."""
        return self._view is None

    def close(self) -> None:
        """Wipe the content and give its place back. A second call does nothing."""
        self._view = None
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"<SecretBytes of {self._size} bytes{', wiped' if self.closed else ''}>"

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError("a secret is not copied, pickled, hashed or iterated")

    __bytes__ = __reduce__ = __reduce_ex__ = __getstate__ = __copy__ = __deepcopy__ = __iter__ = __hash__ = _refuse


def harden_process() -> None:
    """Keep other processes of the same user from reading this one, and the kernel from dumping it.

    Sets PR_SET_DUMPABLE to 0 (no ptrace, no /proc/PID/mem, no core) and RLIMIT_CORE to 0. Root and CAP_SYS_PTRACE
    still read everything. ``ConfigError`` where the system refuses.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise ConfigError(f"prctl(PR_SET_DUMPABLE): {os.strerror(ctypes.get_errno())}")
