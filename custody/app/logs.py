"""The broker's own log: a line of JSON for each event, on standard error.

::

    {"event": "call refused", "level": "info", "timestamp": "2026-11-27T22:30:15.123456Z", "method": …, "status": …}

What goes in are names, statuses and counts: never a document or a key. It is for whoever runs the broker, and proves
nothing: what must be proven stands in the transparency log.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

__all__ = ["JsonLines", "start_logging"]


class JsonLines(logging.Formatter):
    """One line a record. Its fields are those given as ``extra={"fields": {...}}``."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the event with its fields; a traceback stands in ``exception``, its line ends escaped."""
        said = dict(getattr(record, "fields", {})) | {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said)


def start_logging(stream: TextIO | None = None) -> None:
    """Log what Custody notes from INFO on, and what libraries warn of."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("custody").setLevel(logging.INFO)
