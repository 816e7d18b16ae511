"""Where alerts go: what a log says never becomes a word of a command, a URL or a header."""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from custody.app.telling import Command, Webhook
from custody.errors import ConfigError, UnavailableError

ALERT = {"code": "haste", "text": "$(touch pwned); `id` \u202e\n</b> @everyone"}


def test_a_command_gets_the_alert_on_its_standard_input_and_its_words_as_given(tmp_path: Path) -> None:
    out = tmp_path / "out"
    program = (
        "import sys,json,pathlib; pathlib.Path(sys.argv[1]).write_text(json.dumps([sys.argv[2:], sys.stdin.read()]))"
    )
    Command(f"{sys.executable} -c '{program}' '{out}' 'a b' '$HOME'")(ALERT)
    words, given = json.loads(out.read_text())
    assert words == ["a b", "$HOME"]
    assert json.loads(given) == ALERT
    assert given.isascii()
    assert given.count("\n") == 1


@pytest.mark.parametrize("line", ["false", "/nonexistent/program"])
def test_a_command_that_fails_has_told_nobody(line: str) -> None:
    with pytest.raises(UnavailableError, match=line.rsplit("/", maxsplit=1)[-1]):
        Command(line)(ALERT)


@pytest.mark.parametrize("line", ["", "  ", "a 'b"])
def test_a_line_that_is_no_command_is_refused(line: str) -> None:
    with pytest.raises(ConfigError, match="--run"):
        Command(line)


class _Hook(BaseHTTPRequestHandler):
    seen: ClassVar[list[tuple[str, str | None, Any]]] = []
    answer: ClassVar[int] = 204

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, self.headers["Content-Type"], json.loads(body)))
        self.send_response(self.answer)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server gives it
        pass


@pytest.fixture
def hook() -> Iterator[str]:
    _Hook.seen.clear()
    _Hook.answer = 204
    with HTTPServer(("127.0.0.1", 0), _Hook) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hook?team=security"
        server.shutdown()
        thread.join()


def test_a_webhook_is_posted_json(hook: str) -> None:
    Webhook(hook)(ALERT)
    assert _Hook.seen == [("/hook?team=security", "application/json", ALERT)]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_an_answer_that_is_no_success_has_told_nobody_and_no_redirect_is_followed(hook: str, status: int) -> None:
    _Hook.answer = status
    with pytest.raises(UnavailableError, match=f"answered {status}"):
        Webhook(hook)(ALERT)
    assert len(_Hook.seen) == 1


def test_a_webhook_that_is_not_there_has_told_nobody(hook: str) -> None:
    port = hook.split(":")[2].split("/", maxsplit=1)[0]
    with pytest.raises(UnavailableError, match="--webhook localhost"):
        Webhook(f"https://localhost:{port}/")(ALERT)  # it speaks no TLS


@pytest.mark.parametrize(
    "url",
    [
        *("http://hooks.example.org/x", "ftp://127.0.0.1/", "https:///x", "file:///etc/passwd", "hooks.example.org"),
        *("https://user:word@hooks.example.org/", "http://127.0.0.1.example.org/", "https://host:99999/"),
    ],
)
def test_a_url_that_would_send_in_the_clear_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="--webhook"):
        Webhook(url)
