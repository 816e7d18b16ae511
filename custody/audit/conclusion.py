"""What only the end of a log can say: what is left open, and what a reader should know of whom it trusts."""

from itertools import pairwise

from custody.audit.report import Open, Report
from custody.rules.state import State

__all__ = ["conclude"]


def conclude(report: Report, state: State) -> None:
    """Add to a report what the state after the last entry implies."""
    report.open = _open(state)
    if not state.roots:
        return
    report.epoch, report.root_digest = int(state.root.epoch), state.root_digest
    counted = state.root.checkpoint_policy.counted()
    if len(counted) == 1:
        report.remark(
            "one-witness",
            f"{counted[0].name} is the only witness: if those who run the log run it too, they can rewrite history",
        )
    _remark_logs(report, state)
    _remark_policies(report)


def _remark_logs(report: Report, state: State) -> None:
    """Say under which names and keys the log was published: whoever pinned the first needs the others."""
    successors, rekeyed = [], []
    for entry, (before, root) in zip(state.root_entries[1:], pairwise(state.roots), strict=True):
        if root.log_name != before.log_name:
            successors.append(
                f"{before.log_name} ended at size {entry.index}, and its successor {root.log_name} goes on from there"
            )
        elif root.log.vkey != before.log.vkey:
            rekeyed.append(f"the key of {root.log_name} was changed by entry {entry.index}")
    if successors:
        report.remark("successor", "; ".join(successors))
    if rekeyed:
        report.remark("log-key", "; ".join(rekeyed))
    if state.ended:
        report.remark("ended", f"{state.root.log_name} has ended, and no successor of it is here")


def _remark_policies(report: Report) -> None:
    """Say what the policy answered and nobody derived again."""
    if report.unasked:
        policies = ", ".join(f"{count} under policy {digest[:16]}…" for digest, count in sorted(report.unasked.items()))
        report.remark(
            "policy",
            f"what the policy answered was not derived again, of requests, grants and sessions: {policies}; "
            "give the folder of each policy with --policy (and --anew, where --state remembers)",
        )


def _open(state: State) -> list[Open]:
    """List intents without an outcome."""
    found = []
    for request in state.live.values():
        if request.opening is not None:
            found.append(Open(int(request.opening.index), "opening-intent", request.granted, 0))
        found += [
            Open(int(session.entry.index), "session-intent", request.granted, session.ceiling)
            for session in request.sessions.values()
        ]
    return sorted(found, key=lambda item: item.entry)
