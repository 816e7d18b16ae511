"""Where alerts go: a command with a fixed argument list, or a webhook.

What an alert says comes from a log that others wrote. So it is never part of an argument list, a URL or a header: it
goes as one line of JSON (ASCII) to the command's standard input, or as the body of a POST.
"""

import http.client
import json
import shlex
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from custody.errors import ConfigError, UnavailableError

__all__ = ["Command", "Teller", "Webhook"]

_PATIENCE: Final = 30  # seconds
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class Teller(Protocol):
    """Takes one alert. Raises ``UnavailableError`` where it could not be told, so that it is told again."""

    def __call__(self, alert: Mapping[str, Any], /) -> None:
        """Tell it."""
        ...


class Command:
    """Runs a command for each alert, without a shell."""

    def __init__(self, line: str) -> None:
        """Split ``line`` into words as a shell does, once. ``ConfigError`` where that cannot be."""
        try:
            self.words: Final[Sequence[str]] = shlex.split(line)
        except ValueError as error:
            raise ConfigError(f"--run: {error}") from None
        if not self.words:
            raise ConfigError("--run: names no command")

    def __call__(self, alert: Mapping[str, Any], /) -> None:
        """Give the alert to the command's standard input; it must end with 0 within 30 seconds."""
        try:
            done = subprocess.run(  # noqa: S603 - the words are those of whoever started us; the alert goes to stdin
                self.words, input=_line(alert), stdout=subprocess.DEVNULL, timeout=_PATIENCE, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UnavailableError(f"--run {self.words[0]}: {error}") from None
        if done.returncode:
            raise UnavailableError(f"--run {self.words[0]}: ended with {done.returncode}")


class Webhook:
    """Posts each alert to one URL. Redirects are not followed, proxies not used."""

    def __init__(self, url: str) -> None:
        """``ConfigError`` for a URL that is neither https nor http on this machine."""
        try:
            parts = urlsplit(url)
            self._port: Final = parts.port
        except ValueError as error:
            raise ConfigError(f"--webhook: {error}") from None
        self._host: Final = parts.hostname or ""
        self._secure: Final = parts.scheme == "https"
        if (
            not self._host
            or parts.username is not None
            or not (self._secure or (parts.scheme == "http" and self._host in _LOOPBACK))
        ):
            raise ConfigError(
                "--webhook: neither https nor http to this machine", hint="write https://host/path, without a password"
            )
        self._target: Final = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def __call__(self, alert: Mapping[str, Any], /) -> None:
        """Post the alert; the answer must be a success."""
        connection = (
            http.client.HTTPSConnection(self._host, self._port, timeout=_PATIENCE, context=ssl.create_default_context())
            if self._secure
            else http.client.HTTPConnection(self._host, self._port, timeout=_PATIENCE)
        )
        try:
            connection.request("POST", self._target, _line(alert), {"Content-Type": "application/json"})
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"--webhook {self._host}: {str(error) or type(error).__name__}") from None
        finally:
            connection.close()
        if status // 100 != 2:  # noqa: PLR2004 - successes
            raise UnavailableError(f"--webhook {self._host}: answered {status}")


def _line(alert: Mapping[str, Any]) -> bytes:
    return json.dumps(alert, sort_keys=True, separators=(",", ":")).encode() + b"\n"
