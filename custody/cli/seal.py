"""``custody seal``: encrypt a model version and split its key among custodians."""

import os
import re
from contextlib import ExitStack
from pathlib import Path

import click

from custody.adapters.home import Home
from custody.adapters.store import open_store
from custody.adapters.surroundings import Surroundings
from custody.app.arguments import checked
from custody.app.connect import open_desk
from custody.app.into_store import IntoStore
from custody.app.registering import Registered
from custody.app.roots import TrustedRoots, load_roots
from custody.app.sealing import Sealed, Sealing, guarding_roster, person_of, seal
from custody.app.source import scan
from custody.app.unfinished import Unfinished
from custody.app.uploading import IntoBroker
from custody.app.versions import unfinished
from custody.cli.output import Output
from custody.cli.profile import (
    clock,
    genesis_option,
    home_of,
    key_setting,
    passphrase_option,
    prompter,
    roots_option,
    store_url,
    unlock,
)
from custody.cli.registry import command, place
from custody.crypto.sodium import random_into
from custody.custodian.keys import load_key
from custody.documents.dsse import Signer
from custody.documents.show import size_text
from custody.errors import ConflictError, FormatError
from custody.ports import Sweeper
from custody.values import Digest, Name, VersionId

__all__ = ["seal_command"]

_SIZE = re.compile(r"([0-9]{1,9})(|KiB|MiB)")
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20}


@command(name="seal")
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("version", metavar="NAME@LABEL")
@click.option("--store", metavar="URL", help="Where the ciphertext goes, such as file:/srv/store.  [default: profile]")
@roots_option
@genesis_option
@click.option(
    "--key", type=click.Path(path_type=Path, dir_okay=False), metavar="KEYFILE", help="Your key.  [default: profile]"
)
@click.option(
    "--segment-size", default="1MiB", show_default=True, metavar="SIZE", help="A power of two, 4KiB to 16MiB."
)
@click.option("--retention", default="standard", show_default=True, metavar="CLASS", help="Retention class.")
@click.option("--label", "labels", multiple=True, metavar="K=V", help="For people and policy; may be repeated.")
@click.option("--lineage", multiple=True, metavar="DIGEST", help="Content it was made from; may be repeated.")
@click.option("--offline", is_flag=True, help="Do not ask the broker whether a newer trust root is in force.")
@passphrase_option
@click.pass_context
def seal_command(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context,
    path: Path,
    version: str,
    store: str | None,
    roots: tuple[Path, ...],
    genesis: str | None,
    key: Path | None,
    segment_size: str,
    retention: str,
    labels: tuple[str, ...],
    lineage: tuple[str, ...],
    offline: bool,
    passphrase_fd: int | None,
) -> None:
    """Encrypt PATH, a file or a directory, as the version NAME@LABEL.

    The version's key is made here, split among the custodians who guard the name, wrapped to their devices, and then
    wiped: afterwards nobody holds it. Your own key only signs. Ciphertext is written first and the manifest last, so a
    seal that is interrupted leaves nothing visible, and you start it again. Where your settings name a broker, its log
    must first say that the trust root you seal under is the one in force.

    Without --store, and without a store in your settings, the broker takes the version: you need no credentials of its
    store, and the version is in custody when this ends.

    Examples:
      custody seal ./llm frontier/llm@2026-11 --store file:/srv/store --root prod/keys --key alice.key
      custody seal model.safetensors small@1 --label stage=pretraining --lineage 9f86d0…
    """
    output, home, asker = place(ctx).out, home_of(ctx), prompter(passphrase_fd)
    checked(VersionId, version, "version", "write it name@label, such as frontier/llm@2026-11")
    checked(Name, retention, "retention class")
    for digest in lineage:
        checked(Digest, digest, "content digest", "64 lower-case hex digits")
    pairs = [_label(item) for item in labels]
    segment = _segment(segment_size)
    trusted = load_roots(home, roots, genesis)
    path_of_key = key or key_setting(home)
    key_file = load_key(path_of_key)
    profile = home.profile()
    online = profile is not None and profile.broker is not None and not offline
    sealer = person_of(trusted.newest, key_file.key_id.hex())
    files = scan(path)
    guarding_roster(trusted.newest, version, sealer, segment)
    with ExitStack() as stack:
        target: IntoBroker | IntoStore
        if online and store is None and profile is not None and profile.store is None:
            target = stack.enter_context(IntoBroker(home, Surroundings.real()))
        else:
            target = _into_store(output, home, store_url(store, home), version)
        signer = stack.enter_context(unlock(asker, path_of_key, key_file))
        if online:
            _require_current(home, sealer.person, signer, trusted)
        job = Sealing(
            version=version,
            files=files,
            sealer=sealer,
            signer=signer,
            segment=segment,
            retention=retention,
            labels=pairs,
            lineage=lineage,
        )
        total = sum(file.size for file in files)
        meter = stack.enter_context(output.progress(f"sealing {version}", total, len(files)))
        sealed = seal(
            job,
            root=trusted.newest,
            target=target,
            rng=os.urandom,
            random_into=random_into,
            clock=clock,
            progress=meter,
            finished=meter.file,
        )
    registered = target.registered if isinstance(target, IntoBroker) else None
    _report(output, sealed, int(trusted.newest.epoch), registered, online=online)


def _into_store(output: Output, home: Home, url: str, version: str) -> IntoStore:
    """Open the store to seal into, swept of what killed seals left there."""
    store = open_store(url, Surroundings.real())
    notes = Unfinished(home.path, url)
    target = IntoStore(store, version, notes)
    if isinstance(store, Sweeper):
        store.sweep(clock())
    swept = notes.sweep(store)
    if swept:
        output.note(f"removed the blobs of {swept} interrupted seal{'s' if swept > 1 else ''}")
    for vid, keys in unfinished(store).items():
        output.note(
            f"the store holds {len(keys)} blobs of vid {vid[:16]}… without a manifest: being sealed, or left over"
        )
    return target


def _require_current(home: Home, person: str, signer: Signer, trusted: TrustedRoots) -> None:
    """Greet the log: the root to seal under must be in force now. ``ConflictError`` where a newer one is."""
    with open_desk(home, Surroundings.real()) as desk:
        desk.greet(person, signer)
        if desk.trust.root_digest != trusted.envelopes[-1].digest:
            raise ConflictError(
                f"the trust root in force is of epoch {desk.trust.root.epoch}, you know epoch {trusted.newest.epoch}",
                hint="get the newer one and check it: custody root verify keys",
            )


def _report(output: Output, sealed: Sealed, epoch: int, registered: Registered | None, *, online: bool) -> None:
    content, sharing = sealed.content, sealed.sharing
    output.fields(
        [
            ("version", content.version),
            ("content", sealed.manifest.content.digest),
            ("sharing", sealed.manifest.sharing.digest),
            ("vid", content.vid),
            ("size", f"{size_text(content.size)} in {len(content.files)} file{'s' if len(content.files) > 1 else ''}"),
            ("roster", f"{sharing.roster}: {sharing.quorum_text()}"),
            ("trust root", f"epoch {epoch}"),
            *([("entry", f"{registered.index}, witnessed")] if registered else []),
        ],
        "Sealed, and in custody" if registered else "Sealed",
    )
    if not online:
        output.note("freshness unverified: no log was asked whether a newer trust root exists")
    output.note("the plaintext still lies where it was: deleting it is yours to do")
    output.result(
        {
            "content": sealed.manifest.content.digest,
            "entry": registered.index if registered else None,
            "epoch": epoch,
            "files": len(content.files),
            "roster": sharing.roster,
            "sharing": sealed.manifest.sharing.digest,
            "size": content.size,
            "version": content.version,
            "vid": content.vid,
        }
    )


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise FormatError(f"--label {text[:80]!a} is not K=V", hint="write it such as --label stage=pretraining")
    return checked(Name, name, "label name", "lower-case letters, digits and hyphens"), value


def _segment(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise FormatError(f"--segment-size {text[:40]!a} is not a size", hint="write it such as 256KiB or 1MiB")
    return int(match[1]) * _UNITS[match[2]]
