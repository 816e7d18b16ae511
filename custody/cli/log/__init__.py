"""``custody log``: verify, read and watch the transparency log. One file per command, or per few that share a table."""

from custody.cli.log import questions, receipts, report, show, verify, watch
from custody.cli.log.group import log

__all__ = ["log", "questions", "receipts", "report", "show", "verify", "watch"]
