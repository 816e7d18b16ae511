"""One entry, judged and applied. The broker calls this before it appends an entry, the audit for each entry it reads;
so there is no rule that one keeps and the other forgets.

All checks of an entry come before its first change, so an entry that is refused leaves the state as it was.
"""

from collections.abc import Callable, Mapping
from typing import Final

from custody.documents.dsse import Envelope
from custody.entries.entry import Entry, Parent
from custody.errors import IntegrityError
from custody.rules import deciding, opening, requesting, sealing, stopping, watching
from custody.rules.facts import Facts
from custody.rules.signers import INLINE, WorkloadVerifier
from custody.rules.state import State
from custody.values import U64

__all__ = ["CLOCK_TOLERANCE", "step"]

CLOCK_TOLERANCE: Final = 5
"""Seconds by which an entry's time may lie before the entry before it (several threads read the clock)."""

# type: (rule, the kinds of the documents that it names: these and no others, each once)
_RULES: Final[dict[str, tuple[Callable[[Facts], None], frozenset[str]]]] = {
    kind: (rule, frozenset(documents.split()))
    for kind, rule, documents in (
        ("root", sealing.root, "root"),
        ("manifest", sealing.manifest, "content sharing"),
        ("request", requesting.request, "request terms release-key"),
        ("release-key", requesting.release_key, "release-key"),
        ("decision", deciding.decision, "decision"),
        ("release", deciding.release, "release"),
        ("grant", deciding.grant, ""),
        ("opening-intent", opening.opening_intent, ""),
        ("opening-outcome", opening.opening_outcome, ""),
        ("session-intent", opening.session_intent, "open"),
        ("session-outcome", opening.session_outcome, ""),
        ("stop", stopping.stop, "stop"),
        ("close", stopping.close, ""),
        ("hello", watching.hello, "hello"),
        ("system", watching.system, ""),
    )
}


def step(
    state: State,
    entry: Entry,
    documents: Mapping[str, Envelope],
    *,
    leaf: str | None = None,
    verifier: WorkloadVerifier = INLINE,
) -> None:
    """Judge ``entry`` as the next one after ``state`` and apply it. ``leaf`` is its leaf hash, where that is known.

    Raises a ``CustodyError`` that names the rule, and changes nothing, when the entry must not be there.
    """
    facts = Facts(state, entry, Parent(index=U64(state.size), leaf=leaf or entry.leaf), documents, verifier)
    if entry.type != "root":
        facts.require(bool(state.roots), "the log does not begin with a trust root")
        facts.require(entry.root == state.root_digest, "it names another trust root than the one in force")
        facts.require(entry.policy == state.root.policy, "it names another policy than the trust root's")
        facts.require(state.root.broker(entry.broker) is not None, f"{entry.broker} is not a broker of the trust root")
        facts.require(not state.ended, "the log has ended: only a trust root that names its successor may follow")
    if entry.time < state.time - CLOCK_TOLERANCE:
        message = f"entry {state.size}: its time lies {state.time - entry.time} seconds before the entry before it"
        raise IntegrityError(message)
    facts.require(entry.id not in state.used, "its id was used before")
    rule, wanted = _RULES[entry.type]
    kinds = [reference.kind for reference in entry.documents]
    facts.require(len(kinds) == len(wanted) and wanted == set(kinds), "it names other documents than its type has")
    rule(facts)
    state.used.add(entry.id)
    state.size += 1
    state.time = max(state.time, entry.time)
