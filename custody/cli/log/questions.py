"""``custody log who``, ``what`` and ``diff``: what auditors ask, as tables for people and as JSON."""

import json
from collections.abc import Sequence
from typing import Any

import click

from custody.app.arguments import checked
from custody.app.questions import Known, added, decided, of_identity, of_version
from custody.audit.summary import what as in_words
from custody.audit.summary import who as actor
from custody.cli.log.asking import asked_log, source_options, window, window_options
from custody.cli.log.group import log
from custody.cli.output import Output
from custody.cli.registry import place
from custody.documents.codec import encode
from custody.documents.show import duration_text, size_text
from custody.values import PersonId, SpiffeId, Time, VersionId

__all__ = ["diff", "what", "who"]


@log.command()
@click.option("--version", required=True, metavar="NAME@LABEL", help="The version.")
@window_options
@source_options
@click.pass_context
def who(ctx: click.Context, /, version: str, since: str | None, until: str | None, **given: Any) -> None:
    """Who opened a version: who asked for it and why, who approved, which job read how much, and when.

    The log is verified first, as custody log verify does it; give --state, and only what is new costs time.

    Examples:
      custody log who --version frontier/llm@2026-11 --log /srv/custody/log
      custody log who --version frontier/llm@2026-11 --since 30d --state audit.state --output json
    """
    output = place(ctx).out
    checked(VersionId, version, "version", "write it name@label, such as frontier/llm@2026-11")
    asked = window(since, until)
    with asked_log(ctx, **given) as known:
        found = of_version(known, version, asked)
        _requests(output, found, f"nobody has asked for {version}")
        output.result(_head(known) | {"requests": found, "version": version})


@log.command()
@click.option("--identity", metavar="SPIFFE-ID", help="A job: what was asked for it, and what it read.")
@click.option("--custodian", metavar="PERSON", help="A person: what they decided.")
@window_options
@source_options
@click.pass_context
def what(
    ctx: click.Context,
    /,
    identity: str | None,
    custodian: str | None,
    since: str | None,
    until: str | None,
    **given: Any,
) -> None:
    """What an identity asked for and opened, or what a custodian decided.

    AFTER is the time from the request to the decision, by the broker's clock.

    Examples:
      custody log what --identity spiffe://example.org/job/serving --log /srv/custody/log
      custody log what --custodian alice --since 2026-11-01 --until 2026-12-01
    """
    output = place(ctx).out
    if (identity is None) == (custodian is None):
        raise click.UsageError("give --identity or --custodian")
    asked = window(since, until)
    if identity is not None:
        checked(SpiffeId, identity, "SPIFFE ID", "it looks like spiffe://example.org/job/serving")
    else:
        checked(PersonId, str(custodian), "person", "as the trust root names them, such as alice")
    with asked_log(ctx, **given) as known:
        if identity is not None:
            found = of_identity(known, identity, asked)
            _requests(output, found, f"nothing was asked by or for {identity}")
            output.result(_head(known) | {"identity": identity, "requests": found})
        else:
            decisions = decided(known, str(custodian), asked)
            _decisions(output, decisions, f"{custodian} has decided nothing")
            output.result(_head(known) | {"custodian": custodian, "decisions": decisions})


@log.command()
@click.argument("old")
@click.argument("new", required=False)
@source_options
@click.pass_context
def diff(ctx: click.Context, /, old: str, new: str | None, **given: Any) -> None:
    """What was added to the log between OLD and NEW: sizes, or files with checkpoints. NEW is the newest unless given.

    A checkpoint in a file must be of this log's history: another one of the same size is a fork, and said to be one.

    Examples:
      custody log diff 1200 --log /srv/custody/log
      custody log diff kept/checkpoint-monday kept/checkpoint-friday --log /srv/custody/log
    """
    output = place(ctx).out
    with asked_log(ctx, **given) as known:
        found, entries = added(known, old, new)
        output.fields(
            [
                ("from", f"size {found.begin}"),
                ("to", f"size {found.end}"),
                ("added", f"{found.end - found.begin} entries"),
                *([("between", f"{Time(found.first)} and {Time(found.last or 0)}")] if found.first is not None else []),
                *(("", words) for words in found.words),
            ]
        )
        rows = [(str(index), str(entry.time), actor(entry), in_words(entry)) for index, entry in entries]
        if rows:
            output.line("")
            output.table(("ENTRY", "TIME", "WHO", "WHAT"), rows)
        output.result(
            _head(known)
            | {
                "entries": [{"entry": json.loads(encode(entry)), "index": index} for index, entry in entries],
                "from": found.begin,
                "summary": found.words,
                "to": found.end,
                "types": dict(sorted(found.types.items())),
            }
        )


def _head(known: Known) -> dict[str, Any]:
    report = known.report
    return {
        "findings": report.found if report else None,
        "size": known.entries.size,
        "verified": bool(report and report.ok),
    }


def _requests(output: Output, found: Sequence[dict[str, Any]], none: str) -> None:
    if not found:
        output.line(none)
    for item in found:
        rows = [
            ("asked", f"{item['time']} by {item['requester']} for {item['beneficiary']}"),
            ("why", _why(item)),
            ("approved", ", ".join(item["approved"]) or "by nobody"),
            ("granted", item["granted"]["time"] if item["granted"] else "no"),
            ("stands", item["stands"] + (f" since {item['closed']['time']}" if item["closed"] else "")),
            ("served", f"{size_text(item['served'])} of {size_text(item['bytes']) if item['bytes'] else 'unknown'}"),
        ]
        rows[3:3] = [("denied", ", ".join(item["denied"]))] if item["denied"] else []
        rows += [("FINDINGS", ", ".join(item["findings"]))] if item["findings"] else []
        output.fields(rows, f"Entry {item['entry']}: request {item['request'][:16]} for {item['version']}")
        sessions = [
            (
                f"  {session['entry']}",
                session["time"],
                session["ended"]["time"] if session["ended"] else "",
                size_text(session["served"]) if session["served"] is not None else "unknown",
                session["outcome"] or "no outcome",
                session["who"],
            )
            for session in item["sessions"]
        ]
        if sessions:
            output.table(("  SESSION", "BEGAN", "ENDED", "SERVED", "OUTCOME", "WHO"), sessions)
        output.line("")


def _why(item: dict[str, Any]) -> str:
    if item["reason"] is None:
        return "the request document cannot be read"
    ticket = f", ticket {item['ticket']}" if item["ticket"] else ""
    return f"{item['purpose']}: {item['reason']}{ticket}"


def _decisions(output: Output, found: Sequence[dict[str, Any]], none: str) -> None:
    if not found:
        output.line(none)
        return
    columns = ("ENTRY", "TIME", "VERDICT", "AFTER", "VERSION", "FOR", "REQUEST", "STANDS", "FINDINGS")
    rows = [
        (
            str(item["entry"]),
            item["time"],
            item["verdict"],
            duration_text(max(0, item["after"])),
            item["version"],
            item["beneficiary"],
            item["request"][:16],
            item["stands"],
            ", ".join(item["findings"]),
        )
        for item in found
    ]
    output.table(columns, rows)
