"""What is usual, learned from entries: who has asked before, how much is read, how often somebody was denied."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from custody.audit.summary import who
from custody.entries.entry import Entry

__all__ = ["DAY", "Filed", "Habits", "Reading"]

DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Filed:
    """An open request: when it was filed (POSIX seconds), by whom, for which workload."""

    time: int
    requester: str
    beneficiary: str


@dataclass(slots=True)
class Reading:
    """What one identity has read: in sessions that ended, and by day."""

    sessions: int = 0
    total: int = 0
    days: int = 0
    """Days before the present one on which it read."""
    before: int = 0
    """Bytes on those days."""
    day: int = 0
    today: int = 0

    def add(self, time: int, served: int) -> None:
        """Count a session that ended."""
        if time // DAY != self.day:
            self.days += self.today > 0
            self.before += self.today
            self.day, self.today = time // DAY, 0
        self.sessions += 1
        self.total += served
        self.today += served


@dataclass(slots=True)
class Habits:
    """Everything learned so far."""

    filed: dict[str, Filed] = field(default_factory=dict)
    identities: set[str] = field(default_factory=set)
    builds: set[str] = field(default_factory=set)
    roots: int = 0
    denied: Counter[str] = field(default_factory=Counter)
    """Requests denied in a row, by requester."""
    read: dict[str, Reading] = field(default_factory=dict)

    def learn(self, entry: Entry) -> None:
        """Take the next entry."""
        self.builds.add(entry.build)
        filed = self.filed.get(entry.request or "")
        match entry.type:
            case "root":
                self.roots += 1
            case "request":
                self.filed[entry.request or ""] = Filed(entry.time, who(entry), str(entry.beneficiary))
                self.identities.add(str(entry.beneficiary))
            case "grant" if filed:
                self.denied.pop(filed.requester, None)
            case "session-outcome" if filed:
                reading = self.read.setdefault(filed.beneficiary, Reading())
                reading.add(entry.time, sum(item.bytes for item in entry.served))
            case "close" if filed and entry.reason != "broker-lost":
                if entry.reason == "denied":
                    self.denied[filed.requester] += 1
                del self.filed[entry.request or ""]
