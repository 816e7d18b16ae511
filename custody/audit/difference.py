"""What was added to a log between two sizes, in people's words."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from custody.audit.summary import who
from custody.documents.show import size_text
from custody.entries.entry import Entry

__all__ = ["Difference", "difference"]


@dataclass(slots=True)
class Difference:
    """Entries by type, and sentences that sum them up. Times are POSIX seconds; ``None`` where nothing was added."""

    begin: int
    end: int
    first: int | None = None
    last: int | None = None
    types: Counter[str] = field(default_factory=Counter)
    words: list[str] = field(default_factory=list)


def difference(begin: int, end: int, entries: Iterable[tuple[int, Entry]]) -> Difference:
    """Sum up the entries from ``begin`` to ``end`` (exclusive)."""
    result = Difference(begin, end)
    told = _Told()
    for index, entry in entries:
        result.first = entry.time if result.first is None else min(result.first, entry.time)
        result.last = entry.time if result.last is None else max(result.last, entry.time)
        result.types[entry.type] += 1
        told.take(index, entry)
    result.words = told.sentences()
    return result


class _Told:
    """Counts what is worth a sentence."""

    def __init__(self) -> None:
        self._roots: list[int] = []
        self._counts: dict[str, Counter[str]] = {}
        self._served = 0

    def take(self, index: int, entry: Entry) -> None:
        version = str(entry.version or "")
        match entry.type:
            case "root":
                self._roots.append(index)
            case "manifest":
                self._count("sealed", f"{version} by {who(entry)}")
            case "request":
                self._count("requested", f"{version} by {who(entry)} for {entry.beneficiary}")
            case "decision":
                self._count({"approve": "approved", "deny": "denied"}.get(str(entry.verdict), "vetoed"), who(entry))
            case "grant":
                self._count("granted", f"{version} to {entry.beneficiary}")
            case "session-intent":
                self._count("sessions begun", f"of {version} by {who(entry)}")
            case "session-outcome":
                self._served += sum(item.bytes for item in entry.served)
            case "stop":
                self._count("stopped", f"{entry.reason} by {who(entry)}")
            case "opening-outcome" if entry.outcome != "ok":
                self._count("failed to open", str(entry.reason))
            case "close":
                self._count("closed", str(entry.reason))
            case "system":
                self._count("broker", str(entry.reason))

    def _count(self, what: str, which: str) -> None:
        self._counts.setdefault(what, Counter())[which] += 1

    def sentences(self) -> list[str]:
        words = [f"a trust root enters into force: entry {index}" for index in self._roots]
        for what, counts in self._counts.items():
            listed = [
                f"{which}{f' ({count} times)' if count > 1 else ''}" for which, count in counts.most_common(_MOST)
            ]
            more = [f"and {len(counts) - _MOST} more"] if len(counts) > _MOST else []
            words.append(f"{what}: {', '.join([*listed, *more])}")
        if self._served:
            words.append(f"served: {size_text(self._served)}")
        return words


_MOST = 8
