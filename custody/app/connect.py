"""Puts together a person's tool that talks to a broker: settings and memory of a home, a connection, a key file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from custody.adapters.home import Home
from custody.adapters.surroundings import Surroundings
from custody.client.link import dial
from custody.client.settings import Settings
from custody.crypto.keyfile import KeyFile
from custody.custodian.desk import Desk
from custody.custodian.keys import load_key, owner_of
from custody.errors import ConfigError
from custody.rules.trust import Trust

__all__ = ["OwnKey", "find_key", "open_desk"]


@dataclass(frozen=True, slots=True)
class OwnKey:
    """A person's key file, locked: where it lies, what it is, and whose it says it is."""

    path: Path
    file: KeyFile
    person: str

    @property
    def device(self) -> str:
        """The device's key id, hex."""
        return self.file.key_id.hex()


def find_key(home: Home, given: Path | None) -> OwnKey | None:
    """Return the key file to sign with: the given one, or the home's, or ``None`` where there is neither.

    Raises ``ConfigError`` where the home names another person than the file.
    """
    profile = home.profile()
    path = given or (home.resolve(profile.key_file) if profile and profile.key_file else None)
    if path is None:
        return None
    file = load_key(path)
    person, _ = owner_of(file)
    if profile is not None and profile.person not in (None, person):
        raise ConfigError(
            f"{path} is the key of {person}, but {home.profile_path} is that of {profile.person}",
            hint="choose another --key or --home",
        )
    return OwnKey(path, file, person)


@contextmanager
def open_desk(home: Home, around: Surroundings) -> Iterator[Desk]:
    """Connect and take the trust roots, verified from the pinned genesis. Raises what is wrong with them."""
    settings = Settings.of_home(home)
    trust = Trust(settings.deployment, settings.genesis, home.seen())
    with dial(settings, around.clock()) as calls:
        yield Desk(calls, trust, home, clock=around.clock, rng=around.rng, sleep=around.sleep)
