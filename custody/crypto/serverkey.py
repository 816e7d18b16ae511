"""The key file of a server (broker, log, witness): the raw 32-byte Ed25519 seed and nothing else, mode 0600.

A server starts without a person, so there is no passphrase to give; what protects the file is the host (systemd
credentials, a Kubernetes secret with ``defaultMode: 0400``). These keys sign; they decrypt nothing.
"""

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from custody.crypto import keys
from custody.crypto.secret import RandomInto, SecretBytes
from custody.errors import ConfigError

__all__ = ["ServerKey"]

_OTHERS: Final = 0o077


class ServerKey:
    """A server's signing key. Takes over the seed and wipes it on close."""

    def __init__(self, seed: SecretBytes) -> None:
        self._seed: Final = seed
        self.public: Final = keys.public_from_seed(seed)
        self.key_id: Final = keys.key_id(self.public)

    @classmethod
    def load(cls, path: Path) -> "ServerKey":
        """Read the file. ``ConfigError`` where it is missing, readable by others, or not exactly 32 bytes long.

        Symbolic links are followed, since Kubernetes mounts secrets as links; the mode of the target counts.
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            raise ConfigError(f"server key {path}: {error.strerror}") from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size != keys.SEED_SIZE:
                raise ConfigError(f"server key {path}: not a file of {keys.SEED_SIZE} bytes")
            if status.st_mode & _OTHERS:
                raise ConfigError(
                    f"server key {path}: others may use it (mode {stat.S_IMODE(status.st_mode):04o})",
                    hint=f"chmod 600 {path}, and replace the key if others could have read it",
                )
            return cls(SecretBytes.read_from(fd, keys.SEED_SIZE))
        finally:
            os.close(fd)

    @classmethod
    def create(cls, path: Path, random_into: RandomInto) -> "ServerKey":
        """Make a fresh key and its file, durable when this returns. ``ConfigError`` where the file exists already."""
        seed = SecretBytes.random(keys.SEED_SIZE, random_into)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.writev(fd, [seed.view])
                os.fsync(fd)
            finally:
                os.close(fd)
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            seed.close()
            raise ConfigError(f"server key {path}: {error.strerror}") from error
        return cls(seed)

    def sign(self, message: bytes) -> bytes:
        """Sign: 64 bytes."""
        return keys.sign(self._seed, message)

    def close(self) -> None:
        """Wipe the seed."""
        self._seed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ServerKey {self.key_id.hex()}>"
