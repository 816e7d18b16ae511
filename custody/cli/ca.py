"""``custody ca``: a small certificate authority, for deployments without SPIRE."""

from pathlib import Path

import click

from custody.app.arguments import checked
from custody.app.ca import MAX_HOURS, create_authority, load_authority
from custody.cli.profile import clock
from custody.cli.registry import group, place
from custody.values import SpiffeId, Time

__all__ = ["ca", "init", "issue"]


@group()
def ca() -> None:
    """Make a certificate authority, and issue certificates from it.

    It vouches for the identities (SPIFFE IDs) of brokers, persons and jobs. Keep its key on a host that does nothing
    else. A deployment with SPIRE needs none of this.
    """


@ca.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--trust-domain", required=True, metavar="TD", help="SPIFFE trust domain, such as example.org.")
@click.pass_context
def init(ctx: click.Context, directory: Path, trust_domain: str) -> None:
    """Make ca.key and ca.crt in DIRECTORY.

    Example:
      custody ca init /media/stick/ca --trust-domain example.org
    """
    out = place(ctx).out
    checked(SpiffeId, f"spiffe://{trust_domain}/x", "trust domain", "write one such as example.org")
    authority = create_authority(directory, trust_domain, clock())
    end = Time(int(authority.certificate.not_valid_after_utc.timestamp()))
    out.fields([("key", f"{directory}/ca.key"), ("certificate", f"{directory}/ca.crt"), ("valid until", str(end))])
    out.warn(f"{directory}/ca.key can vouch for any job, and has no passphrase: keep it off the broker's host")
    out.result({"directory": str(directory), "not_after": str(end), "trust_domain": trust_domain})


@ca.command()
@click.argument("identity", metavar="SPIFFE_ID")
@click.option(
    "--ca",
    "authority",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Directory with ca.key and ca.crt.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where tls.crt, tls.key and ca.pem go; made if it does not exist.",
)
@click.option(
    "--hours",
    type=click.FloatRange(0, MAX_HOURS, min_open=True),
    default=1.0,
    show_default=True,
    metavar="HOURS",
    help=f"Life of the certificate, at most {MAX_HOURS}.",
)
@click.option("--dns", multiple=True, metavar="NAME", help="DNS name or IP address of a server; may be repeated.")
@click.pass_context
def issue(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context, identity: str, authority: Path, out: Path, hours: float, dns: tuple[str, ...]
) -> None:
    """Issue a certificate (X.509-SVID) with a fresh key.

    Files that exist in the output directory are replaced whole, so a running process can load them again: issue a new
    one before the old one ends.

    Examples:
      custody ca issue spiffe://example.org/job/training --ca prod/ca --out job
      custody ca issue spiffe://example.org/broker/broker-1 --ca prod/ca --out tls --hours 24 --dns localhost
    """
    output = place(ctx).out
    issued = load_authority(authority).issue(identity, out, hours=hours, dns=dns, now=clock())
    output.fields(
        [
            ("identity", issued.identity),
            ("valid until", str(Time(issued.not_after))),
            ("serial", f"{issued.serial:x}"),
            ("files", f"{out}: tls.crt, tls.key, ca.pem"),
        ]
    )
    output.result(
        {
            "directory": str(out),
            "identity": issued.identity,
            "not_after": str(Time(issued.not_after)),
            "serial": f"{issued.serial:x}",
        }
    )
