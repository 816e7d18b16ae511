"""``custody log show``: entries one a line, or one in full with its documents."""

import json
from collections import deque
from pathlib import Path
from typing import Any, Final

import click

from custody.app.auditing import view_log, write_documents
from custody.audit.kinds import document_of
from custody.audit.questions import Window
from custody.audit.summary import what, who
from custody.audit.view import LogView
from custody.cli.log.asking import window, window_options
from custody.cli.log.group import DIRECTORY, log, opened
from custody.cli.log.shown import show_entry
from custody.cli.output import Output
from custody.cli.profile import genesis_option, home_of, roots_option
from custody.cli.registry import place
from custody.documents.codec import encode
from custody.documents.show import rows
from custody.entries.entry import Entry
from custody.errors import FormatError

__all__ = ["show"]

_SHOWN: Final = 20


@log.command()
@click.argument("index", type=click.IntRange(min=0), required=False)
@click.option("--last", type=click.IntRange(min=1), default=_SHOWN, show_default=True, metavar="N", help="How many.")
@click.option("--log", "directory", type=DIRECTORY, metavar="DIR", help="Directory of the log.  [default: the broker]")
@click.option(
    "--save", type=click.Path(path_type=Path), metavar="DIR", help="Write the documents of INDEX there, as signed."
)
@window_options
@roots_option
@genesis_option
@click.pass_context
def show(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context,
    index: int | None,
    last: int,
    since: str | None,
    until: str | None,
    directory: Path | None,
    save: Path | None,
    roots: tuple[Path, ...],
    genesis: str | None,
) -> None:
    """Show the newest entries, one a line; or the entry INDEX in full, with its documents.

    That these are the log's entries is verified; that they keep the rules is what custody log verify says.

    Examples:
      custody log show --log /srv/custody/log --last 50
      custody log show --log /srv/custody/log --since 2026-11-22 --until 2026-11-23 --last 1000
      custody log show 17 --log /srv/custody/log --root keys
      custody log show 17 --log /srv/custody/log --save evidence
    """
    output = place(ctx).out
    wanted = window(since, until)
    if index is not None and wanted != Window():
        raise click.UsageError("--since and --until choose among entries: not with INDEX")
    if index is None and save is not None:
        raise click.UsageError("--save writes the documents of one entry: give its INDEX")
    with opened(ctx, directory) as source:
        view = view_log(source, home_of(ctx), roots, genesis)
        if index is None:
            _table(output, view, last, wanted)
        else:
            _one(output, view, index, save)


def _table(output: Output, view: LogView, last: int, wanted: Window) -> None:
    if wanted == Window():
        found = [(index, _parsed(data)) for index, data in view.entries(max(0, view.size - last), view.size)]
    else:
        parsed = ((index, _parsed(data)) for index, data in view.entries(0, view.size))
        found = list(deque((item for item in parsed if item[1] and wanted.holds(item[1].time)), last))
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


def _one(output: Output, view: LogView, index: int, save: Path | None) -> None:
    entry = Entry.parse(view.entry(index))
    show_entry(output, index, entry, bytes.fromhex(entry.leaf))
    documents: list[dict[str, Any]] = []
    for envelope in view.documents(index, entry):
        document = document_of(envelope)
        kind = document.document_kind()
        signed = [("signed by key", signature.keyid) for signature in envelope.signatures]
        named = [("digest", envelope.digest), ("envelope", envelope.envelope_digest)]
        output.line("")
        output.fields([*named, *signed, *rows(document)], f"Document: {kind}")
        documents.append({"envelope": envelope.envelope_digest, "kind": kind, "says": json.loads(envelope.payload)})
    if save is not None:
        for path in write_documents(view, index, save):
            output.note(f"Written: {path}")
    output.note(_under(view))
    output.result({"documents": documents, "entry": json.loads(encode(entry)), "index": index, "leaf": entry.leaf})


def _parsed(data: bytes) -> Entry | None:
    try:
        return Entry.parse(data)
    except FormatError:
        return None


def _under(view: LogView) -> str:
    names = ", ".join(sorted(view.checkpoint.cosigned))
    return f"under the checkpoint of size {view.size}, cosigned by {names}; not audited, freshness unverified"
