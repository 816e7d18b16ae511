"""What was never there before: an identity, a build of the broker, a trust root."""

from collections.abc import Iterator

from custody.audit.patterns.alert import Alert
from custody.audit.patterns.habits import Habits
from custody.audit.patterns.thresholds import Thresholds
from custody.audit.summary import who
from custody.entries.entry import Entry

__all__ = ["firsts"]


def firsts(habits: Habits, index: int, entry: Entry, limits: Thresholds) -> Iterator[Alert]:
    """Tell of a workload for which somebody asks for the first time, of another broker build, of every later root."""
    del limits
    if entry.type == "request" and entry.beneficiary and entry.beneficiary not in habits.identities:
        text = f"{who(entry)} asks for {entry.version} for {entry.beneficiary}: nobody has asked for that one before"
        yield Alert("first-identity", text, entry.beneficiary, index, entry.time)
    if habits.builds and entry.build not in habits.builds:
        text = f"broker {entry.broker} runs a build that the log has not seen: {entry.build[:16]}…"
        yield Alert("first-build", text, entry.broker, index, entry.time)
    if entry.type == "root" and habits.roots:
        text = f"a new trust root enters into force: {entry.documents[0].document[:16]}…"
        yield Alert("new-root", text, "", index, entry.time)
