"""All patterns over one entry."""

from collections.abc import Callable, Iterator
from typing import Final

from custody.audit.patterns.alert import Alert
from custody.audit.patterns.denials import denials
from custody.audit.patterns.firsts import firsts
from custody.audit.patterns.habits import Habits
from custody.audit.patterns.haste import haste
from custody.audit.patterns.thresholds import Thresholds
from custody.audit.patterns.trouble import trouble
from custody.audit.patterns.volume import volume
from custody.entries.entry import Entry

__all__ = ["PATTERNS", "Pattern", "look"]

Pattern = Callable[[Habits, int, Entry, Thresholds], Iterator[Alert]]

PATTERNS: Final[tuple[Pattern, ...]] = (denials, firsts, haste, trouble, volume)


def look(habits: Habits, index: int, entry: Entry, limits: Thresholds) -> list[Alert]:
    """Return what every pattern says of an entry, and learn from it."""
    alerts = [alert for pattern in PATTERNS for alert in pattern(habits, index, entry, limits)]
    habits.learn(entry)
    return alerts
