"""An alert: one line for people, and what it is about for programs."""

from dataclasses import dataclass
from typing import Any, Final

from custody.audit.report import Finding
from custody.values import Time

__all__ = ["Alert", "finding_alert", "plain"]

_LONGEST: Final = 500


def plain(text: str) -> str:
    r"""Return one line of printable text, at most 500 letters; any other letter as ``\u{...}``.

    An alert is read in chats and terminals, which act on more letters than they show.
    """
    shown = "".join(letter if letter.isprintable() else f"\\u{{{ord(letter):04X}}}" for letter in text[:_LONGEST])
    return shown + ("…" if len(text) > _LONGEST else "")


@dataclass(frozen=True, slots=True)
class Alert:
    """Something to look at. ``code`` names the pattern, ``about`` the person, identity or witness.

    ``entry`` and ``time`` (POSIX seconds) are ``None`` where it is not about one entry.
    """

    code: str
    text: str
    about: str = ""
    entry: int | None = None
    time: int | None = None

    def data(self, deployment: str) -> dict[str, Any]:
        """Return it for JSON. Free text that people wrote in documents is never part of it."""
        return {
            "about": plain(self.about),
            "code": plain(self.code),
            "deployment": plain(deployment),
            "entry": self.entry,
            "schema": "custody/alert/v1",
            "text": plain(self.text),
            "time": str(Time(self.time)) if self.time is not None else None,
        }


def finding_alert(finding: Finding) -> Alert:
    """Return a finding of the audit as an alert: its code is ``finding-`` and the finding's."""
    return Alert(f"finding-{finding.code}", finding.text, finding.place, finding.entry)
