"""``custody custodian``: the keys of custodians."""

from pathlib import Path

import click

from custody.app.arguments import checked
from custody.cli.profile import passphrase_option, prompter
from custody.cli.registry import group, place
from custody.crypto.sodium import random_into
from custody.custodian.keys import check_new, create_key, export_key, load_key
from custody.documents.show import fingerprint
from custody.values import Name, PersonId

__all__ = ["custodian", "export", "keygen"]


@group()
def custodian() -> None:
    """Make and export a custodian's key.

    A custodian holds shares of keys. The key file stays on the custodian's own machine, behind a passphrase; its
    public half goes into the trust root.
    """


@custodian.command()
@click.option("--person", required=True, metavar="ID", help="Id in the trust root, such as alice.")
@click.option("--device", default="laptop", show_default=True, metavar="NAME", help="Name of this device.")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The key file; it must not exist.",
)
@passphrase_option
@click.pass_context
def keygen(ctx: click.Context, person: str, device: str, out: Path, passphrase_fd: int | None) -> None:
    """Make a key file.

    The passphrase is all that protects a stolen key file, and nobody can reset it: use six random words or more.

    Examples:
      custody custodian keygen --person alice --out alice.key
      custody custodian keygen --person alice --device yubihost --out alice-2.key --passphrase-fd 3 3<passphrase.txt
    """
    output = place(ctx).out
    checked(PersonId, person, "person id", "write one such as alice or alice.smith")
    checked(Name, device, "device name", "write one such as laptop or desk-2")
    check_new(out)
    with prompter(passphrase_fd).new_passphrase(str(out)) as passphrase:
        key_file = create_key(out, person, device, passphrase, random_into)
    key_id = key_file.key_id.hex()
    output.fields(
        [("key file", str(out)), ("person", person), ("device", device), ("key id", fingerprint(key_id))],
        "Made a key",
    )
    output.note(f"next: custody custodian export {out} > {person}.json, and read the key id aloud to the others")
    output.result({"device": device, "file": str(out), "key_id": key_id, "person": person})


@custodian.command()
@click.argument("key_file", metavar="KEYFILE", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_context
def export(ctx: click.Context, key_file: Path) -> None:
    """Print the public half of a key file, as JSON, for the ceremony.

    No passphrase is asked for, and nothing printed is secret.

    Example:
      custody custodian export alice.key > alice.json
    """
    output = place(ctx).out
    exported = export_key(load_key(key_file))
    output.note(f"{exported.person}/{exported.device}: key id {fingerprint(exported.key_id)}")
    click.echo(exported.encode())
