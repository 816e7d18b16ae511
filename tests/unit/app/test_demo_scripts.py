"""The scripts that a demo leaves, with servers that do what the test says."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from custody.app.demo.scripts import Server, down, up
from tests.doubles.ports import own_ports

SERVE = """
import os, sys, time
print(os.environ.get("SAYS", "nothing"), file=sys.stderr)
print("server listening on nothing", flush=True)
time.sleep(60)
"""
FAIL = "import sys; sys.exit('error: cannot listen\\n  hint: is the address in use?')"
MUTE = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('listening', flush=True); time.sleep(60)"


def server(name: str, program: str, *words: str, port: int = 0, abrupt: bool = False) -> Server:
    return Server(name, (sys.executable, "-c", program, *words), {"SAYS": "it's me"}, port, abrupt)


class Place:
    """A directory with the scripts for some servers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._all: list[Server] = []

    def leave(self, *servers: Server) -> None:
        self._all = list(servers)
        for name, text in (("up", up(servers)), ("down", down(reversed(servers)))):
            (self.directory / name).write_text(text)

    def __call__(self, script: str) -> "subprocess.CompletedProcess[str]":
        """From another directory, as people do."""
        return subprocess.run(
            ["bash", str(self.directory / script)], capture_output=True, text=True, timeout=60, check=False
        )

    def pid(self, name: str) -> int:
        return int((self.directory / f"{name}.pid").read_text())

    def pids(self) -> Sequence[str]:
        return sorted(path.stem for path in self.directory.glob("*.pid"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    directory = tmp_path / "it's a demo"
    directory.mkdir()
    place = Place(directory)
    yield place
    place("down")


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_is_started_is_ready_runs_on_and_is_stopped(place: Place) -> None:
    port = own_ports(1)[0]
    place.leave(server("s3", MUTE, str(port), port=port, abrupt=True), server("broker", SERVE))
    assert place("up").returncode == 0
    s3, broker = place.pid("s3"), place.pid("broker")
    assert runs(s3)
    assert runs(broker)
    assert "listening" in (place.directory / "broker.out").read_text()
    assert (place.directory / "broker.err").read_text() == "it's me\n"
    assert place("down").returncode == 0
    assert not runs(s3)
    assert not runs(broker)
    assert place.pids() == []


def test_started_once_more_nothing_runs_twice(place: Place) -> None:
    place.leave(server("witness", SERVE), server("broker", SERVE))
    place("up")
    witness, broker = place.pid("witness"), place.pid("broker")
    os.kill(broker, signal.SIGKILL)
    again = place("up")
    assert (again.returncode, again.stdout) == (0, "the witness runs\n")
    assert place.pid("witness") == witness
    assert place.pid("broker") != broker


def test_what_does_not_start_says_why_and_what_it_said_last_time_counts_for_nothing(place: Place) -> None:
    place.leave(server("witness", SERVE), server("broker", SERVE))
    place("up")
    place("down")
    place.leave(server("witness", SERVE), server("broker", FAIL))
    failed = place("up")
    assert failed.returncode == 1
    assert failed.stderr == "the broker did not start:\nerror: cannot listen\n  hint: is the address in use?\n"
    place.leave(server("witness", FAIL), server("broker", SERVE))
    place("down")
    failed = place("up")
    assert failed.returncode == 1
    assert failed.stderr.startswith("the witness did not start:\nerror: cannot listen\n")
    assert "broker" not in place.pids()


def test_another_process_that_got_the_number_is_left_alone(place: Place) -> None:
    place.leave(server("broker", SERVE))
    with subprocess.Popen([sys.executable, "-c", SERVE], cwd="/", stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        (place.directory / "broker.pid").write_text(f"{other.pid}\n")
        assert place("down").returncode == 0
        assert other.poll() is None
        (place.directory / "broker.pid").write_text(f"{other.pid}\n")
        assert place("up").returncode == 0
        assert place.pid("broker") != other.pid
        other.kill()


def test_one_that_takes_too_long_to_end_is_ended_abruptly(place: Place) -> None:
    place.leave(server("s3", DEAF, abrupt=True))
    assert place("up").returncode == 0
    pid = place.pid("s3")
    place("down")
    assert not runs(pid)


def test_words_are_quoted() -> None:
    assert shlex.join(["env", "SAYS=it's me"]) in up([server("broker", SERVE)])
