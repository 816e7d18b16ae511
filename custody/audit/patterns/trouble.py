"""What the broker says of itself that somebody should look at, and witnesses who fall silent."""

from collections.abc import Collection, Iterator
from typing import Final

from custody.audit.patterns.alert import Alert
from custody.audit.patterns.habits import Habits
from custody.audit.patterns.thresholds import Thresholds
from custody.entries.entry import Entry

__all__ = ["silent_witnesses", "trouble"]

_WORDS: Final = ("witness", "clock-jump", "lockdown")


def trouble(habits: Habits, index: int, entry: Entry, limits: Thresholds) -> Iterator[Alert]:
    """Tell of witness trouble, clock jumps and lockdowns that were logged, and of strangers by the thousand."""
    del habits
    if entry.type != "system" or entry.reason is None:
        return
    count = f", {entry.count} times" if entry.count is not None else ""
    if any(entry.reason.startswith(word) for word in _WORDS):
        yield Alert("trouble", f"broker {entry.broker} logs {entry.reason}{count}", entry.broker, index, entry.time)
    if entry.reason == "refused-strangers" and 0 < limits.strangers <= (entry.count or 0):
        text = f"broker {entry.broker} refused {entry.count} strangers in a minute"
        yield Alert("strangers", text, entry.broker, index, entry.time)


def silent_witnesses(named: Collection[str], cosigned: Collection[str], before: Collection[str]) -> list[Alert]:
    """Tell of the witnesses of the policy (``named``) that did not cosign the newest checkpoint, though they had
    cosigned the one ``before``. The quorum may still be met: with one more gone it may not be.
    """
    return [
        Alert("witness-silent", f"witness {name} did not cosign the newest checkpoint", name)
        for name in sorted(set(named) & set(before) - set(cosigned))
    ]
