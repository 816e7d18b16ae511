"""What a program must say before it can talk to a broker.

Two things are pinned out of band and never learned from the network: the deployment id and the digest of the genesis
trust root. Everything else that is trusted follows from them.
"""

from dataclasses import dataclass
from typing import Protocol, Self

from custody.adapters.home import Home
from custody.errors import ConfigError
from custody.rules.trust import Seen
from custody.wire.tls import TlsFiles

__all__ = ["Memory", "Settings"]


class Memory(Protocol):
    """Keeps the highest epoch and the largest tree that were seen, so that a rollback is noticed later too."""

    def seen(self) -> Seen:
        """Return what was seen; zeros at first."""
        ...

    def remember(self, seen: Seen, root: str) -> None:
        """Keep what was verified; ``root`` is the digest of the newest trust root. Never goes back."""
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
        where = home.profile_path
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
