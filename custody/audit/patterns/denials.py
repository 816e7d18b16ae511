"""Denials in a row: somebody keeps asking for what they are not to have."""

from collections.abc import Iterator

from custody.audit.patterns.alert import Alert
from custody.audit.patterns.habits import Habits
from custody.audit.patterns.thresholds import Thresholds
from custody.entries.entry import Entry

__all__ = ["denials"]


def denials(habits: Habits, index: int, entry: Entry, limits: Thresholds) -> Iterator[Alert]:
    """Tell of every ``limits.denials`` requests of one requester that were denied with no grant between them."""
    filed = habits.filed.get(entry.request or "")
    if not limits.denials or filed is None or entry.type != "close" or entry.reason != "denied":
        return
    count = habits.denied[filed.requester] + 1
    if count % limits.denials == 0:
        text = f"{count} requests of {filed.requester} were denied in a row, the last one for {filed.beneficiary}"
        yield Alert("denials", text, filed.requester, index, entry.time)
