"""The command line as people run it: a process of its own, passphrases through a descriptor or at a real terminal."""

import contextlib
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.unit.house.tree import ROOT

__all__ = ["PASSPHRASE", "Custody", "Done"]

PASSPHRASE = "correct horse battery staple"
_TIMEOUT = 60


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
        """Run a command and require its exit code. Passphrases go through a descriptor, one a line."""
        words = [*prefix, sys.executable, "-m", "custody.cli", *map(str, arguments)]
        reader, writer = os.pipe()
        try:
            os.write(writer, "".join(f"{item}\n" for item in passphrases).encode())
            os.close(writer)
            if passphrases:
                words += ["--passphrase-fd", str(reader)]
            done = subprocess.run(
                words,
                cwd=self.directory,
                env=self.environment(environment),
                capture_output=True,
                text=True,
                pass_fds=[reader],
                start_new_session=True,
                timeout=_TIMEOUT,
                check=False,
            )
        finally:
            os.close(reader)
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: object, passphrases: Sequence[str] = ()) -> "subprocess.Popen[str]":
        """Start a command and let it run."""
        reader, writer = os.pipe()
        os.write(writer, "".join(f"{item}\n" for item in passphrases).encode())
        os.close(writer)
        words = [sys.executable, "-m", "custody.cli", *map(str, arguments)]
        words += ["--passphrase-fd", str(reader)] if passphrases else []
        try:
            return subprocess.Popen(
                words,
                cwd=self.directory,
                env=self.environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                pass_fds=[reader],
                start_new_session=True,
            )
        finally:
            os.close(reader)

    def at_terminal(self, *arguments: object, typed: Sequence[tuple[str, str]], code: int = 0) -> str:
        """Run a command at a terminal; type each answer after its prompt has appeared. Return all that was shown."""
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "custody.cli", *map(str, arguments)],
            cwd=self.directory,
            env=self.environment({"TERM": "xterm-256color"}),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one thread, one system call
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
            **(more or {}),
        }


def _read(descriptor: int) -> str:
    ready, _, _ = select.select([descriptor], [], [], _TIMEOUT)
    with contextlib.suppress(OSError):  # EIO: the other end has closed
        if ready:
            return os.read(descriptor, 65536).decode("utf-8", "replace").replace("\r\n", "\n")
    return ""
