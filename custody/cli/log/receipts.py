"""``custody log prove`` and ``check-receipt``: one entry passed on, and checked years later without the log."""

import json
from pathlib import Path

import click

from custody.app.auditing import check_receipt_file, require_document, view_log, write_receipt
from custody.audit.summary import what, who
from custody.cli.log.group import DIRECTORY, FILE, log, opened
from custody.cli.log.shown import show_entry
from custody.cli.profile import genesis_option, home_of, roots_option
from custody.cli.registry import place
from custody.documents.codec import encode
from custody.entries.entry import Entry
from custody.values import Time

__all__ = ["check_receipt", "prove"]


@log.command()
@click.argument("index", type=click.IntRange(min=0))
@click.option("--out", required=True, type=FILE, metavar="FILE", help="The receipt; it must not exist.")
@click.option("--log", "directory", type=DIRECTORY, metavar="DIR", help="Directory of the log.  [default: the broker]")
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
    with opened(ctx, directory) as source:
        view = view_log(source, home_of(ctx), roots, genesis)
        write_receipt(view, index, out)
        entry = Entry.parse(view.entry(index))
    output.fields(
        [("receipt", str(out)), ("entry", f"{index} of {view.size}"), ("what", f"{who(entry)} {what(entry)}")]
    )
    output.result({"entry": index, "receipt": str(out), "size": view.size})


@log.command(name="check-receipt")
@click.argument("file", type=FILE)
@click.option(
    "--document", type=FILE, metavar="FILE", help="Require that the entry names exactly this signed document."
)
@roots_option
@genesis_option
@click.pass_context
def check_receipt(
    ctx: click.Context, file: Path, document: Path | None, roots: tuple[Path, ...], genesis: str | None
) -> None:
    """Check a receipt offline: this entry is in the log, and a quorum of witnesses saw it there.

    A receipt proves the entry that it holds and no other: read what it says, or give the document that it is to be of,
    such as the session that custody fetch --receipts kept beside it. Whoever signed the document, the receipt does not
    prove that: the audit of the log does.

    Examples:
      custody log check-receipt grant.receipt
      custody log check-receipt grant.receipt --root keys --genesis 5d1f...
      custody log check-receipt 0f3c.intent.receipt --document 0f3c.open.json
    """
    output = place(ctx).out
    judged = check_receipt_file(file, home_of(ctx), roots, genesis)
    if document is not None:
        require_document(judged.verified.entry, document)
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
    show_entry(output, verified.index, verified.entry, verified.leaf)
    output.result(
        {
            "document": str(document) if document else None,
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


def _time(seconds: int) -> str:
    """A witness may state any second below 2**63."""
    try:
        return str(Time(seconds))
    except ValueError:
        return f"second {seconds}"
