"""What the policy answered, derived again with the policy that was in force: entries name its digest, and the bundle of
that digest is the auditor's to bring, since its text stands in no document.

An entry of a request, a grant or a session says that the policy allowed it. A denial leaves no entry, so none that was
wrong can be found. The broker asks a moment before it writes the entry: what holds at either time holds.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from custody.audit.report import Finding, Report
from custody.entries.entry import Entry
from custody.errors import DeniedError
from custody.ports import Policy
from custody.rules.asking import ASKED, Question, ask, question_of
from custody.rules.state import State

__all__ = ["Answers"]

_BEFORE: Final = 60
"""Seconds that may pass between the broker's question and its entry."""

_REMEMBERED: Final = 4096
"""Answers: sessions of a fleet ask the same thing thousands of times."""


class Answers:
    """Asks again. ``policies`` are bundles by their digest; the report counts what was asked and what could not be."""

    def __init__(self, report: Report, policies: Mapping[str, Policy]) -> None:
        self._report = report
        self._policies = policies
        self._answer = lru_cache(maxsize=_REMEMBERED)(self._denial)

    def judge(self, index: int, state: State, entry: Entry) -> None:
        """Compare the policy's answer with a good entry that was just applied to ``state``."""
        if entry.type not in ASKED:
            return
        if entry.policy not in self._policies:
            self._report.unasked[entry.policy] += 1
            return
        self._report.asked[entry.policy] += 1
        denial = self._denied(state, entry, entry.time)
        if denial and self._denied(state, entry, max(0, entry.time - _BEFORE)):
            text = f"{denial}; this {entry.type} entry stands in the log all the same"
            self._report.find(Finding(index, "policy", text))

    def _denied(self, state: State, entry: Entry, at: int) -> str:
        question = question_of(state, entry, at)
        if question is None:
            return ""
        facts = tuple(question.facts.items())
        return self._answer(entry.policy, question.action, question.principal, question.resource, facts)

    def _denial(
        self, digest: str, action: str, principal: str, resource: str, facts: tuple[tuple[str, Any], ...]
    ) -> str:
        """Return why the policy denies; an empty string where it allows."""
        try:
            ask(self._policies[digest], Question(action, principal, resource, dict(facts)))
        except DeniedError as error:
            return error.message
        return ""
