"""What a program must say before it can talk to a broker, and what of the world it uses.

Two things are pinned out of band and never learned from the network: the deployment id and the digest of the genesis
trust root. Everything else that is trusted follows from them.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from custody.errors import ConfigError
from custody.ports import Clock, Rng
from custody.rules.trust import Seen
from custody.wire.tls import TlsFiles

__all__ = ["BrokerAt", "Home", "Memory", "Pins", "Settings", "Surroundings", "TlsAt"]


class BrokerAt(Protocol):
    """Where a broker is: ``host:port``, and the name in its certificate where that is not the host."""

    @property
    def address(self) -> str:
        """The address."""
        ...

    @property
    def server_name(self) -> str | None:
        """The name."""
        ...


class TlsAt(Protocol):
    """Where the TLS files are, as the home writes paths."""

    @property
    def certificate(self) -> str:
        """PEM, leaf first."""
        ...

    @property
    def key(self) -> str:
        """PKCS#8."""
        ...

    @property
    def ca(self) -> str:
        """The SPIFFE roots, PEM."""
        ...


class Pins(Protocol):
    """What a home's custody.toml says."""

    @property
    def deployment(self) -> str:
        """The deployment id."""
        ...

    @property
    def genesis(self) -> str | None:
        """Digest of the genesis trust root."""
        ...

    @property
    def broker(self) -> BrokerAt | None:
        """The broker."""
        ...

    @property
    def tls(self) -> TlsAt | None:
        """The TLS files."""
        ...


class Memory(Protocol):
    """Keeps the highest epoch and the largest tree that were seen, so that a rollback is noticed later too."""

    def seen(self) -> Seen:
        """Return what was seen; zeros at first."""
        ...

    def remember(self, seen: Seen, root: str) -> None:
        """Keep what was verified; ``root`` is the digest of the newest trust root. Never goes back."""
        ...


class Home(Memory, Protocol):
    """A tool's home (``custody.app.home.Home``): its settings, how paths in them are meant, and its memory."""

    path: Path

    def require_profile(self) -> Pins:
        """Return the settings."""
        ...

    def resolve(self, setting: str) -> Path:
        """Return the path that a setting means."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """Deployment id, genesis digest (hex), broker address ``host:port``, its certificate's DNS name, the TLS files."""

    deployment: str
    genesis: str
    address: str
    server_name: str
    tls: TlsFiles

    @classmethod
    def of_home(cls, home: Home) -> Self:
        """Read a home. Raises ``ConfigError`` naming what is missing and where it belongs."""
        profile = home.require_profile()
        where = home.path / "custody.toml"
        if profile.genesis is None:
            raise ConfigError(
                f"{where}: no genesis trust root is pinned, so nothing that a broker says can be believed",
                hint="pin it: custody root verify keys/root.json --pin",
            )
        if profile.broker is None:
            raise ConfigError(
                f"{where}: no [broker] is named", hint='add: [broker] address = "broker.example.org:8443"'
            )
        if profile.tls is None:
            raise ConfigError(f"{where}: no [tls] files are named", hint='add: [tls] certificate, key and ca = "…"')
        host = profile.broker.address.rpartition(":")[0].strip("[]")
        if not host:
            raise ConfigError(f"{where}: broker address {profile.broker.address[:100]!a} is not host:port")
        tls = TlsFiles(*(home.resolve(path) for path in (profile.tls.certificate, profile.tls.key, profile.tls.ca)))
        return cls(profile.deployment, profile.genesis, profile.broker.address, profile.broker.server_name or host, tls)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Clock (seconds since 1970), entropy, a clock that never jumps, and how to wait (seconds)."""

    clock: Clock
    rng: Rng
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    def real(cls) -> Self:
        """The computer's own. A job's program has no composition above it, so they enter here."""
        return cls(lambda: int(time.time()), os.urandom)  # noqa: TID251 - see the docstring
