"""``custody init``: the keys and files of a new deployment."""

import os
from pathlib import Path

import click

from custody.app.deployment import BROKER, create_deployment
from custody.cli.profile import clock, home_of
from custody.cli.registry import command, place
from custody.crypto.sodium import random_into

__all__ = ["init"]


@command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--deployment",
    required=True,
    metavar="ID",
    help="The deployment id: the origin of its first log, for ever, such as custody.example.org/prod.",
)
@click.option("--trust-domain", metavar="TD", help="SPIFFE trust domain.  [default: the host part of the id]")
@click.option(
    "--ca-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the CA goes, such as a stick for another host.  [default: DIRECTORY/ca]",
)
@click.pass_context
def init(ctx: click.Context, directory: Path, deployment: str, trust_domain: str | None, ca_dir: Path | None) -> None:
    """Make the keys and files of a new deployment in DIRECTORY.

    It makes a certificate authority, the keys of the broker, of the log and of a first witness, a default policy, and
    ceremony.toml, in which you name the people. Nothing that exists is overwritten.

    Examples:
      custody init prod --deployment custody.example.org/prod
      custody init prod --deployment custody.example.org/prod --ca-dir /media/stick/ca
    """
    out, home = place(ctx).out, home_of(ctx)
    home.require_deployment(deployment)
    created = create_deployment(
        directory,
        deployment,
        trust_domain=trust_domain or deployment.partition("/")[0],
        ca_directory=ca_dir,
        rng=os.urandom,
        random_into=random_into,
        clock=clock,
    )
    home.pin(deployment)
    out.fields(
        [
            ("deployment", created.deployment),
            ("trust domain", created.trust_domain),
            ("CA", f"{created.ca_directory}/ca.key"),
            ("broker", f"{directory}/broker: broker.key, row.key, log.key, policy/"),
            ("witness", f"{directory}/witness/witness.key"),
            ("public", f"{directory}/keys: ca.pem, log.vkey, witness.vkey, witness.policy"),
            ("log", created.log.encode()),
            ("policy", created.policy_digest),
            ("ceremony", f"{directory}/ceremony.toml"),
            ("profile", str(home.profile_path)),
        ],
        "Made a new deployment",
    )
    out.warn(
        f"{created.ca_directory}/ca.key can vouch for any job, and has no passphrase: keep it off the broker's host"
    )
    out.warn("a witness that you run yourself proves nothing against you: let others run witnesses, too")
    out.note(
        f"next: fill in {directory}/ceremony.toml, then custody root create --dir {directory} --out root-draft.json"
    )
    out.result(
        {
            "broker": BROKER,
            "ca": str(created.ca_directory),
            "deployment": created.deployment,
            "directory": str(directory),
            "log": created.log.encode(),
            "policy": created.policy_digest,
            "profile": str(home.profile_path),
            "trust_domain": created.trust_domain,
            "witness": created.witness.encode(),
        }
    )
