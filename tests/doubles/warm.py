"""Our command line in a process of its own, without the second that Python takes to import it.

One process for each that tests imports all of Custody and then only waits; every command is a fork of it, with the
arguments, directory, environment and descriptors that it would have been started with. What begins anew with a fork is
the same as with ``exec``: memory, threads, signals, exit. That the program starts from nothing is shown by the tests
that start it from nothing: at a terminal, in a shell, as broker and witness.

Request, one datagram: the words, the directory, the environment and the numbers that the descriptors beside it shall
have, as JSON. Answer, down a pipe that came with them: the child's id, and at its end its wait status, as C ints.
"""

import atexit
import fcntl
import gc
import importlib
import itertools
import json
import os
import pkgutil
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

import custody
from custody.cli import main
from tests.unit.house.tree import ROOT

__all__ = ["Warm", "start"]

_INT: Final = struct.Struct("i")
_LARGEST: Final = 1 << 17  # bytes of a request
_MOST: Final = 16  # descriptors in a request
_HIGH: Final = 256  # above every number that a descriptor may have to get in the child
# What commands import when they run: modules of others that no module of ours imports at once.
_LATER: Final = (
    "grpc._utilities",
    "rich.console",
    "rich.progress",
    "rich.table",
    "rich.text",
)


class Warm:
    """A command that runs, or ran: as much of ``subprocess.Popen`` as tests ask for."""

    def __init__(self, status: int) -> None:
        self._status = status
        self.returncode: int | None = None
        self.pid: int = self._read()

    def poll(self) -> int | None:
        """Return how it ended, or ``None`` while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended: its id may be that of another by now."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = os.waitstatus_to_exitcode(self._read())
            os.close(self._status)
        return self.returncode

    def _read(self) -> int:
        data = os.read(self._status, _INT.size)
        if len(data) != _INT.size:
            raise AssertionError("the process that all commands are forked from has ended")
        number: int = _INT.unpack(data)[0]
        return number


class _Source:
    """The process that commands are forked from, as the one that tests sees it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

        atexit.register(self.end, os.getpid())

    def end(self, owner: int) -> None:
        """Let it end, and what still runs with it."""
        if os.getpid() == owner:
            self._channel.close()
            self.process.wait()

    def start(self, request: bytes, descriptors: Sequence[int]) -> Warm:
        reader, writer = os.pipe()
        try:
            with self._lock:
                socket.send_fds(self._channel, [request], [writer, *descriptors])
        finally:
            os.close(writer)
        return Warm(reader)


_sources: dict[int, _Source] = {}
_lock = threading.Lock()


def start(
    words: Sequence[str], directory: Path, environment: Mapping[str, str], descriptors: Mapping[int, int]
) -> Warm:
    """Start ``custody`` with these words; ``descriptors`` says what each descriptor of the new process is here."""
    with _lock:
        if os.getpid() not in _sources:
            _sources[os.getpid()] = _Source()
    request = json.dumps([[*words], str(directory), {**environment}, [*descriptors]])
    return _sources[os.getpid()].start(request.encode(), tuple(descriptors.values()))


# ---------------------------------------------------------------------------------------------- in the process itself


def _serve(channel: socket.socket) -> Sequence[str]:
    """Fork for each request, until nobody is left to ask. Returns in the children, with the words of the command."""
    running: dict[int, int] = {}
    waiting = selectors.DefaultSelector()
    waiting.register(channel, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is not channel:
                pid: int = key.data
                waiting.unregister(key.fileobj)
                os.close(key.fd)
                status = running.pop(pid)
                _tell(status, os.waitpid(pid, 0)[1])
                os.close(status)
                continue
            data, descriptors, _, _ = socket.recv_fds(channel, _LARGEST, _MOST)
            if not data:
                for pid in running:
                    os.kill(pid, signal.SIGKILL)
                sys.exit()
            pid = os.fork()
            if pid == 0:
                waiting.close()
                channel.detach()
                return _become(descriptors[1:], *json.loads(data))
            running[pid] = descriptors[0]
            waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
            _tell(descriptors[0], pid)
            for descriptor in descriptors[1:]:
                os.close(descriptor)


def _tell(pipe: int, number: int) -> None:
    try:
        os.write(pipe, _INT.pack(number))
    except BrokenPipeError:
        return  # nobody waits for this one


def _become(
    descriptors: Sequence[int],
    words: Sequence[str],
    directory: str,
    environment: Mapping[str, str],
    numbers: Sequence[int],
) -> Sequence[str]:
    """Take the place of a process that was started with ``exec``."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    apart = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _HIGH) for descriptor in descriptors]
    for descriptor, number in zip(apart, numbers, strict=True):
        os.dup2(descriptor, number)
    kept = sorted({0, 1, 2, *numbers})
    for number, following in itertools.pairwise([*kept, max(apart, default=_HIGH) + 1]):
        os.closerange(number + 1, following)
    sys.argv = ["custody", *words]
    return words


def _warm_up() -> None:
    """Import all there is. No thread may run when the children are forked."""
    os.environ["GRPC_VERBOSITY"] = "NONE"  # as ``main`` says before gRPC is imported: it asks once
    for module in pkgutil.walk_packages(custody.__path__, "custody."):
        if module.name.rpartition(".")[2] not in {"__main__", "env"} and ".versions." not in module.name:
            importlib.import_module(module.name)
    for name in _LATER:
        importlib.import_module(name)
    if threading.active_count() != 1 or len(list(Path("/proc/self/task").iterdir())) != 1:
        raise AssertionError("an import has started a thread")
    gc.collect()
    gc.freeze()


def _run(words: Sequence[str]) -> NoReturn:
    """Run the command, wait for its threads as Python does, and end before Python tidies up: what it would tidy is the
    parent's, page after page to be copied first.
    """
    code: object = 1
    try:
        main(words)
    except SystemExit as end:
        code = end.code
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    threading._shutdown()  # type: ignore[attr-defined]  # executors let their threads go, and all threads are joined
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who interrupts the tests interrupts us too: first the children end
    _channel = socket.socket(fileno=int(sys.argv[1]))
    _warm_up()
    _run(_serve(_channel))
