"""``custody request`` and ``withdraw``: asking for a version."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self

import click

from custody.app.arguments import checked
from custody.app.client import client_of, person_identity
from custody.app.connect import OwnKey, find_key
from custody.cli.output import Output
from custody.cli.people import document_json, key_option, surroundings, unlocked
from custody.cli.permanent import kept
from custody.cli.profile import home_of, passphrase_option
from custody.cli.registry import command, place
from custody.client.asking import SESSIONS
from custody.client.identity import Credential, Identity
from custody.client.stopping import PATIENCE, stop
from custody.custodian.keys import DeviceSigner
from custody.custodian.shown import span
from custody.errors import FormatError
from custody.values import Name, SpiffeId, Time, VersionId, check_text

__all__ = ["confirmed", "identity_of", "request_command", "unconfirmed", "withdraw_command"]

_REASON = "no longer needed"


@command(name="request")
@click.argument("version", metavar="NAME@LABEL")
@click.option("--for", "beneficiary", metavar="SPIFFE-ID", help="The job that may open it.  [default: this workload]")
@click.option("--purpose", required=True, metavar="WORD", help="What for, as the policy knows it, such as serving.")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the custodians: one line.")
@click.option("--ticket", default="", metavar="TEXT", help="A reference of yours.")
@click.option("--files", multiple=True, metavar="GLOB", help="Only these files; may be repeated.  [default: all]")
@click.option("--duration", default="2h", show_default=True, metavar="SPAN", help="From the last allowed start.")
@click.option("--start-within", default="8h", show_default=True, metavar="SPAN", help="How long it may be started.")
@click.option("--not-before", metavar="TIME", help="First allowed start, such as 2026-11-22T17:00:00Z.  [default: now]")
@click.option("--sessions", default=SESSIONS, show_default=True, metavar="N", help="One to use, one to resume with.")
@click.option("--bytes", "size", type=int, metavar="N", help="Plaintext in all.  [default: the files, per session]")
@click.option("--content", metavar="DIGEST", help="Refuse any other content than this.")
@click.option(
    "--mode",
    type=click.Choice(["stream", "direct"]),
    default="stream",
    show_default=True,
    help="direct: the job gets file keys and reads the store itself. PERMANENT, NOT REVOCABLE; files count whole.",
)
@key_option
@click.option("--as-workload", is_flag=True, help="Sign with the TLS certificate's key, though you have a key file.")
@passphrase_option
@click.pass_context
def request_command(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context,
    version: str,
    beneficiary: str | None,
    purpose: str,
    reason: str,
    ticket: str,
    files: tuple[str, ...],
    duration: str,
    start_within: str,
    not_before: str | None,
    sessions: int,
    size: int | None,
    content: str | None,
    mode: str,
    key: Path | None,
    as_workload: bool,
    passphrase_fd: int | None,
) -> None:
    """Ask for a model version, for a job, for a purpose, for a while.

    Custodians see exactly what you ask and approve it or not; you can only get what you asked for, or less. You sign
    with your key file, or, on a host of a job, with the job's own certificate.

    Examples:
      custody request demo/minilm@1.0 --for spiffe://example.org/job/serving --purpose serving --reason "roll-out"
      custody request frontier/llm@2026-11 --purpose evaluation --reason "nightly" --ticket EVAL-12 --duration 4h
      custody request frontier/llm@2026-11 --purpose serving --reason "demo" --files '*.safetensors' --sessions 9
    """
    output, home, around = place(ctx).out, home_of(ctx), surroundings()
    checked(VersionId, version, "version", "write it name@label, such as frontier/llm@2026-11")
    checked(Name, purpose, "purpose", "one word of a-z, 0-9 and -, such as serving")
    if beneficiary is not None:
        checked(SpiffeId, beneficiary, "SPIFFE ID", "it looks like spiffe://example.org/job/serving")
    check_text(reason, "--reason")
    check_text(ticket, "--ticket")
    begin = _time(not_before)
    signing = None if as_workload else find_key(home, key)
    with identity_of(signing, passphrase_fd) as identity, client_of(home, around, identity) as custody:
        asked = custody.request(
            version,
            purpose=purpose,
            reason=reason,
            duration=duration,
            beneficiary=beneficiary,
            content=content,
            files=files,
            start_within=start_within,
            not_before=begin,
            sessions=sessions,
            bytes=size,
            ticket=ticket,
            mode="direct" if mode == "direct" else "stream",
        )
    document, now = asked.document, around.clock()
    if document.mode == "direct":
        output.warn("direct mode is PERMANENT, NOT REVOCABLE: the keys that the job is given cannot be called back")
    output.fields(
        [
            ("request", asked.digest),
            ("version", document.version),
            ("for", document.beneficiary),
            ("start within", span(document.open_before - now)),
            ("ends", str(Time(document.not_after))),
        ],
        "Asked, and in the log",
    )
    output.note(f"custodians look at it with: custody approve {asked.digest[:8]}")
    output.result({"request": {**document_json(document), "digest": asked.digest}})


@command(name="withdraw")
@click.argument("request")
@click.option("--reason", default=_REASON, show_default=True, metavar="TEXT", help="Why: one line.")
@key_option
@click.option("--as-workload", is_flag=True, help="Sign with the TLS certificate's key, though you have a key file.")
@passphrase_option
@click.pass_context
def withdraw_command(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context, request: str, reason: str, key: Path | None, as_workload: bool, passphrase_fd: int | None
) -> None:
    """Take back a request of yours; a lease that was granted for it ends. Sent again until the log confirms it.

    Examples:
      custody withdraw 3f2a9c01
      custody withdraw 3f2a9c01 --reason "wrong version"
    """
    output, home, around = place(ctx).out, home_of(ctx), surroundings()
    check_text(reason, "--reason")
    signing = None if as_workload else find_key(home, key)
    with identity_of(signing, passphrase_fd) as identity, client_of(home, around, identity) as custody:
        pending = custody.find(request)
        stop(
            custody.link,
            custody.identity,
            "withdraw",
            pending.digest,
            reason,
            patience=PATIENCE,
            unconfirmed=unconfirmed(output),
        )
    confirmed(output, "withdrawn", pending.digest)


def identity_of(key: OwnKey | None, passphrase_fd: int | None) -> AbstractContextManager[Identity | None]:
    """Return who signs: the person of a key file, or nobody, which means the workload of the TLS files."""
    return nullcontext(None) if key is None else _Person(key, passphrase_fd)


class _Person:
    """A person whose device is unlocked when something is to be signed, and not before."""

    def __init__(self, key: OwnKey, passphrase_fd: int | None) -> None:
        self._key = key
        self._passphrase_fd = passphrase_fd
        self._open = ExitStack()
        self._signer: DeviceSigner | None = None

    def credential(self) -> Credential:
        """Ask for the passphrase, the first time."""
        if self._signer is None:
            self._signer = self._open.enter_context(unlocked(self._key, self._passphrase_fd))
        return person_identity(self._key, self._signer).credential()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


def unconfirmed(output: Output) -> Callable[[str], None]:
    """Return what says, after each attempt to stop something that failed, that it is not confirmed."""
    return lambda what: output.warn(f"NOT CONFIRMED: {what}; sending it again (Ctrl-C leaves it unconfirmed)")


def confirmed(output: Output, what: str, digest: str, *, kept_by: int | None = None) -> None:
    """Say that a stop is in the log. ``kept_by`` is how many direct sessions of a lease keep what they were given."""
    output.fields([("confirmed", f"{what}; the log holds it, witnessed"), ("digest", digest)])
    data = {"confirmed": True, "digest": digest, "what": what}
    if kept_by is not None:
        output.warn(kept(kept_by))
        data["direct_sessions"] = kept_by
    output.result(data)


def _time(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(Time.parse(text))
    except ValueError:
        raise FormatError(f"--not-before: {text[:40]!a} is not a time", hint="write 2026-11-22T17:00:00Z") from None
