"""How the command line starts, helps, speaks and ends."""

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import NoReturn

import click
import pytest

from custody import errors
from custody.cli.errors import EXIT_CODES, run
from custody.cli.output import Output, visible
from custody.cli.registry import COMMANDS, main_group
from tests.cli.conftest import Deployment
from tests.doubles.command import Custody
from tests.unit.house.tree import ROOT

HEAVY = ("grpc", "sqlalchemy", "alembic", "cedarpy", "cryptography", "nacl", "msgspec", "rich", "uvicorn", "starlette")


@pytest.fixture(autouse=True)
def _keep_signal_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def _commands(group: click.Group, *above: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*above, name), command
        if isinstance(command, click.Group):
            yield from _commands(command, *above, name)


def test_help_starts_without_what_it_does_not_need() -> None:
    program = "import sys\nfrom custody.cli import main\ntry:\n main(['--help'])\nfinally:\n print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert loaded.isdisjoint(HEAVY)


def test_every_command_has_help_with_an_example_and_the_common_options() -> None:
    found = list(_commands(main_group))
    assert {path[0] for path, _ in found} == set(COMMANDS)
    for path, command in found:
        text = command.get_help(click.Context(command, info_name=" ".join(path)))
        assert "--home" in text, path
        assert "--output" in text, path
        assert isinstance(command, click.Group) or f"custody {path[0]}" in text, path
        for parameter in command.params:
            explained = not isinstance(parameter, click.Option) or parameter.help or parameter.required
            assert explained, (path, parameter.name)


def test_every_exit_code_is_documented() -> None:
    kinds = [getattr(errors, name) for name in errors.__all__]
    assert {kind.exit_code for kind in kinds} <= {code for code, _ in EXIT_CODES}


@pytest.mark.parametrize("word", ["seel", "--versio", "../seal"])
def test_a_command_that_does_not_exist(word: str, deployment: Deployment) -> None:
    done = deployment.custody(word, code=2)
    assert "hint: custody --help" in done.err
    assert done.message.startswith("No such")


def test_output_json_and_home_may_stand_at_any_level(deployment: Deployment) -> None:
    inner = deployment.custody("root", "verify", "prod/keys", "--output", "json").out
    outer = deployment.custody("--output", "json", "root", "verify", "prod/keys").out
    assert inner == outer
    assert inner.count("\n") == 1
    home = deployment.directory / "home"
    other = Custody(deployment.directory, deployment.directory / "none")
    assert other("--home", home, "root", "verify", "prod/keys", "--output", "json").out == inner


def test_a_reader_that_goes_away_is_no_error_message(deployment: Deployment) -> None:
    words = [sys.executable, "-m", "custody.cli", "root", "show", "prod/keys/root.json"]
    shell = subprocess.run(
        ["bash", "-c", '"$@" | true; echo "${PIPESTATUS[0]}"', "-", *words],
        cwd=deployment.directory,
        env=deployment.custody.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stderr == ""
    assert shell.stdout.strip() in {"0", "141"}


def _raise(error: BaseException) -> NoReturn:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (errors.DeniedError("no", hint="ask"), 12, "custody: no\n  hint: ask\n"),
        (errors.FormatError("two\nlines \x1b[2J"), 10, "custody: two lines \\u{001B}[2J\n"),
        (KeyboardInterrupt(), 130, "custody: interrupted\n"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 15, "custody: x: no space left on device\n"),
        (OSError(errno.EACCES, "Permission denied", "x"), 16, "custody: x: permission denied\n"),
        (OSError(errno.ENOENT, "No such file or directory", "x"), 13, "custody: x: no such file or directory\n"),
        (OSError(errno.EEXIST, "File exists", "x"), 14, "custody: x: file exists\n"),
        (ModuleNotFoundError("no", name="sqlalchemy.orm"), 16, "custody: sqlalchemy.orm is not installed\n"),
        (ZeroDivisionError("division by zero"), 1, "custody: unexpected ZeroDivisionError: division by zero\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_each_error_is_one_line_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    assert run(lambda: _raise(error)) == code
    shown = capsys.readouterr()
    assert shown.err.startswith(line)
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_the_traceback_is_for_those_who_ask(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUSTODY_DEBUG", "1")
    assert run(lambda: _raise(ZeroDivisionError("x"))) == 1
    assert "Traceback" in capsys.readouterr().err


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_value_is_markup_and_nothing_invisible_reaches_a_terminal() -> None:
    out, err = _Terminal(), _Terminal()
    output = Output(out=out, err=err)
    output.table(["[bold]name[/bold]"], [["[red]x[/red]"], ["a\x1b[31m\u202eb\u200b\nc"]])
    output.fields([("[link=x]", ":smile:\x07")])
    output.warn("[blink]\x9b")
    shown = out.getvalue()
    assert "[red]x[/red]" in shown
    assert "a\\u{001B}[31m\\u{202E}b\\u{200B}\\u{000A}c" in shown
    assert "[link=x]  :smile:\\u{0007}" in shown
    assert "[blink]\\u{009B}" in err.getvalue()


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, file = _Terminal(), io.StringIO()
    Output(err=coloured).warn("x")
    Output(err=file).warn("x")
    assert "\x1b[" in coloured.getvalue()
    assert file.getvalue() == "warning: x\n"
    monkeypatch.setenv("NO_COLOR", "1")
    plain = _Terminal()
    Output(err=plain).warn("x")
    assert plain.getvalue() == "warning: x\n"


def test_json_is_one_line_of_ascii_with_sorted_keys() -> None:
    out = io.StringIO()
    output = Output(as_json=True, out=out)
    output.line("for people")
    output.table(["a"], [["b"]])
    output.result({"b": "é\n\u202e", "a": 1})
    assert out.getvalue() == '{"a":1,"b":"\\u00e9\\n\\u202e"}\n'


def test_file_names_that_are_no_text_are_shown_escaped() -> None:
    assert visible(os.fsdecode(b"\xff")) == "\\u{DCFF}"
