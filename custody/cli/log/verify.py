"""``custody log verify``: all of it, from genesis on."""

from pathlib import Path

import click

from custody.app.auditing import Audit, audit, open_log
from custody.audit.report import Finding, Report
from custody.cli.log.group import DIRECTORY, FILE, log
from custody.cli.output import Output, Rows
from custody.cli.profile import genesis_option, home_of
from custody.cli.registry import place
from custody.errors import IntegrityError
from custody.values import Time

__all__ = ["verify"]

_OPEN_SHOWN = 3


@log.command()
@click.argument("source", type=DIRECTORY, required=False)
@click.option("--broker", is_flag=True, help="Read the log from the broker that custody.toml names.")
@click.option("--state", type=FILE, metavar="FILE", help="Memory of earlier runs: refuses a shorter log and a fork.")
@click.option("--anew", is_flag=True, help="With --state: judge again what an earlier run judged.")
@click.option("--structure", is_flag=True, help="Only hashes, tiles, checkpoints and trust roots.")
@click.option(
    "--policy",
    "policies",
    type=DIRECTORY,
    multiple=True,
    metavar="DIR",
    help="Ask this policy again what it answered; repeat it for each that was in force.",
)
@click.option("--deployment", metavar="ID", help="Deployment id.  [default: the pinned one]")
@genesis_option
@click.pass_context
def verify(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context,
    source: Path | None,
    broker: bool,
    state: Path | None,
    anew: bool,
    structure: bool,
    policies: tuple[Path, ...],
    deployment: str | None,
    genesis: str | None,
) -> None:
    """Verify a whole log: SOURCE is its directory.

    From the pinned genesis on: every entry and tile under the newest checkpoint; the log's signature and the witness
    quorum of every checkpoint that was kept, and that all of them are one history; every document; and for every entry
    all rules that the broker had to keep: signatures, quorum, terms, leases, sessions, certificates, times.

    With --state a run begins where the one before ended, and costs what is new: the newest checkpoint must continue
    what was seen, and findings of earlier runs stay. An intent without an outcome is no finding: it is listed as open.

    With --policy every request, grant and session is put to the policy once more, if the trust root of its time names
    the digest of that folder (it takes custody[broker]). What could not be asked again is said.

    Findings end it with exit code 11. Not checked, since the log alone cannot show it: that no newer entry exists; that
    witnesses are independent of the log's operator; that a broker served no more bytes than it logged.

    Examples:
      custody log verify /srv/custody/log --state audit.state
      custody log verify /srv/custody/log --structure
      custody log verify /srv/custody/log --policy /etc/custody/policy
      custody log verify --broker --output json
      custody log verify copy/log --genesis 5d1f...
    """
    output, home = place(ctx).out, home_of(ctx)
    if (source is None) != broker:
        raise click.UsageError("give the directory of a log, or --broker")
    with open_log(source, home) as opened:
        how = Audit(
            home, genesis, deployment, state, directory=source, anew=anew, structure=structure, policies=policies
        )
        report = audit(opened, how)
    _report(output, report)
    output.result(report.data())
    if not report.ok:
        number = f"{report.found} finding{'' if report.found == 1 else 's'}"
        following = sum(finding.follows is not None for finding in report.findings)
        number += f" ({following} may only follow from others)" if following else ""
        raise IntegrityError(
            f"the log is not what it must be: {number}; entries: {_done(report)}",
            hint="keep a copy of the log as it is: it is the evidence",
        )


def _report(output: Output, report: Report) -> None:
    facts: list[tuple[str, str]] = [
        ("deployment", report.deployment),
        ("entries", _done(report)),
    ]
    if report.begun:
        facts.append(("new", f"{report.size - report.begun}, earlier runs judged those before entry {report.begun}"))
    if report.root:
        facts.append(("tree root", report.root.hex()))
    if report.epoch is not None:
        facts.append(("trust root", f"epoch {report.epoch}, {report.root_digest}"))
    if report.cosigned:
        facts.append(("checkpoints", f"{report.checkpoints} good, all of one history"))
        facts.append(("newest", f"cosigned at {Time(report.cosigned[1])} by {', '.join(report.witnesses)}"))
    if report.types:
        facts.append(("types", ", ".join(f"{count} {kind}" for kind, count in sorted(report.types.items()))))
    if report.asked:
        facts.append(("policy", f"{report.asked.total()} answers derived again"))
    if report.open:
        newest = ", ".join(f"entry {item.entry}" for item in report.open[-_OPEN_SHOWN:])
        facts.append(("open", f"{len(report.open)} without an outcome yet, which is no fault; the newest: {newest}"))
    output.fields(facts)
    for finding in report.findings:
        output.fields(_finding(finding), f"FINDING {finding.code}")
    if report.found > len(report.findings):
        output.line(f"and {report.found - len(report.findings)} more findings that are not listed")
    for remark in report.remarks:
        output.warn(remark.text)
    if report.ok:
        output.line("OK: nothing found")


def _done(report: Report) -> str:
    if report.structure:
        return f"{report.hashed} of {report.size} hashed, none judged but trust roots"
    return f"{report.audited} of {report.size} judged"


def _finding(finding: Finding) -> Rows:
    result = [("what", finding.text)]
    if finding.entry is not None:
        result.append(("entry", str(finding.entry)))
    if finding.follows is not None:
        result.append(("follows", f"may be wrong only because entry {finding.follows} is"))
    if finding.place:
        result.append(("object", finding.place))
    result += [("document", digest) for digest in finding.documents]
    return result
