"""The command line as people run it: a process of its own, passphrases through a descriptor or at a real terminal."""

import contextlib
import os
import pty
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.doubles.warm import Warm, start
from tests.unit.house.tree import ROOT

__all__ = ["PASSPHRASE", "Custody", "Done", "Started"]

PASSPHRASE = "correct horse battery staple"
_TIMEOUT = 60
_COMPILED = ("PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE")  # where Python keeps what it has compiled


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """What went wrong, without ``custody: ``; the error and its hint are all there is after the notes."""
        lines = [line for line in self.err.splitlines() if line.startswith("custody: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0].removeprefix("custody: ")


@dataclass(frozen=True)
class Started:
    """A command that runs; what it prints is thrown away but for its errors."""

    process: Warm
    errors: IO[bytes]

    def wait(self) -> Done:
        """Wait for its end."""
        with self.errors:
            return Done(self.process.wait(_TIMEOUT), "", _text(self.errors))


@dataclass(frozen=True)
class Custody:
    """``custody`` in a directory, with a home."""

    directory: Path
    home: Path

    def __call__(
        self,
        *arguments: object,
        passphrases: Sequence[str] = (),
        code: int = 0,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Done:
        """Run a command and require its exit code. Passphrases go through a descriptor, one a line.

        ``prefix`` is a program that starts it, and then it starts from nothing.
        """
        words = [*map(str, arguments)]
        with _typed(passphrases) as reader, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            if passphrases:
                words += ["--passphrase-fd", str(reader)]
            process: Warm | subprocess.Popen[bytes]
            if prefix:
                process = subprocess.Popen(
                    [*prefix, sys.executable, "-m", "custody.cli", *words],
                    cwd=self.directory,
                    env=self.environment(environment),
                    stdout=out,
                    stderr=err,
                    pass_fds=[reader],
                    start_new_session=True,
                )
            else:
                process = self._warm(words, reader, out.fileno(), err.fileno(), environment)
            try:
                ended = process.wait(_TIMEOUT)
            finally:
                process.kill()
            done = Done(ended, _text(out), _text(err))
        assert ended == code, f"exit {ended}\n{done.out}\n{done.err}"
        return done

    def start(self, *arguments: object, passphrases: Sequence[str] = ()) -> "Started":
        """Start a command and let it run."""
        with _typed(passphrases) as reader, Path(os.devnull).open("wb") as nowhere:
            words = [*map(str, arguments), *(["--passphrase-fd", str(reader)] if passphrases else [])]
            errors = tempfile.TemporaryFile()  # noqa: SIM115 - whoever waits closes it
            return Started(self._warm(words, reader, nowhere.fileno(), errors.fileno()), errors)

    def at_terminal(self, *arguments: object, typed: Sequence[tuple[str, str]], code: int = 0) -> str:
        """Run a command at a terminal; type each answer after its prompt has appeared. Return all that was shown."""
        master, slave = pty.openpty()
        process = subprocess.Popen(
            # No ``preexec_fn``: gRPC, whose threads do not survive a fork, would say so at the terminal now and then.
            ["setsid", "--ctty", sys.executable, "-m", "custody.cli", *map(str, arguments)],
            cwd=self.directory,
            env=self.environment({"TERM": "xterm-256color"}),
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        try:
            shown, searched = "", 0
            for prompt, answer in typed:
                while (place := shown.find(prompt, searched)) < 0:
                    piece = _read(master)
                    assert piece, f"never asked {prompt!r}:\n{shown}"
                    shown += piece
                searched = place + len(prompt)
                os.write(master, f"{answer}\n".encode())
            while piece := _read(master):
                shown += piece
            assert process.wait(_TIMEOUT) == code, shown
            return shown
        finally:
            os.close(master)
            process.kill()
            process.wait()

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What the process sees: as little as possible."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "CUSTODY_HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            **{name: os.environ[name] for name in _COMPILED if name in os.environ},
            **(more or {}),
        }

    def _warm(
        self, words: Sequence[str], reader: int, out: int, err: int, environment: Mapping[str, str] | None = None
    ) -> Warm:
        with Path(os.devnull).open("rb") as nothing:
            descriptors = {0: nothing.fileno(), 1: out, 2: err, reader: reader}
            return start(words, self.directory, self.environment(environment), descriptors)


@contextlib.contextmanager
def _typed(passphrases: Sequence[str]) -> Iterator[int]:
    """A descriptor from which they can be read, one a line."""
    reader, writer = os.pipe()
    try:
        os.write(writer, "".join(f"{item}\n" for item in passphrases).encode())
        os.close(writer)
        yield reader
    finally:
        os.close(reader)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _read(descriptor: int) -> str:
    ready, _, _ = select.select([descriptor], [], [], _TIMEOUT)
    with contextlib.suppress(OSError):  # EIO: the other end has closed
        if ready:
            return os.read(descriptor, 65536).decode("utf-8", "replace").replace("\r\n", "\n")
    return ""
