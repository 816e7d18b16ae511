"""What the commands of people share: who signs, how times are shown, how digests are written."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from custody.adapters.home import Home
from custody.adapters.surroundings import Surroundings
from custody.app.connect import OwnKey, find_key
from custody.cli.output import Output, Rows
from custody.cli.profile import prompter, unlock
from custody.custodian.keys import DeviceSigner
from custody.documents.dsse import Document
from custody.errors import ConfigError

__all__ = ["document_json", "key_option", "key_to_sign", "say", "surroundings", "unlocked", "yes_option"]

_F = TypeVar("_F", bound=Callable[..., Any])


def key_option(function: _F) -> _F:
    """Add --key."""
    return click.option(
        "--key",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="KEYFILE",
        help="Your key file.  [default: profile]",
    )(function)


def yes_option(function: _F) -> _F:
    """Add --yes."""
    return click.option("--yes", is_flag=True, help="Do not ask: for programs.")(function)


def surroundings() -> Surroundings:
    """Return the computer's clock and entropy."""
    return Surroundings.real()


def key_to_sign(home: Home, given: Path | None) -> OwnKey:
    """Return the person's key file. ``ConfigError`` where none is named."""
    key = find_key(home, given)
    if key is None:
        raise ConfigError("no key file is named", hint="give --key KEYFILE, or set key_file in custody.toml")
    return key


@contextmanager
def unlocked(key: OwnKey, passphrase_fd: int | None) -> Iterator[DeviceSigner]:
    """Ask for the passphrase and unlock the key for the length of a block."""
    with unlock(prompter(passphrase_fd), key.path, key.file) as signer:
        yield signer


def document_json(document: Document) -> dict[str, Any]:
    """Return a document as a program reads it: its canonical JSON, and its digest."""
    return {**json.loads(document.encode()), "digest": document.digest}


def say(output: Output, rows: Rows, title: str, data: Mapping[str, Any]) -> None:
    """Say a result once to people and once to programs."""
    output.fields(rows, title)
    output.result(data)
