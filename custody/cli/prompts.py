"""Passphrases and confirmations: from the terminal, or from a file descriptor that the caller opened.

Never from arguments (other users see them in ``ps``) and never from the environment (children inherit it). What is
typed goes from the kernel into a ``SecretBytes`` and is never a ``str``, so that it can be wiped.
"""

import os
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from custody.crypto.secret import SecretBytes
from custody.errors import ConfigError, DeniedError, FormatError, InterruptedByUser

__all__ = ["Prompter"]

_MOST: Final = 1024
"""Bytes of a passphrase at most; a terminal in line mode takes up to 4095."""
_LEAST: Final = 12
"""Characters of a new passphrase at least: it is all that stands between a stolen key file and a share."""
_CONTINUATION: Final = range(0x80, 0xC0)


class Prompter:
    """Asks the person at the terminal, or reads one line for each passphrase from ``descriptor``."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor: Final = descriptor
        self.attempts: Final = 3 if descriptor is None else 1
        """How often a wrong passphrase may be corrected."""

    def passphrase(self, what: str) -> SecretBytes:
        """Return the passphrase of ``what``. The caller closes it. ``ConfigError`` where nobody can be asked."""
        return self._passphrase(f"Passphrase of {what}: ")

    def new_passphrase(self, what: str) -> SecretBytes:
        """Return a new passphrase, typed twice at a terminal. ``DeniedError`` where it is short or they differ."""
        first = self._passphrase(f"New passphrase of {what} (at least {_LEAST} characters): ")
        try:
            if sum(byte not in _CONTINUATION for byte in first.view) < _LEAST:
                raise DeniedError(
                    f"the passphrase has fewer than {_LEAST} characters", hint="six random words are easy to remember"
                )
            if self._descriptor is None:
                with self._passphrase("The same again: ") as second:
                    if first.view != second.view:
                        raise DeniedError("the two passphrases differ", hint="nothing was written; start again")
        except BaseException:
            first.close()
            raise
        return first

    def confirm(self, question: str, *, yes: bool = False) -> None:
        """Return when the person answers yes, or ``yes`` is set. ``InterruptedByUser`` for any other answer."""
        if yes:
            return
        with _terminal("--yes answers in a script") as terminal:
            os.write(terminal, f"{question} [y/N] ".encode())
            answer = os.read(terminal, _MOST).strip().lower()
        if answer not in (b"y", b"yes"):
            raise InterruptedByUser("not confirmed: nothing was done")

    def _passphrase(self, prompt: str) -> SecretBytes:
        if self._descriptor is not None:
            try:
                return _read_line(self._descriptor)
            except OSError as error:
                raise ConfigError(
                    f"--passphrase-fd {self._descriptor}: {(error.strerror or '').lower()}",
                    hint=f"open it for the command: custody ... --passphrase-fd {self._descriptor} "
                    f"{self._descriptor}<FILE",
                ) from error
        with _terminal("--passphrase-fd N reads it from a file descriptor") as terminal, _silent(terminal):
            os.write(terminal, prompt.encode())
            try:
                return _read_line(terminal)
            finally:
                os.write(terminal, b"\n")


@contextmanager
def _terminal(otherwise: str) -> Iterator[int]:
    try:
        descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError("there is no terminal to ask at", hint=otherwise) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _silent(terminal: int) -> Iterator[None]:
    """Switch echo off, and back on whatever happens."""
    before = termios.tcgetattr(terminal)
    changed = termios.tcgetattr(terminal)
    changed[3] = (changed[3] | termios.ICANON) & ~(termios.ECHO | termios.ECHONL)
    termios.tcsetattr(terminal, termios.TCSAFLUSH, changed)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


def _read_line(descriptor: int) -> SecretBytes:
    """Read up to a line feed or the end, byte by byte: what follows belongs to the next passphrase."""
    with SecretBytes(_MOST + 1) as buffer:
        length = 0
        while length <= _MOST and os.readv(descriptor, [buffer.view[length : length + 1]]):
            if buffer.view[length] == ord("\n"):
                break
            length += 1
        else:
            if length > _MOST:
                raise FormatError(f"the passphrase is longer than {_MOST} bytes")
        if length and buffer.view[length - 1] == ord("\r"):
            length -= 1
        if length == 0:
            raise DeniedError("no passphrase was given")
        return SecretBytes.take(buffer.view[:length])
