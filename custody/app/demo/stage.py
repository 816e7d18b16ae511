"""Where the demo plays: commands are run as a person would type them, and what they print is shown."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from custody.errors import ConfigError, ConflictError, CustodyError

__all__ = ["PASSPHRASE", "Stage", "taken"]

PASSPHRASE: Final = "passphrase"  # noqa: S105 - the name of a file
"""Name of the file in a home that holds the passphrase: a demo has nobody to type it."""

_MOST_LINES: Final = 60


@dataclass
class Stage:
    """A directory, the people's homes in it, and the servers that run."""

    directory: Path
    say: Callable[[str], None]
    title: Callable[[str], None]
    servers: dict[str, "subprocess.Popen[str]"] = field(default_factory=dict)
    abrupt: set[str] = field(default_factory=set)

    def home(self, who: str) -> Path:
        """Where somebody keeps settings, keys and memory."""
        return self.directory / "homes" / who

    def run(self, who: str | None, *words: str, expect: int = 0, show: bool = True, passphrase: bool = False) -> str:
        """Run ``custody`` as somebody and show command and output; the exit code must be the expected one."""
        shown = [self._short(word) for word in words]
        if show:
            self.say(f"  $ custody {f'--home homes/{who} ' if who else ''}{' '.join(map(_quoted, shown))}")
        result = self._start(who, words, passphrase=passphrase)
        output, errors = result.communicate()
        if result.returncode != expect:
            raise CustodyError(
                f"the demo expected exit code {expect} of custody {words[0]}, got {result.returncode}: {errors.strip()}"
            )
        if show:
            # What a person is asked to sign is on standard error, and so is what went wrong.
            self._show(errors if expect or passphrase else "")
            self._show("" if expect else output)
        return output

    def ask(self, who: str, *words: str, passphrase: bool = False) -> dict[str, Any]:
        """Run a command for its JSON; only the command is shown."""
        shown = [self._short(word) for word in words]
        self.say(f"  $ custody --home homes/{who} {' '.join(map(_quoted, shown))}")
        answer = self.run(who, *words, "--output", "json", show=False, passphrase=passphrase)
        found: dict[str, Any] = json.loads(answer)
        return found

    def background(self, name: str, command: Sequence[str]) -> None:
        """Start a program that is none of ours, says nothing, and takes too long to end of itself: it is killed."""
        self.abrupt.add(name)
        with (self.directory / f"{name}.err").open("a") as errors:
            self.servers[name] = subprocess.Popen(
                command, cwd=self._base(), stdout=errors, stderr=errors, text=True, start_new_session=True
            )
        (self.directory / f"{name}.pid").write_text(f"{self.servers[name].pid}\n")

    def serve(self, name: str, *words: str, environment: Mapping[str, str] | None = None) -> str:
        """Start a server and return the address in the line with which it says that it is ready.

        Raises ``ConfigError`` with all that it said where it does not start.
        """
        with (self.directory / f"{name}.err").open("a") as errors:
            before = errors.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "custody.cli", *words],
                cwd=self._base(),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
        self.servers[name] = process
        (self.directory / f"{name}.pid").write_text(f"{process.pid}\n")
        line = process.stdout.readline().strip() if process.stdout else ""
        if not line:
            with (self.directory / f"{name}.err").open() as errors:
                errors.seek(before)
                said = " ".join(errors.read().split())
            raise ConfigError(f"the {name} did not start: {said or 'it said nothing'}")
        self.say(f"  {line}")
        return line.rsplit(" ", 1)[1]

    def stop(self, name: str) -> None:
        """End a server and wait for it."""
        process = self.servers.pop(name, None)
        if process is None:
            return
        if name in self.abrupt:
            process.kill()
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()
        (self.directory / f"{name}.pid").unlink(missing_ok=True)

    def job(self, script: Path, *words: str) -> "subprocess.Popen[str]":
        """Start a job's own program, which uses the library."""
        self.say(f"  $ python {self._short(str(script))} {' '.join(self._short(word) for word in words)}")
        return subprocess.Popen(
            [sys.executable, str(script), *words],
            cwd=self._base(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _start(self, who: str | None, words: Sequence[str], *, passphrase: bool) -> "subprocess.Popen[str]":
        home = ("--home", str(self.home(who))) if who else ()
        command = [sys.executable, "-m", "custody.cli", *home, *words]
        if not passphrase or who is None:
            return subprocess.Popen(
                command, cwd=self._base(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        with (self.home(who) / PASSPHRASE).open("rb") as secret:
            number = secret.fileno()
            return subprocess.Popen(
                [*command, "--passphrase-fd", str(number)],
                cwd=self._base(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                pass_fds=(number,),
            )

    def _base(self) -> Path:
        return self.directory if self.directory.exists() else self.directory.parent

    def _show(self, output: str) -> None:
        lines = output.rstrip().splitlines()
        for line in lines[:_MOST_LINES]:
            self.say(f"    {line}")
        if len(lines) > _MOST_LINES:
            self.say(f"    … {len(lines) - _MOST_LINES} more lines")

    def _short(self, word: str) -> str:
        """Write paths as they look from the demo's directory."""
        return word.replace(f"{self.directory}/", "")


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word


@contextmanager
def taken(directory: Path) -> Iterator[None]:
    """Take a directory for a demo, clearing away what an earlier one left: its processes first.

    A file ``<directory>.lock`` beside it marks the directory as a demo's, and keeps a second demo out. Raises
    ``ConflictError`` for a directory with things in it that no demo made.
    """
    lock = directory.with_name(f"{directory.name}.lock")
    directory.parent.mkdir(parents=True, exist_ok=True)
    ours = lock.exists()
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConflictError(f"{directory}: a demo runs there", hint="wait for it, or give another --dir") from None
        if directory.exists() and any(directory.iterdir()):
            if not ours:
                lock.unlink()
                raise ConflictError(f"{directory}: not empty, and not made by a demo", hint="give another --dir")
            _clear(directory)
        yield


def _clear(directory: Path) -> None:
    for path in directory.glob("*.pid"):
        with suppress(ValueError, OSError):
            pid = int(path.read_text())
            # The number may be another process's by now: only a server of this very demo is ended.
            if directory == Path(f"/proc/{pid}/cwd").readlink():
                os.kill(pid, signal.SIGTERM)
    shutil.rmtree(directory)
