"""The broker's own log is lines of JSON, whatever is said in it."""

import io
import json
import logging
import sys

from custody.app.logs import JsonLines


def line(record: logging.LogRecord) -> dict[str, str]:
    text = JsonLines().format(record)
    assert "\n" not in text
    found: dict[str, str] = json.loads(text)
    return found


def record(message: str, *arguments: object, **settings: object) -> logging.LogRecord:
    made = logging.getLogger("custody.test").makeRecord("custody.test", logging.INFO, "", 0, message, arguments, None)
    made.__dict__.update(settings)
    return made


def test_an_event_is_one_line_with_its_fields() -> None:
    said = line(record("call refused", fields={"method": "Open\nSession"}, created=1795818615.5))
    assert said == {
        "event": "call refused",
        "level": "info",
        "timestamp": "2026-11-27T22:30:15.500000Z",
        "method": "Open\nSession",
    }


def test_a_library_s_warning_is_one_too() -> None:
    assert line(record("%d sockets", 3))["event"] == "3 sockets"


def test_a_traceback_stays_on_its_line() -> None:
    try:
        json.load(io.StringIO("{"))
    except ValueError:
        made = record("call failed", exc_info=sys.exc_info())
    assert "Traceback" in line(made)["exception"]


def test_a_field_cannot_pass_for_the_event() -> None:
    assert line(record("call refused", fields={"event": "all is well"}))["event"] == "call refused"
