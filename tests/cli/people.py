"""A running deployment, and the command as each of its people has it: real processes, real key files."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custody.crypto.keyfile import KeyFile
from custody.crypto.sodium import random_into
from custody.documents.root import Group, Roster
from custody.values import U64
from tests.doubles.command import PASSPHRASE, Custody, Done
from tests.doubles.site import DEPLOYMENT, JOB, PERSONS, VERSION, Site, write_model

__all__ = ["BOARD", "COOL_OFF", "SIZES", "People", "running"]

SIZES = {"config.json": 700, "model.safetensors": (12 << 20) + 123, "tokenizer/vocab.txt": 90_000}
BOARD = "frontier/llm@1"
COOL_OFF = 8
_TRIO = Group(name="owners", threshold=2, members=("alice", "bob", "carol"))


@dataclass
class People:
    """A running deployment, and the command as each of its people has it."""

    site: Site
    directory: Path

    def __call__(self, who: str, *words: object, code: int = 0, locked: bool = True) -> Done:
        """Run a command as a person, or as ``job``; ``locked`` types the passphrase."""
        tool = Custody(self.directory, self.directory / "homes" / who)
        typed = [PASSPHRASE] if locked and who in PERSONS else []
        return tool(*words, passphrases=typed, code=code)

    def look(self, who: str, *words: object, code: int = 0) -> Done:
        """Run a command that asks for no passphrase."""
        return self(who, *words, code=code, locked=False)

    def json(self, who: str, *words: object, locked: bool = True) -> Any:
        """Run a command and read what a program would."""
        return json.loads(self(who, *words, "--output", "json", locked=locked).out)

    def ask(self, *words: object, version: str = VERSION) -> str:
        """File a request of dave for the job; returns its digest."""
        asked = self.json(
            "dave", "request", version, "--for", JOB, "--purpose", "serving", "--reason", "a test", *words
        )
        return str(asked["request"]["digest"])

    def granted(self, *words: object, version: str = VERSION) -> str:
        """A request that alice and bob approved."""
        request = self.ask(*words, version=version)
        for person in ("alice", "bob"):
            self(person, "approve", request, "--yes")
        return request

    def restart(self) -> None:
        """Kill the broker and start it again where it was."""
        self.site.restart_broker(signal.SIGKILL)

    def plain(self, path: str) -> bytes:
        return (self.directory / "model" / path).read_bytes()


@contextmanager
def running(directory: Path, kind: type[Site] = Site) -> Iterator[People]:
    """Start a deployment with two rosters, two versions, and a home for everybody."""
    guards = (("custodians", "*", "with-decision", 0), ("board", "frontier/*", "after-quorum", COOL_OFF))
    rosters = [
        Roster(name=name, guards=(pattern,), groups=(_TRIO,), release=mode, cool_off=U64(wait))  # type: ignore[arg-type]
        for name, pattern, mode, wait in guards
    ]
    with kind(directory / "site", rosters=rosters) as site:
        source = write_model(directory / "model", SIZES)
        for version in (VERSION, BOARD):
            site.register(site.seal(source, version, segment=1 << 20))
        people = People(site, directory)
        for who in (*PERSONS, "job"):
            _home(people, who)
        yield people


def _home(people: People, who: str) -> None:
    site, home = people.site, people.directory / "homes" / who
    home.mkdir(parents=True, mode=0o700)
    lines = [f'deployment = "{DEPLOYMENT}"', f'genesis = "{site.root_envelope.digest}"']
    if who in PERSONS:
        locked = KeyFile.lock(site.keys[who], bytearray(PASSPHRASE.encode()), f"{who}/laptop", random_into)
        (home / "own.key").write_bytes(locked.encode())
        (home / "own.key").chmod(0o600)
        lines += [f'person = "{who}"', 'key_file = "own.key"']
    tls = site.directory / "tls" / who
    lines += ["[broker]", f'address = "{site.address}"', 'server_name = "broker-1.custody"', "[tls]"]
    lines += [f'certificate = "{tls}/tls.crt"', f'key = "{tls}/tls.key"', f'ca = "{tls}/ca.pem"']
    (home / "custody.toml").write_text("\n".join(lines) + "\n")
