"""Puts together a program that asks a broker for a version: settings and memory of a home, and who signs."""

from collections.abc import Iterator
from contextlib import contextmanager

from custody.adapters.home import Home
from custody.adapters.surroundings import Surroundings
from custody.app.connect import OwnKey
from custody.client.custody import Custody
from custody.client.identity import DeviceIdentity, Identity
from custody.client.settings import Settings
from custody.documents.dsse import Signer

__all__ = ["client_of", "person_identity"]


def person_identity(key: OwnKey, signer: Signer) -> DeviceIdentity:
    """Return a person who signs with an unlocked device."""
    return DeviceIdentity(key.person, signer)


@contextmanager
def client_of(home: Home, around: Surroundings, identity: Identity | None = None) -> Iterator[Custody]:
    """Connect as a program does; without ``identity`` as the workload of the TLS files."""
    with Custody(Settings.of_home(home), identity=identity, memory=home, around=around) as custody:
        yield custody
