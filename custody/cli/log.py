"""``custody log``: verify and read the transparency log."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click

from custody.app.auditing import Audit, audit, check_receipt_file, open_log, view_log, write_receipt
from custody.audit.kinds import document_of
from custody.audit.report import Finding, Report
from custody.audit.source import Source
from custody.audit.summary import what, who
from custody.audit.view import LogView
from custody.cli.output import Output, Rows
from custody.cli.profile import genesis_option, home_of, roots_option
from custody.cli.registry import group, place
from custody.documents.codec import encode
from custody.documents.show import rows
from custody.entries.entry import Entry
from custody.errors import FormatError, IntegrityError
from custody.values import Time

__all__ = ["log"]

_DIRECTORY = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)
_SHOWN = 20


@group()
def log() -> None:
    """Verify and read the transparency log.

    Every step that grants something is in the log before it takes effect. The log is a directory that anybody may
    copy; whoever has a copy and the digest of the genesis trust root can verify all of it, trusting nobody.

    Examples:
      custody log verify /srv/custody/log
      custody log show --log /srv/custody/log --last 50
    """


@log.command()
@click.argument("source", type=_DIRECTORY, required=False)
@click.option("--broker", is_flag=True, help="Read the log from the broker that custody.toml names.")
@click.option("--state", type=_FILE, metavar="FILE", help="Memory of earlier runs: refuses a shorter log and a fork.")
@click.option("--deployment", metavar="ID", help="Deployment id.  [default: the pinned one]")
@genesis_option
@click.pass_context
def verify(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context,
    source: Path | None,
    broker: bool,
    state: Path | None,
    deployment: str | None,
    genesis: str | None,
) -> None:
    """Verify a whole log: SOURCE is its directory.

    From the pinned genesis on: every entry and tile under the newest checkpoint; the log's signature and the witness
    quorum of every checkpoint that was kept, and that all of them are one history; every document; and for every entry
    all rules that the broker had to keep: signatures, quorum, terms, leases, sessions, certificates, times.

    Findings end it with exit code 11. Not checked, since the log alone cannot show it: that no newer entry exists; that
    witnesses are independent of the log's operator; what the policy answered; that a broker served no more bytes than
    it logged.

    Examples:
      custody log verify /srv/custody/log --state audit.state
      custody log verify --broker --output json
      custody log verify copy/log --genesis 5d1f...
    """
    output, home = place(ctx).out, home_of(ctx)
    if (source is None) != broker:
        raise click.UsageError("give the directory of a log, or --broker")
    with open_log(source, home) as opened:
        report = audit(opened, Audit(home, genesis, deployment, state), online=broker)
    _report(output, report)
    output.result(report.data())
    if not report.ok:
        number = f"{report.found} finding{'' if report.found == 1 else 's'}"
        following = sum(finding.follows is not None for finding in report.findings)
        number += f" ({following} may only follow from others)" if following else ""
        raise IntegrityError(
            f"the log is not what it must be: {number}, {report.audited} of {report.size} entries judged",
            hint="keep a copy of the log as it is: it is the evidence",
        )


@log.command()
@click.argument("index", type=click.IntRange(min=0), required=False)
@click.option("--last", type=click.IntRange(min=1), default=_SHOWN, show_default=True, metavar="N", help="How many.")
@click.option("--log", "directory", type=_DIRECTORY, metavar="DIR", help="Directory of the log.  [default: the broker]")
@roots_option
@genesis_option
@click.pass_context
def show(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context,
    index: int | None,
    last: int,
    directory: Path | None,
    roots: tuple[Path, ...],
    genesis: str | None,
) -> None:
    """Show the newest entries, one a line; or the entry INDEX in full, with its documents.

    That these are the log's entries is verified; that they keep the rules is what custody log verify says.

    Examples:
      custody log show --log /srv/custody/log --last 50
      custody log show 17 --log /srv/custody/log --root keys
    """
    output = place(ctx).out
    with _opened(ctx, directory) as source:
        view = view_log(source, home_of(ctx), roots, genesis)
        if index is None:
            _table(output, view, last)
        else:
            _one(output, view, index)


@log.command()
@click.argument("index", type=click.IntRange(min=0))
@click.option("--out", required=True, type=_FILE, metavar="FILE", help="The receipt; it must not exist.")
@click.option("--log", "directory", type=_DIRECTORY, metavar="DIR", help="Directory of the log.  [default: the broker]")
@roots_option
@genesis_option
@click.pass_context
def prove(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context, index: int, out: Path, directory: Path | None, roots: tuple[Path, ...], genesis: str | None
) -> None:
    """Write the receipt of entry INDEX: the entry, and the proof that it is in the witnessed log.

    Whoever has the trust roots can check it without the log: custody log check-receipt.

    Examples:
      custody log prove 17 --out grant.receipt --log /srv/custody/log
    """
    output = place(ctx).out
    with _opened(ctx, directory) as source:
        view = view_log(source, home_of(ctx), roots, genesis)
        write_receipt(view, index, out)
        entry = Entry.parse(view.entry(index))
    output.fields(
        [("receipt", str(out)), ("entry", f"{index} of {view.size}"), ("what", f"{who(entry)} {what(entry)}")]
    )
    output.result({"entry": index, "receipt": str(out), "size": view.size})


@log.command(name="check-receipt")
@click.argument("file", type=_FILE)
@roots_option
@genesis_option
@click.pass_context
def check_receipt(ctx: click.Context, file: Path, roots: tuple[Path, ...], genesis: str | None) -> None:
    """Check a receipt offline: this entry is in the log, and a quorum of witnesses saw it there.

    A receipt proves the entry that it holds and no other: read what it says.

    Examples:
      custody log check-receipt grant.receipt
      custody log check-receipt grant.receipt --root keys --genesis 5d1f...
    """
    output = place(ctx).out
    judged = check_receipt_file(file, home_of(ctx), roots, genesis)
    verified = judged.verified
    times = {name: _time(seconds) for name, seconds in sorted(verified.cosigned.items())}
    if judged.root.digest != verified.entry.root:
        output.note(f"judged by the trust root of epoch {judged.root.epoch}; the entry was made under an earlier one")
    output.fields(
        [
            ("log", verified.checkpoint.origin),
            ("size", str(verified.checkpoint.size)),
            *((f"cosigned by {name}", moment) for name, moment in times.items()),
        ],
        "The receipt is valid",
    )
    _entry(output, verified.index, verified.entry, verified.leaf)
    output.result(
        {
            "cosigned": {name: int(time) for name, time in verified.cosigned.items()},
            "entry": json.loads(encode(verified.entry)),
            "epoch": int(judged.root.epoch),
            "index": verified.index,
            "leaf": verified.leaf.hex(),
            "origin": verified.checkpoint.origin,
            "size": verified.checkpoint.size,
            "valid": True,
        }
    )


def _opened(ctx: click.Context, directory: Path | None) -> AbstractContextManager[Source]:
    return open_log(directory, home_of(ctx))


def _report(output: Output, report: Report) -> None:
    facts: list[tuple[str, str]] = [
        ("deployment", report.deployment),
        ("entries", f"{report.audited} of {report.size} judged"),
    ]
    if report.root:
        facts.append(("tree root", report.root.hex()))
    if report.epoch is not None:
        facts.append(("trust root", f"epoch {report.epoch}, {report.root_digest}"))
    if report.cosigned:
        facts.append(("checkpoints", f"{report.checkpoints} good, all of one history"))
        facts.append(("newest", f"cosigned at {Time(report.cosigned[1])} by {', '.join(report.witnesses)}"))
    if report.types:
        facts.append(("types", ", ".join(f"{count} {kind}" for kind, count in sorted(report.types.items()))))
    output.fields(facts)
    for finding in report.findings:
        output.fields(_finding(finding), f"FINDING {finding.code}")
    if report.found > len(report.findings):
        output.line(f"and {report.found - len(report.findings)} more findings that are not listed")
    for remark in report.remarks:
        output.warn(remark.text)
    if report.ok:
        output.line("OK: nothing found")


def _finding(finding: Finding) -> Rows:
    result = [("what", finding.text)]
    if finding.entry is not None:
        result.append(("entry", str(finding.entry)))
    if finding.follows is not None:
        result.append(("follows", f"may be wrong only because entry {finding.follows} is"))
    if finding.place:
        result.append(("object", finding.place))
    result += [("document", digest) for digest in finding.documents]
    return result


def _table(output: Output, view: LogView, last: int) -> None:
    found = [(index, _parsed(data)) for index, data in view.entries(max(0, view.size - last), view.size)]
    lines = [
        (str(index), str(entry.time), entry.type, who(entry), what(entry))
        if entry
        else (str(index), "", "", "", "NOT AN ENTRY")
        for index, entry in found
    ]
    output.table(("ENTRY", "TIME", "TYPE", "WHO", "WHAT"), lines)
    output.note(_under(view))
    output.result(
        {
            "entries": [
                {"entry": json.loads(encode(entry)) if entry else None, "index": index} for index, entry in found
            ],
            "size": view.size,
        }
    )


def _one(output: Output, view: LogView, index: int) -> None:
    entry = Entry.parse(view.entry(index))
    _entry(output, index, entry, bytes.fromhex(entry.leaf))
    documents: list[dict[str, Any]] = []
    for envelope in view.documents(entry):
        document = document_of(envelope)
        kind = document.document_kind()
        signed = [("signed by key", signature.keyid) for signature in envelope.signatures]
        named = [("digest", envelope.digest), ("envelope", envelope.envelope_digest)]
        output.line("")
        output.fields([*named, *signed, *rows(document)], f"Document: {kind}")
        documents.append({"envelope": envelope.envelope_digest, "kind": kind, "says": json.loads(envelope.payload)})
    output.note(_under(view))
    output.result({"documents": documents, "entry": json.loads(encode(entry)), "index": index, "leaf": entry.leaf})


def _entry(output: Output, index: int, entry: Entry, leaf: bytes) -> None:
    """Show every field of an entry, the ones for people first."""
    data = json.loads(encode(entry))
    facts = [("what", f"{who(entry)} {what(entry)}"), ("time", data.pop("time")), ("leaf hash", leaf.hex())]
    if parent := data.pop("parent", None):
        facts.append(("follows from", f"entry {parent['index']}, leaf hash {parent['leaf']}"))
    if actor := data.pop("actor", None):
        facts.append(("actor", f"{actor['id']}, credential {actor['credential']}"))
    facts += [
        (f"document {item['kind']}", f"{item['document']}, envelope {item['envelope']}")
        for item in data.pop("documents", ())
    ]
    for label, value in data.items():
        facts += _flat(label.replace("_", " "), value)
    output.fields(facts, f"Entry {index}: {data['type']}")


def _flat(label: str, value: object) -> Rows:
    """Write a JSON value as rows; a list of plain values is one."""
    if isinstance(value, dict):
        return [(label, ", ".join(f"{name} {item}" for name, item in value.items()))]
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            return [(label, ", ".join(value))]
        return [row for item in value for row in _flat(label, item)]
    return [(label, str(value))]


def _time(seconds: int) -> str:
    """A witness may state any second below 2**63."""
    try:
        return str(Time(seconds))
    except ValueError:
        return f"second {seconds}"


def _parsed(data: bytes) -> Entry | None:
    try:
        return Entry.parse(data)
    except FormatError:
        return None


def _under(view: LogView) -> str:
    names = ", ".join(sorted(view.checkpoint.cosigned))
    return f"under the checkpoint of size {view.size}, cosigned by {names}; freshness unverified"
