"""Where a command's settings come from: its options first, then ``custody.toml`` in its home."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from custody.adapters.home import Home
from custody.cli.prompts import Prompter
from custody.cli.registry import place
from custody.crypto.keyfile import KeyFile
from custody.custodian.keys import DeviceSigner
from custody.errors import ConfigError, DeniedError

__all__ = [
    "clock",
    "genesis_option",
    "home_of",
    "key_setting",
    "passphrase_option",
    "prompter",
    "roots_option",
    "store_url",
    "unlock",
]

_F = TypeVar("_F", bound=Callable[..., Any])
_DEFAULT: Final = "~/.config/custody"


def roots_option(function: _F) -> _F:
    """Add --root, given as ``roots``."""
    return click.option(
        "--root",
        "roots",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="Trust root file, or a directory with root.json and root-<epoch>.json; may be repeated."
        "  [default: those verified before]",
    )(function)


def genesis_option(function: _F) -> _F:
    """Add --genesis."""
    return click.option(
        "--genesis",
        metavar="DIGEST",
        help="Digest of the genesis trust root, got out of band.  [default: the pinned one]",
    )(function)


def passphrase_option(function: _F) -> _F:
    """Add --passphrase-fd."""
    return click.option(
        "--passphrase-fd",
        type=int,
        metavar="N",
        help="Read passphrases from file descriptor N, one a line, instead of asking at the terminal.",
    )(function)


def clock() -> int:
    """Return seconds since 1970."""
    return int(time.time())


def home_of(context: click.Context) -> Home:
    """Return the home of this command: ``--home``, ``CUSTODY_HOME``, or ``~/.config/custody``."""
    return Home(place(context).home or Path(_DEFAULT))


def key_setting(home: Home) -> Path:
    """Return the key file that the profile names. ``ConfigError`` where it names none."""
    profile = home.profile()
    if profile is None or profile.key_file is None:
        raise ConfigError("no key file is named", hint="give --key KEYFILE, or set key_file in custody.toml")
    return home.resolve(profile.key_file)


def prompter(descriptor: int | None) -> Prompter:
    """Return who asks for passphrases."""
    return Prompter(descriptor)


def store_url(option: str | None, home: Home) -> str:
    """Return the URL of the store: ``--store``, or the profile's. ``file:relative`` is made absolute."""
    profile = home.profile()
    url, base = option, Path.cwd()
    if url is None and profile is not None:
        url, base = profile.store, home.path
    if url is None:
        raise ConfigError("no store is named", hint="give --store file:DIR, or set store in custody.toml")
    path = url.removeprefix("file:")
    if path != url and not path.startswith("/"):
        return f"file:{base / Path(path).expanduser()}"
    return url


def unlock(asker: Prompter, path: Path, key_file: KeyFile) -> DeviceSigner:
    """Ask for the passphrase of a key file and unlock it; at a terminal three times. The caller closes the signer.

    ``DeniedError`` names the file.
    """
    for attempt in range(1, asker.attempts + 1):
        try:
            with asker.passphrase(str(path)) as passphrase:
                return DeviceSigner(key_file.unlock(passphrase))
        except DeniedError as error:
            if attempt == asker.attempts:
                raise DeniedError(f"{path}: {error.message}", hint=error.hint) from error
    raise AssertionError
