"""``custody versions`` and ``custody show``: what is in custody, what is asked, and how it stands."""

from typing import Any

import click

from custody.app.connect import find_key, open_desk
from custody.cli.output import Output
from custody.cli.people import document_json, surroundings
from custody.cli.permanent import warn_permanent
from custody.cli.profile import home_of
from custody.cli.registry import command, place
from custody.custodian.acting import look
from custody.custodian.fold import VersionView
from custody.custodian.review import Review
from custody.custodian.shown import decided_rows, freshness_text, request_rows, version_rows
from custody.documents.actor import actor_name
from custody.documents.show import size_text
from custody.values import Time

__all__ = ["request_data", "show_command", "show_request", "version_data", "versions_command"]


@command(name="versions")
@click.pass_context
def versions_command(ctx: click.Context) -> None:
    """List the model versions in custody, each verified: its log entry, its sealer, its roster.

    Examples:
      custody versions
      custody versions --output json
    """
    output, around = place(ctx).out, surroundings()
    with open_desk(home_of(ctx), around) as desk:
        found = list(desk.versions())
    now = around.clock()
    output.table(
        ("VERSION", "SIZE", "FILES", "SEALED BY", "WHEN", "GUARDED BY", "CONTENT"),
        [
            (
                view.version.content.version,
                size_text(view.version.content.size).partition(" (")[0],
                len(view.version.content.files),
                actor_name(view.version.content.sealer),
                Time(view.version.sealed_at),
                view.version.sharing.roster,
                view.version.content_digest[:16],
            )
            for view in found
        ],
    )
    if not found:
        output.note("there is no version in custody yet: custody seal, then custody register")
    output.result({"now": str(Time(now)), "versions": [version_data(view) for view in found]})


@command(name="show")
@click.argument("what", metavar="NAME@LABEL|REQUEST")
@click.pass_context
def show_command(ctx: click.Context, what: str) -> None:
    """Show a version, or a request with all that was decided on it. Everything shown was verified.

    A request or lease is named by its digest, or by the first 8 digits or more.

    Examples:
      custody show frontier/llm@2026-11
      custody show 3f2a9c01
    """
    output, home, around = place(ctx).out, home_of(ctx), surroundings()
    with open_desk(home, around) as desk:
        if "@" in what:
            view = desk.version(what)
            output.fields(version_rows(view, around.clock()), "Version")
            output.result(version_data(view))
            return
        key = find_key(home, None)
        request = desk.find(what)
        seen = look(
            desk, request, person=key.person if key else "", device=key.device if key else "", clock=around.clock
        )
        show_request(output, seen)
        output.result(request_data(seen))


def show_request(output: Output, seen: Review) -> None:
    """Show a request to whoever only looks."""
    warn_permanent(output, seen.terms, seen.view.version.version.content)
    output.fields(request_rows(seen), f"Request {seen.view.found.digest}")
    output.fields(decided_rows(seen), "So far")
    output.fields(
        [
            ("lease", seen.terms_digest),
            ("verified", "signatures, log entries, witnesses"),
            ("fresh", freshness_text(seen)),
        ],
        "Known because",
    )


def version_data(view: VersionView) -> dict[str, Any]:
    """Return a version as a program reads it."""
    content, sharing = view.version.content, view.version.sharing
    return {
        "bytes": content.size,
        "content": view.version.content_digest,
        "entry": view.logged.index,
        "files": [{"path": file.path, "size": int(file.size)} for file in content.files],
        "labels": {label.name: label.value for label in content.labels},
        "quorum": sharing.quorum_text(),
        "roster": sharing.roster,
        "sealed": str(Time(view.version.sealed_at)),
        "sealer": actor_name(content.sealer),
        "sharing": view.version.sharing_digest,
        "version": content.version,
    }


def request_data(seen: Review) -> dict[str, Any]:
    """Return a request as a program reads it. ``phase`` ``open``, ``spent`` and ``sessions`` are the broker's word."""
    found, view = seen.view.found, seen.view
    return {
        "decisions": [
            {**document_json(item.decision), "counts": item.decision.person in seen.counts, "entry": item.entry.index}
            for item in found.decisions
        ],
        "entry": view.logged[0].index,
        "freshness": {
            "proven": seen.freshness.proven,
            "size": seen.freshness.size,
            "why": seen.freshness.why,
            "witnessed": str(Time(seen.freshness.witnessed)),
        },
        "granted": bool(found.granted),
        "lease": seen.terms_digest,
        "phase": view.phase,
        "reason": found.reason or found.stopped,
        "release_key": found.release_key_digest,
        "request": {**document_json(found.request), "digest": found.digest},
        "sessions": view.sessions,
        "shares": [str(slot) for slot in sorted(view.shares)],
        "spent": view.spent,
        "terms": document_json(seen.terms),
        "trust_root": {"digest": view.state.root_digest, "epoch": int(seen.root.epoch)},
    }
