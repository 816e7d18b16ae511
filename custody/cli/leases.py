"""``custody lease``: which leases there are, and ending them."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import click

from custody.app.client import client_of
from custody.app.connect import find_key, open_desk
from custody.cli.people import key_option, surroundings
from custody.cli.permanent import mode_text
from custody.cli.profile import home_of, passphrase_option
from custody.cli.registry import group, place
from custody.cli.requests import confirmed, identity_of, unconfirmed
from custody.client.stopping import PATIENCE, stop
from custody.custodian.fold import RequestView
from custody.custodian.shown import span
from custody.documents.show import size_text
from custody.errors import CustodyError, DeniedError
from custody.values import Time, check_text

__all__ = ["lease"]


@group()
def lease() -> None:
    """List leases, give one back, or revoke one.

    A lease is what a quorum granted: one version, some files, one job, for a while. Its id is the digest of its terms.

    Examples:
      custody lease list
      custody lease revoke 77ab01c2 --reason "the job misbehaves"
    """


@lease.command(name="list")
@click.option("--all", "everything", is_flag=True, help="Also those that are over.")
@click.pass_context
def list_command(ctx: click.Context, everything: bool) -> None:
    """List the leases that concern you, each verified. What was used is the broker's word.

    Examples:
      custody lease list
      custody lease list --all --output json
    """
    output, around = place(ctx).out, surroundings()
    with open_desk(home_of(ctx), around) as desk:
        found = list(desk.requests(closed=everything))
    now = around.clock()
    rows = [_row(item, now) for item in found if isinstance(item, RequestView) and item.found.granted]
    bad = [item for item in found if not isinstance(item, RequestView)]
    output.table(
        ("LEASE", "VERSION", "FOR", "MODE", "STANDS", "ENDS", "LEFT", "USED", "SESSIONS"),
        [tuple((row | {"mode": mode_text(row["mode"])})[name] for name in _COLUMNS) for row in rows],
    )
    for digest, error in bad:
        output.warn(f"request {digest[:16]} does not verify and is not shown: {error.message}")
    if not rows:
        output.note("there is no lease")
    output.result({"leases": rows, "unverified": [{"error": error.message, "request": d} for d, error in bad]})


@lease.command(name="return")
@click.argument("lease_id", metavar="LEASE")
@click.option("--reason", default="done", show_default=True, metavar="TEXT", help="Why: one line.")
@click.pass_context
def return_command(ctx: click.Context, lease_id: str, reason: str) -> None:
    """Give a lease back before its time, as the job that has it. Sent again until the log confirms it.

    Examples:
      custody lease return 77ab01c2
    """
    _stop(ctx, lease_id, "return", reason, None, as_workload=True, passphrase_fd=None)


@lease.command(name="revoke")
@click.argument("lease_id", metavar="LEASE")
@click.option("--reason", required=True, metavar="TEXT", help="Why: one line.")
@key_option
@passphrase_option
@click.pass_context
def revoke_command(ctx: click.Context, lease_id: str, reason: str, key: Path | None, passphrase_fd: int | None) -> None:
    """End a lease at once, as one of its custodians, owners or governance: running reads are cut off.

    It is sent again until the log confirms it; until then it says NOT CONFIRMED. It cannot take back what a job has
    read already, nor, in direct mode, the keys that sessions were given: no further session begins, and their URLs of
    the store are not renewed.

    Examples:
      custody lease revoke 77ab01c2 --reason "the job misbehaves"
    """
    _stop(ctx, lease_id, "revoke", reason, key, as_workload=False, passphrase_fd=passphrase_fd)


def _stop(
    ctx: click.Context,
    reference: str,
    action: Literal["return", "revoke"],
    reason: str,
    key: Path | None,
    *,
    as_workload: bool,
    passphrase_fd: int | None,
) -> None:
    output, home, around = place(ctx).out, home_of(ctx), surroundings()
    check_text(reason, "--reason")
    signing = None if as_workload else find_key(home, key)
    with identity_of(signing, passphrase_fd) as identity, client_of(home, around, identity) as custody:
        pending = custody.find(reference)
        before = pending.status()
        granted = before.granted
        if granted is None:
            raise DeniedError(
                "the request is not granted, so there is no lease to end",
                hint=f"its requester takes it back with: custody withdraw {pending.digest[:8]}",
            )
        stop(
            custody.link,
            custody.identity,
            action,
            granted.digest,
            reason,
            patience=PATIENCE,
            unconfirmed=unconfirmed(output),
        )
        begun = before.sessions
        with suppress(CustodyError):  # it is stopped, whatever else can be learned
            begun = pending.status().sessions
    direct = begun if granted.mode == "direct" else None
    confirmed(output, "returned" if action == "return" else "revoked", granted.digest, kept_by=direct)


_COLUMNS: Sequence[str] = ("lease", "version", "for", "mode", "stands", "ends", "left", "used", "sessions")


def _row(view: RequestView, now: int) -> dict[str, Any]:
    found, terms = view.found, view.found.lease
    left = terms.not_after - now
    over = view.phase == "closed" or bool(found.stopped)
    return {
        "ends": str(Time(terms.not_after)),
        "for": terms.beneficiary,
        "left": "over" if over or left <= 0 else span(left),
        "lease": found.granted[:16],
        "mode": terms.mode,
        "sessions": f"{view.sessions} of {terms.sessions}",
        "stands": found.reason or (f"{found.stopped}, stopping" if found.stopped else view.phase),
        "used": f"{size_text(view.spent).partition(' (')[0]} of {size_text(terms.bytes).partition(' (')[0]}",
        "version": terms.version,
    }
