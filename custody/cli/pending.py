"""``custody pending``: what is asked, as it concerns whoever looks."""

import click

from custody.app.connect import find_key, open_desk
from custody.cli.people import surroundings
from custody.cli.permanent import mode_text
from custody.cli.profile import home_of
from custody.cli.registry import command, place
from custody.custodian.fold import RequestView
from custody.custodian.shown import span
from custody.documents.actor import actor_name
from custody.errors import CustodyError
from custody.rules.quorum import counted

__all__ = ["pending_command"]

_VERDICTS = {"approve": "approved", "deny": "denied", "veto": "vetoed"}
_COLUMNS = ("request", "version", "for", "purpose", "mode", "asked_by", "stands", "start_left", "yours")


@command(name="pending")
@click.option("--all", "everything", is_flag=True, help="Also those that are over.")
@click.pass_context
def pending_command(ctx: click.Context, everything: bool) -> None:
    """List the requests that concern you, each verified: those you may decide on first.

    Examples:
      custody pending
      custody pending --all --output json
    """
    output, home, around = place(ctx).out, home_of(ctx), surroundings()
    key = find_key(home, None)
    views: list[RequestView] = []
    bad: list[tuple[str, CustodyError]] = []
    with open_desk(home, around) as desk:
        for item in desk.requests(closed=everything):
            if isinstance(item, RequestView):
                views.append(item)
            else:
                bad.append(item)
    now = around.clock()
    rows = [_row(view, key.person if key else "", now) for view in views]
    rows.sort(key=lambda row: row["yours"] != "decide")
    output.table(
        ("REQUEST", "VERSION", "FOR", "PURPOSE", "MODE", "ASKED BY", "STANDS", "START LEFT", "YOU"),
        [tuple((row | {"mode": mode_text(row["mode"])})[name] for name in _COLUMNS) for row in rows],
    )
    for row in rows:
        if row["mode"] == "direct" and row["yours"] == "decide":
            output.warn(f"request {row['request']} is for direct mode: PERMANENT, NOT REVOCABLE")
    for digest, error in bad:
        output.warn(f"request {digest[:16]} does not verify and is not shown: {error.message}")
    if not rows:
        output.note("nothing is pending")
    output.result({"requests": rows, "unverified": [{"error": error.message, "request": d} for d, error in bad]})


def _row(view: RequestView, person: str, now: int) -> dict[str, str]:
    found = view.found
    terms = found.lease if found.granted else next(iter(found.terms.values()))
    sharing = view.version.version.sharing
    counts = counted(view.state, found, found.granted or next(iter(found.terms)), now)
    approvals = sum(verdict == "approve" for verdict in counts.values())
    stands = view.phase
    if found.phase == "requested":
        stands = f"{approvals} approved" if approvals else "asked"
    if found.reason or found.stopped:
        stands = found.reason or f"{found.stopped}, stopping"
    holder = bool(person) and sharing.slot_of(person) is not None
    yours = ""
    if holder and found.phase == "requested" and not found.stopped:
        yours = _VERDICTS[counts[person]] if person in counts else "decide"
    left = terms.open_before - now
    return {
        "asked_by": actor_name(found.request.requester),
        "for": terms.beneficiary,
        "mode": terms.mode,
        "purpose": terms.purpose,
        "request": found.digest[:16],
        "stands": stands,
        "start_left": span(left) if left > 0 else "over",
        "version": terms.version,
        "yours": yours,
    }
