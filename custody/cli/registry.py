"""Which commands there are, and where: each group is one file or one room, imported when it is used.

To add a command, write ``custody/cli/<file>.py`` with a command or group made by ``command`` or ``group`` below, and
add a line to ``COMMANDS``. ``custody --help`` reads this table only, so it starts in no time and needs no extra.
"""

import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from custody import __version__
from custody.cli.errors import EXIT_CODES
from custody.cli.output import Output

__all__ = ["COMMANDS", "Command", "Entry", "Folder", "Group", "Place", "command", "group", "main_group", "place"]


class Entry(NamedTuple):
    """One line of the table: section of the help, module under ``custody.cli``, name in it, one sentence."""

    section: str
    module: str
    attribute: str
    help: str


COMMANDS: Final[dict[str, Entry]] = {
    "demo": Entry("Set up", "demo", "demo", "Show the main job: seal, approve, fetch, revoke, verify the log."),
    "init": Entry("Set up", "init", "init", "Make the keys and files of a new deployment."),
    "ca": Entry("Set up", "ca", "ca", "Make a certificate authority, and issue certificates from it."),
    "custodian": Entry("Set up", "custodian", "custodian", "Make and export a custodian's key."),
    "root": Entry("Set up", "root", "root", "Write, sign, show and verify trust roots."),
    "seal": Entry("Versions", "seal", "seal_command", "Encrypt a model version and split its key among custodians."),
    "register": Entry("Versions", "register", "register", "Put a sealed version into custody."),
    "versions": Entry("Versions", "versions", "versions_command", "List what is in custody."),
    "show": Entry("Versions", "versions", "show_command", "Show a version or a request, verified."),
    "recover": Entry(
        "Versions", "recover", "recover_command", "Break glass: open a version with a quorum of key files."
    ),
    "request": Entry("Requests", "requests", "request_command", "Ask for a version, for one purpose and a while."),
    "pending": Entry("Requests", "pending", "pending_command", "List the requests that concern you."),
    "withdraw": Entry("Requests", "requests", "withdraw_command", "Take back a request of yours."),
    "approve": Entry("Requests", "approvals", "approve_command", "Look at a request, and approve what is shown."),
    "deny": Entry("Requests", "approvals", "deny_command", "Look at a request, and deny it."),
    "release": Entry("Requests", "approvals", "release_command", "Send your share again, without deciding again."),
    "fetch": Entry("Leases", "fetch", "fetch_command", "Fetch the files of a lease, every byte checked."),
    "lease": Entry("Leases", "leases", "lease", "List, return and revoke leases."),
    "log": Entry("Audit", "log.group", "log", "Verify and read the transparency log."),
    "broker": Entry("Servers", "broker", "broker", "Configure and run a broker."),
    "ledger": Entry("Servers", "ledger", "ledger", "Make a broker's ledger again from the published log."),
    "store": Entry("Servers", "store", "store", "Keep a second copy of what is sealed."),
    "witness": Entry("Servers", "witness", "witness", "Run a witness."),
}


@dataclass(slots=True)
class Place:
    """What the common options of a command say: its home and how it speaks."""

    home: Path | None = None
    output: str = "text"

    @property
    def out(self) -> Output:
        """Where the command writes."""
        return Output(as_json=self.output == "json")


def place(context: click.Context) -> Place:
    """Return the place of a command: one for all levels, whichever level the options were given at."""
    found: Place = context.ensure_object(Place)
    return found


class Command(click.Command):
    """A command with the options that all have, whose help keeps the lines of its examples.

    The docstring is the help; end it with ``Examples:`` and indented lines.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _common()

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the docstring."""
        del ctx
        _help_text(self, formatter)


class Group(click.Group):
    """A group of commands, which are of class ``Command``."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _common()

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the docstring."""
        del ctx
        _help_text(self, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with the first sentence of each, whole."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, item.get_short_help_str(300)) for name, item in found if item is not None])


class Folder(Group):
    """A group whose commands lie in files of their own, each imported when its command is used.

    ``files`` says which module of ``custody.cli`` has which command; it joins the group by ``@thegroup.command()``.
    """

    def __init__(self, *args: Any, files: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._files = files

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the alphabet."""
        del ctx
        return sorted(self._files)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's file and return what has joined."""
        if cmd_name in self._files:
            importlib.import_module(f"custody.cli.{self._files[cmd_name]}")
        return super().get_command(ctx, cmd_name)


def command(**settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of its own: ``@command(name="seal")``. Below a group, ``@thegroup.command()`` does it."""
    return click.command(cls=Command, **settings)


def group(**settings: Any) -> Callable[[Callable[..., Any]], click.Group]:
    """Make a group of commands: ``@group()``."""
    return click.group(cls=Group, **settings)


class _Main(Group):
    """The top: finds its commands in the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        found = getattr(importlib.import_module(f"custody.cli.{entry.module}"), entry.attribute)
        if not isinstance(found, click.Command):
            message = f"{entry.module}.{entry.attribute} is not a command"
            raise TypeError(message)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] in COMMANDS:
            # Secrets pass through most commands: no other process of this user may look, and nothing dumps core.
            from custody.crypto.secret import harden_process

            harden_process()
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            with formatter.section(section):
                formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items() if entry.section == section])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES])


def _common() -> list[click.Parameter]:
    """--home and --output, which every level takes; the innermost wins."""
    return [
        click.Option(
            ["--home"],
            type=click.Path(path_type=Path, file_okay=False),
            metavar="DIR",
            help="Settings and memory of this tool.  [env: CUSTODY_HOME; default: ~/.config/custody]",
            expose_value=False,
            callback=_set_home,
        ),
        click.Option(
            ["--output"],
            type=click.Choice(["text", "json"]),
            help="How the result is written.  [default: text]",
            expose_value=False,
            callback=_set_output,
        ),
    ]


def _set_home(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    del parameter
    if value is not None:
        place(ctx).home = value
    elif place(ctx).home is None and (environment := os.environ.get("CUSTODY_HOME")):
        place(ctx).home = Path(environment)


def _set_output(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    del parameter
    if value is not None:
        place(ctx).output = value


def _help_text(self: click.Command, formatter: click.HelpFormatter) -> None:
    """Write the docstring: paragraphs wrapped, indented lines as they are."""
    for paragraph in inspect.cleandoc(self.help or "").split("\n\n"):
        formatter.write_paragraph()
        lines = paragraph.splitlines()
        words = " ".join(line.strip() for line in lines if not line.startswith("  "))
        with formatter.indentation():
            if words:
                formatter.write_text(words)
            for line in lines:
                if line.startswith("  "):
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="custody", message="%(prog)s %(version)s")
def main_group() -> None:
    """Keep AI model weights encrypted everywhere except in the memory of the job that is allowed to run them."""
