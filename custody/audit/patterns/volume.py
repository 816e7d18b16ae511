"""Bytes far above habit: in one session, or in one day over many sessions."""

from collections.abc import Iterator

from custody.audit.patterns.alert import Alert
from custody.audit.patterns.habits import DAY, Habits
from custody.audit.patterns.thresholds import Thresholds
from custody.documents.show import size_text
from custody.entries.entry import Entry

__all__ = ["volume"]


def volume(habits: Habits, index: int, entry: Entry, limits: Thresholds) -> Iterator[Alert]:
    """Compare an ended session, and the day that it makes, with what its identity usually reads."""
    filed = habits.filed.get(entry.request or "")
    usual = habits.read.get(filed.beneficiary) if filed else None
    if not limits.volume or entry.type != "session-outcome" or filed is None or usual is None:
        return
    if usual.sessions < limits.sessions:
        return
    served = sum(item.bytes for item in entry.served)
    mean = usual.total // usual.sessions
    if served >= limits.floor and served > limits.volume * mean:
        text = f"{filed.beneficiary} read {size_text(served)} in one session; usual is {size_text(mean)}"
        yield Alert("volume-session", text, filed.beneficiary, index, entry.time)
    same = entry.time // DAY == usual.day
    before, days = (usual.before, usual.days) if same else (usual.before + usual.today, usual.days + (usual.today > 0))
    so_far = usual.today if same else 0
    bound = max(limits.floor, limits.volume * before // days) if days else None
    if bound is not None and so_far <= bound < so_far + served:  # told once a day, when the bound is crossed
        text = f"{filed.beneficiary} read {size_text(so_far + served)} in one day; usual is {size_text(before // days)}"
        yield Alert("volume-day", text, filed.beneficiary, index, entry.time)
