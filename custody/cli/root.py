"""``custody root``: write, sign, show and verify trust roots."""

import json
from pathlib import Path

import click

from custody.adapters import small_files
from custody.adapters.home import Home
from custody.app.ceremony import Signing, add_signature, build_root, combine, read_draft, signing_state
from custody.app.roots import load_roots, read_envelope, read_roots
from custody.cli.output import Output
from custody.cli.profile import clock, genesis_option, home_of, passphrase_option, prompter, unlock
from custody.cli.registry import group, place
from custody.custodian.keys import load_key, owner_of
from custody.documents.dsse import Envelope
from custody.documents.root import Root
from custody.documents.show import changes, fingerprint, rows
from custody.errors import ConfigError, ConflictError, IntegrityError
from custody.rules.roots import follow_roots

__all__ = ["combine_command", "create", "root", "show", "sign", "verify"]

_FILE = click.Path(path_type=Path, dir_okay=False)
_ANY = click.Path(path_type=Path)


@group()
def root() -> None:
    """Write, sign, show and verify trust roots.

    A trust root says who may do what: persons and their keys, rosters and thresholds, sealers, owners, brokers, log,
    witnesses and policy. Genesis is signed by everybody it names and pinned by its digest; each later root is signed
    by the governance quorum of the one before, and by every person newly named.
    """


@root.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Deployment directory: the ceremony file is DIR/ceremony.toml.",
)
@click.option("--ceremony", type=_FILE, metavar="FILE", help="The ceremony file, where it is another.")
@click.option("--previous", type=_FILE, metavar="FILE", help="The root in force, for the root after it.")
@click.option("--out", required=True, type=_FILE, metavar="FILE", help="The draft; it must not exist.")
@click.pass_context
def create(ctx: click.Context, directory: Path | None, ceremony: Path | None, previous: Path | None, out: Path) -> None:
    """Check a ceremony file and write the draft of a trust root.

    The draft is the exact text that people sign. Without --previous it is genesis.

    Examples:
      custody root create --dir prod --out root-draft.json
      custody root create --dir prod --previous prod/keys/root.json --out root-1-draft.json
    """
    output = place(ctx).out
    if ceremony is None:
        if directory is None:
            raise click.UsageError("give --dir or --ceremony")
        ceremony = directory / "ceremony.toml"
    before = read_envelope(previous).document(Root) if previous else None
    made = build_root(ceremony, before, clock())
    small_files.create(out, made.encode() + b"\n")
    _show(output, made, before)
    output.fields([("draft", str(out)), ("digest", fingerprint(made.digest))])
    _state(output, signing_state(made, None, before))
    output.result({"digest": made.digest, "draft": str(out), "epoch": int(made.epoch)})


@root.command()
@click.argument("file", type=_FILE)
@click.option("--key", required=True, type=_FILE, metavar="KEYFILE", help="Your key file.")
@click.option("--previous", type=_FILE, metavar="FILE", help="The root in force: what changes is shown.")
@click.option("--out", type=_FILE, metavar="FILE", help="Write the signed root here.  [default: FILE itself]")
@click.option("--yes", is_flag=True, help="Do not ask whether to sign.")
@passphrase_option
@click.pass_context
def sign(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context,
    file: Path,
    key: Path,
    previous: Path | None,
    out: Path | None,
    yes: bool,
    passphrase_fd: int | None,
) -> None:
    """Add your signature to a draft, after showing exactly what it says.

    Compare the digest with the others before you sign. Copies that were signed in different places are put together
    with custody root combine.

    Examples:
      custody root sign root-draft.json --key alice.key
      custody root sign root-1-draft.json --key alice.key --previous prod/keys/root.json
    """
    output, asker = place(ctx).out, prompter(passphrase_fd)
    document, envelope = read_draft(file)
    before = _previous(document, previous, home_of(ctx))
    signing_state(document, envelope, before)
    key_file = load_key(key)
    person, device = owner_of(key_file)
    output.show(rows(document), f"You are about to sign this trust root as {person} ({device})")
    if before is not None:
        output.note(f"Compared with the root of epoch {before.epoch}:")
        for change in changes(rows(before), rows(document)):
            output.change(*change)
    elif document.epoch:
        output.warn("the root before it was not given, so it is not shown what changes: use --previous")
    output.note(f"digest  {fingerprint(document.digest)}")
    asker.confirm("Sign it?", yes=yes)
    with unlock(asker, key, key_file) as signer:
        signed = add_signature(document, envelope, signer, before)
    small_files.replace(out or file, signed.encode() + b"\n")
    state = signing_state(document, signed, before)
    output.line(f"signed  {out or file}")
    _state(output, state)
    output.result({"complete": state.complete, "digest": document.digest, **_json(state)})


@root.command(name="combine")
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option("--out", required=True, type=_FILE, metavar="FILE", help="The root with all signatures; must not exist.")
@click.pass_context
def combine_command(ctx: click.Context, files: tuple[Path, ...], out: Path) -> None:
    """Put the signatures of several copies of one root together.

    Example:
      custody root combine root-alice.json root-bob.json --out root.json
    """
    output = place(ctx).out
    combined = combine([read_envelope(path) for path in files])
    small_files.create(out, combined.encode() + b"\n")
    document = combined.document(Root)
    state = signing_state(document, combined, _previous(document, None, home_of(ctx)))
    output.line(f"combined  {out}")
    _state(output, state)
    output.result({"complete": state.complete, "digest": combined.digest, **_json(state)})


@root.command()
@click.argument("file", type=_FILE)
@click.option("--previous", type=_FILE, metavar="FILE", help="Show only what changes from this root.")
@click.pass_context
def show(ctx: click.Context, file: Path, previous: Path | None) -> None:
    """Show what a trust root or a draft says. Nothing is verified.

    Examples:
      custody root show root-draft.json
      custody root show prod/keys/root-1.json --previous prod/keys/root.json
    """
    output = place(ctx).out
    document, envelope = read_draft(file)
    before = read_envelope(previous).document(Root) if previous else None
    _show(output, document, before)
    output.line(f"digest  {fingerprint(document.digest)}")
    if envelope is not None:
        known = [(item, document.device(item.keyid)) for item in envelope.signatures]
        names = [found[0].id if found else f"key {item.keyid[:16]}…" for item, found in known]
        output.line(f"signatures (not verified)  {', '.join(names)}")
    output.result({"digest": document.digest, "root": json.loads(document.encode())})


@root.command()
@click.argument("files", nargs=-1, required=True, type=_ANY)
@click.option("--pin", is_flag=True, help="Pin genesis in this home, after you have compared its digest.")
@genesis_option
@click.option("--yes", is_flag=True, help="Do not ask whether the digest is right.")
@click.pass_context
def verify(ctx: click.Context, files: tuple[Path, ...], pin: bool, genesis: str | None, yes: bool) -> None:
    """Verify a chain of trust roots from genesis on, and print its digests.

    FILES are roots, or directories with root.json and root-<epoch>.json. The digest of genesis must reach you by
    another way than the file: read aloud, printed, on the wall. With --pin it is remembered, and every command of this
    home refuses any other. Verified roots are kept, so that a newer one cannot be withheld afterwards.

    Examples:
      custody root verify root-draft.json --pin
      custody root verify prod/keys
    """
    output, home = place(ctx).out, home_of(ctx)
    profile = home.profile()
    pinned = genesis or (profile.genesis if profile else None)
    envelopes = read_roots(files)
    first = envelopes[0].document(Root)
    if pinned is None or pin:
        envelopes = envelopes if first.epoch == 0 else [*read_roots(home.kept_roots()), *envelopes]
    if pin:
        home.require_deployment(first.deployment)
        _pin(output, home, envelopes, genesis=genesis, yes=yes, ctx=ctx)
    elif pinned is None:
        _unpinned(output, envelopes, first)
        return
    trusted = load_roots(home, files, genesis)
    for document in trusted.roots:
        output.line(f"epoch {document.epoch}  {fingerprint(document.digest)}")
    output.line(f"verified: {len(trusted.roots)} from the pinned genesis on; deployment {trusted.newest.deployment}")
    output.note("freshness unverified: offline, nobody knows whether a newer root exists")
    output.result(
        {
            "deployment": trusted.newest.deployment,
            "digests": [document.digest for document in trusted.roots],
            "epoch": int(trusted.newest.epoch),
            "genesis": trusted.roots[0].digest,
            "pinned": True,
        }
    )


def _pin(
    output: Output, home: Home, envelopes: list[Envelope], *, genesis: str | None, yes: bool, ctx: click.Context
) -> None:
    """Verify with the genesis at hand, have its digest confirmed, and pin it."""
    del ctx
    first = envelopes[0].document(Root)
    if first.epoch:
        raise ConfigError("--pin needs the genesis root (epoch 0)", hint="give it, or the directory that holds it")
    if genesis is not None and genesis != first.digest:
        raise IntegrityError(
            f"genesis has digest {first.digest[:16]}…, not the {genesis[:16]}… that was given",
            hint="never accept another genesis: ask who gave you this root",
        )
    follow_roots(envelopes, deployment=first.deployment, genesis=first.digest)
    profile = home.profile()
    if profile is None or profile.genesis is None:
        output.note(f"genesis of {first.deployment}, signed by everybody it names:")
        output.note(f"  {fingerprint(first.digest)}")
        prompter(None).confirm("Is this the digest that you were given out of band?", yes=yes or genesis is not None)
    home.pin(first.deployment, first.digest)


def _unpinned(output: Output, envelopes: list[Envelope], first: Root) -> None:
    """Say what can be said without a pin: that the chain holds together, if this genesis is the right one."""
    roots = follow_roots(envelopes, deployment=first.deployment, genesis=envelopes[0].digest)
    for document in roots:
        output.line(f"epoch {document.epoch}  {fingerprint(document.digest)}")
    output.warn("no genesis is pinned: these roots follow from each other, but anybody could have made them")
    output.note(
        "compare the digest of epoch 0 with the one you were given out of band, then: custody root verify --pin"
    )
    output.result(
        {
            "deployment": first.deployment,
            "digests": [document.digest for document in roots],
            "epoch": int(roots[-1].epoch),
            "genesis": roots[0].digest,
            "pinned": False,
        }
    )


def _previous(document: Root, path: Path | None, home: Home) -> Root | None:
    """Return the root before ``document``: the one given, or the one kept in the home."""
    if path is not None:
        before = read_envelope(path).document(Root)
        if document.previous != before.digest:
            raise ConflictError(f"{path} is not the root that this one names as the one before it")
        return before
    if document.epoch:
        for envelope in read_roots(home.kept_roots()):
            if envelope.digest == document.previous:
                return envelope.document(Root)
    return None


def _show(output: Output, document: Root, before: Root | None) -> None:
    if before is None:
        output.fields(rows(document), f"Trust root of {document.deployment}")
        return
    output.line(f"Trust root of epoch {document.epoch}, compared with epoch {before.epoch}:")
    for sign, label, value in changes(rows(before), rows(document)):
        output.line(f"{sign} {label}: {value}")


def _state(output: Output, state: Signing) -> None:
    lines = [("signed by", ", ".join(state.signed) or "nobody")]
    if state.missing:
        lines.append(("missing", ", ".join(state.missing)))
    if state.governance:
        lines.append(("governance", state.governance))
    output.fields(lines)
    if state.complete:
        output.note("complete: everybody who has to has signed. Next: custody root verify FILE --pin")


def _json(state: Signing) -> dict[str, object]:
    return {"governance": state.governance, "missing": list(state.missing), "signed": list(state.signed)}
