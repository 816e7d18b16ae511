"""A witness as a process: its configuration, its key file, its start and its end.

The key file holds one line, ``PRIVATE+KEY+name+hex8+base64(0x04 || seed)``, as other note signers write it, and is
readable by its owner only.
"""

import os
import re
import signal
import socket
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from custody.errors import ConfigError, FormatError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import COSIGNATURE, Note, NoteSigner, VKey
from custody.witness.app import create_app
from custody.witness.cosigner import Cosigner
from custody.witness.limits import TokenBuckets
from custody.witness.state import CheckpointStore, origin_hash

__all__ = ["WitnessConfig", "generate_key", "load_key", "serve"]

_MAX_KEY_FILE = 4096  # bytes
_OTHERS = 0o077
_LISTEN = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\[\]:/\s]+):(?P<port>[0-9]{1,5})")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_MAX_PORT = 65535
_MAX_CONNECTIONS = 256
_KEEP_ALIVE = 75  # seconds; a log asks often
_GRACE = 5  # seconds for open requests at the end


@dataclass(frozen=True, slots=True)
class WitnessConfig:
    """What a witness needs to run.

    ``listen`` is ``host:port`` (port 0: any free one), ``directory`` its memory, ``key_file`` its key, ``logs`` the
    vkeys it follows, ``prefix`` a path such as ``/witness``. ``rate`` (requests per second) and ``burst`` count per
    peer address.
    """

    listen: str
    directory: Path
    key_file: Path
    logs: tuple[str, ...]
    prefix: str = ""
    rate: float = 50.0
    burst: int = 200


def generate_key(name: str, rng: Callable[[int], bytes]) -> tuple[str, str]:
    """Make a key; return its secret line for the key file and its vkey line, both with a newline."""
    signer = NoteSigner.generate(name, COSIGNATURE, rng)
    return f"{signer.encode_secret()}\n", f"{signer.vkey.encode()}\n"


def load_key(path: Path) -> NoteSigner:
    """Read a key file. ``ConfigError`` where it is missing, open to others, or not a line with a key of type 0x04."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise ConfigError(f"witness key {path}: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_KEY_FILE:
            raise ConfigError(f"witness key {path}: not a file with one line")
        if status.st_mode & _OTHERS:
            raise ConfigError(f"witness key {path}: others may use it", hint=f"chmod 600 {path}")
        signer = _parse_key(os.read(descriptor, _MAX_KEY_FILE))
    finally:
        os.close(descriptor)
    if signer is None:
        raise ConfigError(f"witness key {path}: not one line PRIVATE+KEY+name+id+key")
    if signer.vkey.type != COSIGNATURE:
        raise ConfigError(f"witness key {path}: type 0x{signer.vkey.type:02x}, but a witness needs 0x04")
    return signer


def _parse_key(line: bytes) -> NoteSigner | None:
    """Read the key line; ``None`` instead of an error, because a UnicodeDecodeError carries the bytes along."""
    try:
        return NoteSigner.parse(line.removesuffix(b"\n").decode("utf-8"))
    except (FormatError, UnicodeDecodeError):
        return None


def _bind(listen: str) -> socket.socket:
    """Open the listening socket; ``ConfigError`` where that can't be."""
    match = _LISTEN.fullmatch(listen)
    if match is None or int(match["port"]) > _MAX_PORT:
        raise ConfigError(f"listen: {listen} is not host:port")
    host = match["host"].strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, int(match["port"])), family=family, backlog=_MAX_CONNECTIONS)
    except OSError as error:
        raise ConfigError(f"listen: {listen}: {error.strerror}") from error
    # Connections inherit it; asyncio sets it only where a socket says that it is TCP, which Python's do not. Without
    # it the body of an answer waits for the log to acknowledge the headers: 40 ms, whenever the log is slow to.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class _Server(uvicorn.Server):
    """Says when it is ready, so that whoever started it with port 0 learns the port."""

    def __init__(self, config: uvicorn.Config, banner: str) -> None:
        super().__init__(config)
        self._banner = banner

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            sys.stdout.write(self._banner)
            sys.stdout.flush()


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: uvicorn has stopped in answer to this signal and raises it once more for whoever ran it."""
    del number, frame


def serve(config: WitnessConfig, clock: Callable[[], int], monotonic: Callable[[], float]) -> None:
    """Run until SIGTERM or SIGINT, then finish open requests and return. Call it in the main thread.

    ``clock`` returns POSIX seconds, ``monotonic`` seconds for the rate limit. Prints one line when it is ready:
    ``witness NAME listening on http://HOST:PORT``, after one on standard error for each log. Raises ``ConfigError``.
    """
    signer = load_key(config.key_file)
    if not _PREFIX.fullmatch(config.prefix):
        raise ConfigError(f"prefix: {config.prefix} is not a path such as /witness")
    logs = [VKey.parse(log) for log in config.logs]
    if not logs:
        raise ConfigError("a witness that follows no log answers nobody")
    with CheckpointStore(config.directory, signer.vkey) as store, _bind(config.listen) as listener:
        cosigner = Cosigner(signer, logs, store, clock)
        for origin in cosigner.origins:
            note = cosigner.latest(origin_hash(origin))
            size = "nothing yet" if note is None else f"size {Checkpoint.parse(Note.parse(note).text).size}"
            sys.stderr.write(f"follows {origin}: cosigned {size}\n")
        app = create_app(
            cosigner,
            TokenBuckets(config.rate, config.burst, monotonic),
            prefix=config.prefix,
        )
        host, port = listener.getsockname()[:2]
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        server = _Server(
            uvicorn.Config(
                app,
                access_log=False,
                log_level="warning",
                lifespan="off",
                ws="none",
                http="h11",
                loop="asyncio",
                proxy_headers=False,
                server_header=False,
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=_GRACE,
            ),
            f"witness {signer.vkey.name} listening on http://{place}{config.prefix}\n",
        )
        previous = {number: signal.signal(number, _ignore) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            server.run(sockets=[listener])
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
