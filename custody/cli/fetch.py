"""``custody fetch``: the files of a lease, on disk."""

from pathlib import Path
from typing import Final

import click

from custody.adapters import small_files
from custody.app.client import client_of
from custody.cli.output import Output
from custody.cli.people import surroundings
from custody.cli.profile import home_of
from custody.cli.registry import command, place
from custody.client.asking import seconds
from custody.client.custody import Custody
from custody.client.download import prepare
from custody.client.leases import Lease
from custody.client.live import SessionReceipt
from custody.client.session import Session
from custody.custodian.shown import span
from custody.documents.show import size_text
from custody.entries.receipt import Receipt
from custody.entries.receipt_file import encode_receipt

__all__ = ["fetch_command"]

_MINUTE: Final = 60.0


@command(name="fetch")
@click.argument("lease", metavar="LEASE|REQUEST")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where to put them."
)
@click.option("--files", multiple=True, metavar="GLOB", help="Only these files; may be repeated.  [default: all]")
@click.option(
    "--receipts",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep the receipts of the sessions there, to be verified offline.",
)
@click.option("--content", metavar="DIGEST", help="Refuse any other content than this.")
@click.option("--wait", metavar="SPAN", help="Wait so long for the quorum, if it has not decided yet.")
@click.option(
    "--patience", default="15m", show_default=True, metavar="SPAN", help="How long a broken connection is mended."
)
@click.option("--return", "give_back", is_flag=True, help="Give the lease back when all files are there.")
@click.pass_context
def fetch_command(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context,
    lease: str,
    out: Path,
    files: tuple[str, ...],
    receipts: Path | None,
    content: str | None,
    wait: str | None,
    patience: str,
    give_back: bool,
) -> None:
    """Fetch the files of a lease, as the job it was granted to; every byte is checked before it counts.

    A file appears under its name only when it is whole and right. What is there and right already is not fetched again,
    and an interrupted fetch goes on where it stopped. Of two fetches into one directory the second is refused while
    the first is at its file. Weights on a disk are in the clear: prefer the library, which reads them into memory.

    Examples:
      custody fetch 77ab01c2 --out ./model --receipts ./receipts
      custody fetch 3f2a9c01 --wait 8h --files '*.safetensors' --out /dev/shm/model
    """
    output, home, around = place(ctx).out, home_of(ctx), surroundings()
    wanted = seconds(patience, "--patience")
    waiting = None if wait is None else seconds(wait, "--wait")
    begin = around.monotonic()
    there: dict[str, int] = {}
    with client_of(home, around) as custody:
        granted = _granted(output, custody, lease, waiting)
        prepare(out, [(file.path, file.size) for file in granted.files(files)])
        with granted.open(files, content=content, patience=wanted, note=output.warn) as session:
            total = sum(file.size for file in session.files)
            try:
                with output.progress(f"fetching {granted.terms.version}", total, len(session.files)) as meter:

                    def in_place(path: str, present: int) -> None:
                        there[path] = present
                        meter.file(path)

                    session.download(out, progress=meter, present=meter.there, fetched=in_place)
            finally:
                session.close()
                _keep(receipts, session)
        if give_back:
            granted.give_back()
    fetched = total - sum(there.values())
    took = max(around.monotonic() - begin, 0.001)
    lasted = span(int(took)) if took >= _MINUTE else f"{took:.1f} seconds"
    output.fields(
        [
            ("version", granted.terms.version),
            ("content", granted.terms.content),
            ("files", f"{len(session.files)}, {size_text(total)}, every byte checked"),
            ("fetched", f"{size_text(fetched)} in {lasted}, {size_text(int(fetched / took))} a second"),
            ("directory", str(out)),
        ],
        "Fetched",
    )
    output.result(
        {
            "bytes": total,
            "content": granted.terms.content,
            "fetched": fetched,
            "files": [{"fetched": file.size - there[file.path], "path": file.path} for file in session.files],
            "lease": granted.id,
            "out": str(out),
            "sessions": [item.session for item in session.receipts],
            "version": granted.terms.version,
        }
    )


def _granted(output: Output, custody: Custody, reference: str, waiting: int | None) -> Lease:
    if waiting is None:
        return custody.lease(reference)
    pending = custody.find(reference)
    output.note(f"waiting for the quorum, {span(waiting)} at most")
    return pending.wait(waiting)


def _keep(folder: Path | None, session: Session) -> None:
    """Write what proves each session: receipts for ``custody log check-receipt``, and the job's own open document."""
    if folder is None:
        return
    small_files.make_directory(folder, 0o700)
    for item in session.receipts:
        _write(folder, item)


def _write(folder: Path, item: SessionReceipt) -> None:
    name = item.session[:16]
    small_files.replace(folder / f"{name}.open.json", item.envelope.encode(), 0o600)
    parts: list[tuple[str, Receipt | None]] = [("intent", item.intent), ("outcome", item.outcome)]
    for what, receipt in parts:
        if receipt is not None:
            small_files.replace(folder / f"{name}.{what}.receipt", encode_receipt(receipt), 0o600)
