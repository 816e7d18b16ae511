"""``custody recover``: break glass."""

import os
from pathlib import Path

import click

from custody.adapters.store import open_store
from custody.adapters.surroundings import Surroundings
from custody.app.arguments import checked
from custody.app.recovery import check_free, choose_files, hold, open_share, rebuild_key, write_files
from custody.app.roots import load_roots
from custody.app.versions import find_version
from custody.cli.profile import genesis_option, home_of, passphrase_option, prompter, roots_option, store_url, unlock
from custody.cli.registry import command, place
from custody.crypto.sharing import Share
from custody.custodian.keys import load_key
from custody.documents.actor import actor_name
from custody.documents.show import size_text
from custody.errors import ConfigError
from custody.values import Digest, VersionId

__all__ = ["recover_command"]


@command(name="recover")
@click.argument("version", metavar="NAME@LABEL")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the files go; it must not exist, or be empty.",
)
@click.option(
    "--key",
    "keys",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="KEYFILE",
    help="A custodian's key file; one for each custodian.",
)
@click.option("--store", metavar="URL", help="Where the ciphertext lies, such as file:/srv/store.  [default: profile]")
@roots_option
@genesis_option
@click.option("--content", metavar="DIGEST", help="Which content, where the store holds several of that name.")
@click.option("--file", "only", multiple=True, metavar="PATH", help="Only this file of the version; may be repeated.")
@passphrase_option
@click.pass_context
def recover_command(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context,
    version: str,
    out: Path,
    keys: tuple[Path, ...],
    store: str | None,
    roots: tuple[Path, ...],
    genesis: str | None,
    content: str | None,
    only: tuple[str, ...],
    passphrase_fd: int | None,
) -> None:
    """Break glass: open NAME@LABEL with a quorum of key files on this machine.

    For the day when there is no broker and no log. It needs the ciphertext, the trust root, and the key files and
    passphrases of as many custodians as the quorum says. Nothing of it is logged anywhere: note who was present, and
    treat the version as copied.

    All files are written or none, and nothing that exists is overwritten. With --passphrase-fd the passphrases are read
    one a line, in the order of --key.

    Examples:
      custody recover frontier/llm@2026-11 --out ./llm --store file:/srv/store --key alice.key --key bob.key
      custody recover small@1 --out ./small --key alice.key --key bob.key --file config.json
    """
    output, home, asker = place(ctx).out, home_of(ctx), prompter(passphrase_fd)
    checked(VersionId, version, "version", "write it name@label, such as frontier/llm@2026-11")
    if content is not None:
        checked(Digest, content, "content digest", "64 lower-case hex digits")
    trusted = load_roots(home, roots, genesis)
    files = [load_key(path) for path in keys]
    if len({key_file.key_id for key_file in files}) != len(files):
        raise ConfigError("the same key is given twice", hint="one --key for each custodian")
    opened = open_store(store_url(store, home), Surroundings.real())
    found = find_version(opened, version, trusted.roots, content)
    chosen = choose_files(found, only)
    held = hold(found, [key_file.key_id.hex() for key_file in files])
    size = sum(int(found.content.files[index].size) for index in chosen)
    check_free(out, size)
    output.show(
        [
            ("version", version),
            ("content", found.manifest.content.digest),
            ("sealed", f"{found.content.created} by {actor_name(found.content.sealer)}"),
            ("size", size_text(size)),
            ("quorum", found.sharing.quorum_text()),
            ("present", ", ".join(item.person for item in held)),
            ("trust root", f"epoch {found.epoch} of {trusted.newest.epoch}"),
        ],
        "Break glass",
    )
    output.warn("freshness unverified: no log was asked whether this version or this trust root is still in force")
    shares: list[Share] = []
    try:
        for path, key_file in zip(keys, files, strict=True):
            mine = next((item for item in held if item.wrap.device == key_file.key_id.hex()), None)
            # A key file that holds no share is unlocked too: the lines of a descriptor are in the order of --key.
            with unlock(asker, path, key_file) as signer:
                if mine is not None:
                    shares.append(open_share(found, mine, signer.xwing_seed))
        key = rebuild_key(found, shares)
    finally:
        for share in shares:
            share.value.close()
    with key, output.progress(f"recovering {version}", size, len(chosen)) as meter:
        done = write_files(found, opened, key, out, files=chosen, rng=os.urandom, progress=meter, finished=meter.file)
    output.table(["SHA-256", "bytes", "file"], [(file.sha256, file.size, file.path) for file in done])
    output.note(f"wrote {len(done)} file{'s' if len(done) > 1 else ''} to {out}; they are plaintext now")
    output.note("this is in no log: note who was present and why, and treat the version as copied")
    output.result(
        {
            "content": found.manifest.content.digest,
            "directory": str(out),
            "files": [{"path": file.path, "sha256": file.sha256, "size": file.size} for file in done],
            "freshness": "unverified",
            "persons": sorted(item.person for item in held),
            "version": version,
        }
    )
