"""``custody approve``, ``deny`` and ``release``: what a custodian does, after looking."""

from pathlib import Path
from typing import Any, Literal

import click

from custody.app.connect import open_desk
from custody.cli.output import Output
from custody.cli.people import document_json, key_option, key_to_sign, surroundings, unlocked, yes_option
from custody.cli.permanent import warn_permanent
from custody.cli.profile import home_of, passphrase_option, prompter
from custody.cli.registry import command, place
from custody.cli.versions import request_data
from custody.client.asking import seconds
from custody.custodian.acting import Acted, decide, look, release
from custody.custodian.desk import Desk
from custody.custodian.review import Review, require_decidable, review
from custody.custodian.shown import decided_rows, differences, freshness_text, moment, request_rows, signed_rows
from custody.custodian.signing import draft_decision
from custody.documents.decision import Decision
from custody.values import check_text

__all__ = ["approve_command", "deny_command", "release_command"]


@command(name="approve")
@click.argument("request")
@click.option("--note", default="", metavar="TEXT", help="For the record: one line, in the log's documents for ever.")
@click.option("--expires", metavar="SPAN", help="Your approval counts for so long.  [default: the start window]")
@key_option
@yes_option
@passphrase_option
@click.pass_context
def approve_command(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context,
    request: str,
    note: str,
    expires: str | None,
    key: Path | None,
    yes: bool,
    passphrase_fd: int | None,
) -> None:
    """Look at a request, and approve exactly what is shown.

    First everything is verified: signatures, log, witnesses, the sharing, others' decisions, the release key. Then it
    is shown, and you are asked. Before anything is signed the log must answer a greeting of yours, and the request must
    still be the same. Where the roster says so, your share goes along: checked against its commitment, wrapped for
    these terms and to this broker's release key only.

    Examples:
      custody approve 3f2a9c01
      custody approve 3f2a9c01 --yes --passphrase-fd 3 3<passphrase.txt
    """
    _decide(ctx, request, "approve", note=note, expires=expires, key=key, yes=yes, passphrase_fd=passphrase_fd)


@command(name="deny")
@click.argument("request")
@click.option("--note", default="", metavar="TEXT", help="Why: one line, in the log's documents for ever.")
@key_option
@yes_option
@passphrase_option
@click.pass_context
def deny_command(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context, request: str, note: str, key: Path | None, yes: bool, passphrase_fd: int | None
) -> None:
    """Look at a request, and deny it. Between the grant and the end of a cool-off this is a veto, and final.

    One denial alone ends nothing, unless no quorum is possible without you: others may still approve.

    Examples:
      custody deny 3f2a9c01 --note "not this week"
    """
    _decide(ctx, request, "deny", note=note, expires=None, key=key, yes=yes, passphrase_fd=passphrase_fd)


@command(name="release")
@click.argument("request")
@key_option
@yes_option
@passphrase_option
@click.pass_context
def release_command(ctx: click.Context, request: str, key: Path | None, yes: bool, passphrase_fd: int | None) -> None:
    """Send your share for a request that you have approved, without deciding again.

    Needed after the broker was restarted, since its release keys die with it; and where the roster's shares are sent
    only after the quorum and the cool-off. Your tool verifies for itself that you approved these terms, that nothing
    in the log has stopped them, and, after a quorum, the signed decisions, the grant and the cool-off.

    Examples:
      custody release 3f2a9c01
    """
    output, around = place(ctx).out, surroundings()
    home = home_of(ctx)
    own = key_to_sign(home, key)
    with open_desk(home, around) as desk:
        shown = look(desk, desk.find(request), person=own.person, device=own.device, clock=around.clock)
        _show(output, shown)
        terms = shown.terms_digest
        output.show([("your share", "of the version's key, for these terms only"), ("terms", terms)], "You send")
        warn_permanent(output, shown.terms, shown.view.version.version.content)
        prompter(passphrase_fd).confirm("Send your share?", yes=yes)
        with unlocked(own, passphrase_fd) as signer:
            acted = release(desk, shown, signer, clock=around.clock)
        _report(output, _after(desk, shown, acted, around.clock()), acted, None)


def _decide(
    ctx: click.Context,
    request: str,
    verdict: Literal["approve", "deny"],
    *,
    note: str,
    expires: str | None,
    key: Path | None,
    yes: bool,
    passphrase_fd: int | None,
) -> None:
    output, around = place(ctx).out, surroundings()
    home = home_of(ctx)
    check_text(note, "--note")
    own = key_to_sign(home, key)
    with open_desk(home, around) as desk:
        shown = look(desk, desk.find(request), person=own.person, device=own.device, clock=around.clock, compare=True)
        veto = verdict == "deny" and _cooling(shown)
        _show(output, shown)
        _differences(output, shown)
        require_decidable(shown, veto=veto)
        until = None if expires is None else shown.now + seconds(expires, "--expires")
        decision = draft_decision(shown, "veto" if veto else verdict, note, issued=shown.now, expires=until)
        _confirm(output, shown, decision, yes=yes, passphrase_fd=passphrase_fd)
        with unlocked(own, passphrase_fd) as signer:
            acted = decide(desk, shown, decision, signer, clock=around.clock)
        if acted.refused is not None:
            raise type(acted.refused)(
                f"your {decision.verdict} is in the log, but your share was not taken: {acted.later}",
                hint=f"send it again: custody release {shown.view.found.digest[:8]}",
            )
        _report(output, _after(desk, shown, acted, around.clock()), acted, decision)


def _cooling(shown: Review) -> bool:
    found, roster = shown.view.found, shown.roster
    return found.phase == "granted" and roster is not None and shown.now < found.granted_at + int(roster.cool_off)


def _show(output: Output, shown: Review) -> None:
    """Show what was verified. On stderr, so that a program's stdout holds the result alone."""
    output.show(request_rows(shown), f"Request {shown.view.found.digest}")
    output.show(decided_rows(shown), "So far")


def _differences(output: Output, shown: Review) -> None:
    if shown.last is None:
        output.show([("last lease", f"no earlier lease of {shown.terms.beneficiary} is known to you")], "Compared with")
        return
    when = moment(shown.last.found.granted_at, shown.now)
    found = differences(shown)
    differs = f"differs in {', '.join(what for what, _, _ in found)}" if found else "differs in nothing"
    rows = [("last lease", f"{shown.last.found.granted[:16]}, granted {when}"), ("this one", differs)]
    output.show(rows, "Compared with")
    for what, before, now in found:
        output.change("  -", what, before)
        output.change("  +", what, now)


def _confirm(output: Output, shown: Review, decision: Decision, *, yes: bool, passphrase_fd: int | None) -> None:
    output.show(signed_rows(shown, decision), "You sign")
    rows = [("fresh", freshness_text(shown)), ("", "before you sign, the log must answer a greeting of yours")]
    output.show(rows, "Known because")
    question = f"{decision.verdict.capitalize()} exactly this?"
    if decision.verdict == "approve":
        warn_permanent(output, shown.terms, shown.view.version.version.content)
        if shown.terms.mode == "direct":
            question = "Approve exactly this, PERMANENT and NOT REVOCABLE?"
    prompter(passphrase_fd).confirm(question, yes=yes)


def _after(desk: Desk, shown: Review, acted: Acted, now: int) -> Review:
    view = desk.request(shown.view.found.digest)
    return review(view, person=shown.person, device=shown.device, now=now, freshness=acted.freshness)


def _report(output: Output, seen: Review, acted: Acted, decision: Decision | None) -> None:
    """Say what was done, and how the request stands now."""
    rows = [("request", seen.view.found.digest)]
    data: dict[str, Any] = {"request": request_data(seen)}
    if acted.decision is not None and decision is not None:
        rows.append((decision.verdict, f"signed and logged: entry {acted.decision.index}, witnessed"))
        data["decision"] = {**document_json(decision), "entry": acted.decision.index}
    if acted.release is not None:
        rows.append(("your share", f"sent and logged: entry {acted.release.index}, witnessed"))
        data["release"] = {"entry": acted.release.index}
    if acted.later:
        rows.append(("your share", f"not sent: {acted.later}"))
        data["later"] = acted.later
    rows += [row for row in decided_rows(seen) if row[0] in {"stands", "missing", "shares sent"}]
    output.fields(rows, "Done")
    output.result(data)
