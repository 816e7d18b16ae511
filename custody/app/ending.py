"""Ends a deployment's log, so that a successor can go on: the last entry, the final checkpoint, the successor's key.

What is written is what the next trust root needs (``[log]`` and ``witness_policy`` in the ceremony file). The broker is
down from here until governance has signed it.
"""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from custody.adapters import small_files
from custody.app.arguments import checked
from custody.app.broker import open_ledger
from custody.app.broker_config import BrokerConfig
from custody.app.broker_parts import load_log_signer
from custody.app.deployment import write_signer
from custody.app.rebuilding import require_stopped
from custody.errors import ConfigError, ConflictError, UnavailableError
from custody.ports import Rng
from custody.rules.watching import LOG_END
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import ED25519, Note, NoteSigner
from custody.tlog.policy import LogKey
from custody.values import Deployment

__all__ = ["Ended", "end_log"]

_KEY: Final = "log.key"


@dataclass(frozen=True, slots=True)
class Ended:
    """The final checkpoint, and the successor's verifier key."""

    final: Checkpoint
    successor: str


def end_log(config: BrokerConfig, folder: Path, successor: str, directory: Path, rng: Rng) -> Ended:
    """Log the last entry, publish all, and write into ``directory`` what the next trust root needs: ``log.key``,
    ``log.vkey``, ``witness.policy``, ``final.checkpoint``.

    ``successor`` is the name of the next log. The broker must be stopped; witnesses must answer. May be repeated.
    Raises ``ConfigError`` where the broker runs or the name was a log's before, ``UnavailableError`` where the final
    checkpoint gets no quorum, and what a broker's start raises.
    """
    checked(Deployment, successor, "name of the successor", "write one such as custody.example.org/prod-2")
    require_stopped(config.listen.address)
    with ExitStack() as stack:
        ledger = open_ledger(config, folder, stack).ledger
        ledger.fold()
        with ledger.reading() as state:
            if not state.roots:
                raise ConfigError("the log is empty", hint="start the broker first")
            root, ended, names = state.root, state.ended, {found.log_name for found in state.roots}
        if successor in names:
            raise ConfigError(f"{successor} is this deployment's log, or was", hint="give the successor another name")
        signer = _make_key(successor, directory, rng)
        publisher = ledger.publisher
        publisher.recover()
        publisher.publish_once()  # the witnesses confirm where the log stands, before it is ended
        if not ended:
            ledger.append("system", actor=ledger.identity.party, reason=LOG_END)
        while publisher.publish_once():
            pass
        published = publisher.published
        with ledger.reading() as state:
            if published.size != state.size:
                raise UnavailableError("the end of the log is not published yet", hint="run this again")
    policy = replace(root.checkpoint_policy, logs=(LogKey(signer.vkey),))
    small_files.replace(directory / "log.vkey", f"{signer.vkey.encode()}\n".encode())
    small_files.replace(directory / "witness.policy", policy.encode())
    small_files.replace(directory / "final.checkpoint", published.checkpoint)
    return Ended(Checkpoint.parse(Note.parse(published.checkpoint).text), signer.vkey.encode())


def _make_key(name: str, directory: Path, rng: Rng) -> NoteSigner:
    """Make the successor's key, or take the one that an earlier run made."""
    small_files.make_directory(directory, 0o700)
    path = directory / _KEY
    if not path.exists():
        write_signer(path, NoteSigner.generate(name, ED25519, rng))
    signer = load_log_signer(path)
    if signer.vkey.name != name:
        raise ConflictError(f"{path} is the key of {signer.vkey.name}", hint="give another directory")
    return signer
