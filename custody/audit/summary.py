"""An entry in one line for people: who did what. Everything comes from the entry itself; documents say more."""

from collections.abc import Callable, Mapping
from typing import Final

from custody.documents.show import size_text
from custody.entries.entry import Entry

__all__ = ["what", "who"]

_SHORT: Final = 12  # hex digits: enough to find a digest, not to trust it


def who(entry: Entry) -> str:
    """Return the actor: a person, a SPIFFE ID, or the broker where it acts by itself."""
    if entry.actor is None:
        return f"broker {entry.broker}"
    name = entry.actor.id
    kind, colon, rest = name.partition(":")
    if colon and kind == "person":
        return rest
    return f"broker {rest}" if kind == "broker" else name


def what(entry: Entry) -> str:
    """Return what happened, in words."""
    return _WORDS.get(entry.type, _other)(entry)


def _short(digest: str | None) -> str:
    return f"{digest[:_SHORT]}…" if digest else "none"


def _root(entry: Entry) -> str:
    return f"trust root {_short(entry.documents[0].document)} enters into force"


def _manifest(entry: Entry) -> str:
    return f"sealed {entry.version}"


def _request(entry: Entry) -> str:
    return f"asks for {entry.version} for {entry.beneficiary}, request {_short(entry.request)}"


def _release_key(entry: Entry) -> str:
    return f"new release key for request {_short(entry.request)}"


def _decision(entry: Entry) -> str:
    verb = {"approve": "approves", "deny": "denies", "veto": "vetoes"}[entry.verdict or "deny"]
    return f"{verb} {entry.version}, terms {_short(entry.terms)}"


def _release(entry: Entry) -> str:
    return f"sends the share of slot {entry.slot}, terms {_short(entry.terms)}"


def _grant(entry: Entry) -> str:
    return f"grants {entry.version} to {entry.beneficiary}: approved by {', '.join(entry.persons)}"


def _opening_intent(entry: Entry) -> str:
    return f"rebuilds the key of {entry.version} with the shares of {', '.join(entry.persons)}"


def _opening_outcome(entry: Entry) -> str:
    if entry.outcome == "ok":
        return f"lease {_short(entry.terms)} is open"
    slot = f", bad share in slot {entry.slot}" if entry.slot else ""
    return f"opening lease {_short(entry.terms)} failed: {entry.reason}{slot}"


def _session_intent(entry: Entry) -> str:
    files = sum(item.last - item.first + 1 for item in entry.files)
    count = f"{files} file{'' if files == 1 else 's'}"
    size = size_text(entry.ceiling or 0)
    if entry.mode == "direct":
        return f"opens a DIRECT session of {entry.version}: the keys of {count} for good, {size}"
    return f"opens a session of {entry.version}: {count}, at most {size}"


def _session_outcome(entry: Entry) -> str:
    served = size_text(sum(item.bytes for item in entry.served))
    reason = f" ({entry.reason})" if entry.reason else ""
    return f"session {_short(entry.session)} ended {entry.outcome}{reason}: {served} served"


def _stop(entry: Entry) -> str:
    stopped = f"lease {_short(entry.terms)}" if entry.terms else f"request {_short(entry.request)}"
    return f"stops {stopped}: {entry.reason}"


def _close(entry: Entry) -> str:
    closed = f"lease {_short(entry.terms)}" if entry.terms else f"request {_short(entry.request)}"
    return f"closes {closed}: {entry.reason}"


def _other(entry: Entry) -> str:
    parts = [str(entry.reason or entry.type)]
    parts += [f"{entry.count} times"] if entry.count is not None else []
    return ", ".join(parts)


_WORDS: Final[Mapping[str, Callable[[Entry], str]]] = {
    "root": _root,
    "manifest": _manifest,
    "request": _request,
    "release-key": _release_key,
    "decision": _decision,
    "release": _release,
    "grant": _grant,
    "opening-intent": _opening_intent,
    "opening-outcome": _opening_outcome,
    "session-intent": _session_intent,
    "session-outcome": _session_outcome,
    "stop": _stop,
    "close": _close,
    "hello": lambda _: "asks which trust root is in force",
}
