"""``custody log watch`` with a webhook that is not there, that fails, and that takes what it is told."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.command import Custody
from tests.unit.audit.busy import published, written


class Hook(HTTPServer):
    """Takes alerts on the loopback interface. Until ``serve`` its port is taken, and nobody listens there."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler, bind_and_activate=False)
        self.answers: list[int] = []
        self.posted: list[tuple[str, int, Any]] = []
        self.server_bind()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"

    def serve(self, *answers: int) -> None:
        """Give these answers, and success from then on."""
        self.answers += answers
        self.server_activate()
        self._thread.start()

    def end(self) -> None:
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        answer = self.server.answers.pop(0) if self.server.answers else 204
        alert = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.posted.append((self.path, answer, alert))
        self.send_response(answer)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server gives it
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    found = Hook()
    try:
        yield found
    finally:
        found.end()


def until(said: Callable[[], bool], what: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not said():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


def test_a_watch_goes_on_when_its_webhook_fails_says_so_in_one_line_and_tells_each_alert_in_the_end(
    tmp_path: Path, hook: Hook
) -> None:
    written(published(), tmp_path)
    custody = Custody(tmp_path, tmp_path / "home")
    words = ["log", "watch", "log", "--state", "watch.state", "--haste", "4s"]
    custody(*words, "--once")
    memory = tmp_path / "watch.state.watch"
    memory.write_text(memory.read_text().replace('"size":"46"', '"size":"20"'))  # as if nobody had been told the rest
    watching = custody.start(*words, "--every", "1s", "--webhook", hook.url)

    def errors() -> str:
        return os.pread(watching.errors.fileno(), 1 << 16, 0).decode()

    try:
        until(lambda: "trying again" in errors(), errors)
        assert '"size":"20"' in memory.read_text(), "what was not told is not remembered as told"
        hook.serve(204, 500)
        until(lambda: '"size":"46"' in memory.read_text(), errors)
        watching.process.send_signal(signal.SIGTERM)
        done = watching.wait()
    finally:
        watching.process.kill()
    said = [line for line in done.err.splitlines() if "webhook" in line]
    refused = "warning: --webhook 127.0.0.1: [Errno 111] Connection refused; trying again in 1 seconds"
    failed = "warning: --webhook 127.0.0.1: answered 500; trying again in 1 seconds"
    assert said[-1] == failed
    assert set(said[:-1]) == {refused}
    assert "Traceback" not in done.err
    assert {path for path, _, _ in hook.posted} == {"/hook"}
    told = [(alert["entry"], alert["code"]) for _, answer, alert in hook.posted if answer == 204]
    assert told == [(21, "haste"), *[(21, "haste"), (33, "haste"), (34, "haste")]], (
        "a round is told again from its start"
    )
    assert custody(*words, "--once", "--webhook", hook.url).out == ""
    assert len(hook.posted) == 5, "nothing is told twice"
