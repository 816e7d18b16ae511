"""Putting a sealed version into custody: its manifest goes to the broker, and the log's receipt comes back."""

from dataclasses import dataclass

from custody.adapters.home import Home
from custody.adapters.surroundings import Surroundings
from custody.app.versions import find_version
from custody.client.link import Link
from custody.client.settings import Settings
from custody.entries.receipt import Receipt, Verified
from custody.errors import IntegrityError
from custody.ports import Store
from custody.rules.trust import Trust

__all__ = ["Registered", "register", "require_manifest"]


@dataclass(frozen=True, slots=True)
class Registered:
    """A version in custody: its content digest, and the entry that says so."""

    version: str
    content: str
    index: int


def register(home: Home, store: Store, version: str, around: Surroundings) -> Registered:
    """Register the version of this name that lies in ``store``. Registering it again changes nothing.

    Raises ``NotFoundError`` where the store has none, ``DeniedError`` where a rule says no, ``ConflictError`` where the
    name is taken by other content, ``IntegrityError`` where the receipt is not of this version.
    """
    with Link(Settings.of_home(home), around, home) as link:
        roots = link.verify(lambda trust: trust.roots)
        found = find_version(store, version, roots)
        receipt = link.call(lambda calls: calls.register_version(found.manifest.encode()))

        def check(trust: Trust) -> Verified:
            return require_manifest(trust, receipt, found.manifest.content.digest)

        verified = link.verify(check)
    return Registered(version, found.manifest.content.digest, verified.index)


def require_manifest(trust: Trust, receipt: Receipt, content: str) -> Verified:
    """Require that the receipt is of the entry that took this content into custody. ``IntegrityError`` otherwise."""
    verified = trust.check(receipt)
    if verified.entry.type != "manifest" or verified.entry.content != content:
        raise IntegrityError("the receipt is of another entry, not the registration asked for")
    return verified
