"""An approval within seconds: nobody can have looked at what they approved."""

from collections.abc import Iterator

from custody.audit.patterns.alert import Alert
from custody.audit.patterns.habits import Habits
from custody.audit.patterns.thresholds import Thresholds
from custody.audit.summary import who
from custody.documents.show import duration_text
from custody.entries.entry import Entry

__all__ = ["haste"]


def haste(habits: Habits, index: int, entry: Entry, limits: Thresholds) -> Iterator[Alert]:
    """Tell of an approval less than ``limits.haste`` seconds after its request, by the broker's clock."""
    filed = habits.filed.get(entry.request or "")
    if filed is None or entry.type != "decision" or entry.verdict != "approve":
        return
    after = max(0, entry.time - filed.time)
    if after < limits.haste:
        text = f"{who(entry)} approved {entry.version} for {filed.beneficiary} {duration_text(after)} after the request"
        yield Alert("haste", text, who(entry), index, entry.time)
