"""``python -m ops.bench``: the table. ``... log`` and ``... log audit`` hand over to the log's own."""

import argparse
import json
import os
import runpy
import signal
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from custody.errors import CustodyError, FormatError, InterruptedByUser
from ops.bench import jobs, memory, opening, s3, seal, sessions, show, stream
from ops.bench.deployment import Deployment, deployed
from ops.bench.machine import after, busy, describe, machine, packages
from ops.bench.model import Model
from ops.bench.rows import Row

_README: Final = Path(__file__).parents[2] / "README.md"
_BEGIN, _END = "<!-- ops/bench/run --readme writes from here -->\n", "<!-- to here -->\n"
_VERSION: Final = "demo/bench@1"
_SIZE: Final = 1024  # MiB
_RUNS: Final = 3

_NOTE: Final = (
    "page cache warm, each run after an untimed one of its own, with memory that was in use just before; custody opens "
    "and streams in a session that is open already: see first byte and sessions for opening one; peers use the threads "
    "they can: cp and age one, the others two or more, GETs eight; a line that begins with only is the steps of ours "
    "with nothing around them, which no arrangement of them can pass; cpu s is for a GB, or for all of it"
)

_EXAMPLES: Final = """\
examples:
  ops/bench/run                            everything, in about five minutes on two quiet cores
  ops/bench/run --only stream,seal         some of it
  ops/bench/run --large --readme           with models of 4 and 16 GiB, and the table of README.md made again
  ops/bench/run --runs 5 --json FILE       every single run as JSON
  ops/bench/run log [audit]                the figures of the log, or of its audit

It needs 6 GB of memory, and twice that on the disk; --large needs 18 GB and 35. Everything runs on this machine:
broker, witness and S3 server are processes of their own that listen on loopback.
"""


@dataclass(frozen=True)
class Setting:
    """What is measured with, and where."""

    deployment: Deployment
    model: Model
    work: Path
    tmpfs: Path
    runs: int
    large: bool


# In this order: once the broker serves from S3, the directory is gone.
PARTS: Final[Mapping[str, Callable[[Setting], Sequence[Row]]]] = {
    "seal": lambda at: seal.rows(at.deployment, at.model, at.work, at.tmpfs, at.runs),
    "open": lambda at: opening.rows(at.deployment, at.model, at.work, at.runs),
    "part": lambda at: opening.part_rows(at.deployment, at.model, at.runs),
    "stream": lambda at: stream.rows(at.deployment, at.model, at.runs),
    "first-byte": lambda at: sessions.first_byte_rows(at.deployment, at.model, max(5, at.runs)),
    "sessions": lambda at: sessions.rate_rows(at.deployment, at.runs),
    "jobs": lambda at: jobs.rows(at.deployment, at.model, at.runs),
    "memory": lambda at: memory.rows(at.deployment, at.model, at.work, large=at.large),
    "s3": lambda at: s3.rows(at.deployment, at.model, at.work, at.runs),
}


def main(words: Sequence[str]) -> int:
    """Measure, and show what was measured; returns the exit code."""
    asked = _arguments(words)
    facts, command = machine(), _command(asked)
    try:
        rows = _measure(asked)
    except CustodyError as error:
        _say(f"ops/bench/run: {error.message}" + (f"\n  hint: {error.hint}" if error.hint else ""))
        return error.exit_code
    except KeyboardInterrupt:
        _say("ops/bench/run: interrupted")
        return InterruptedByUser.exit_code
    except OSError as error:
        _say(f"ops/bench/run: {error.filename or 'input or output'}: {(error.strerror or str(error)).lower()}")
        return 1
    facts |= after()
    said = f"{asked.size} MiB of 16-bit floats, {asked.runs} runs in turn, {_NOTE}"
    warning = "The machine was busy: believe the processor's seconds, not the rates.\n" if busy(facts) else ""
    print(f"{describe(facts)}\n{describe(packages())}\n{textwrap.fill(said, 100)}\n{warning}")
    print(f"{show.table(rows)}\n{show.bars(rows)}\n\n{show.verdict(rows)}")
    if asked.json:
        figures = [asdict(row) | {"median": row.median, "met": row.met} for row in rows]
        whole = {"command": command, "machine": facts, "packages": packages(), "rows": figures}
        asked.json.write_text(json.dumps(whole | {"size": asked.size << 20, "runs": asked.runs}, indent=2) + "\n")
    if asked.readme:
        text = f"`{command} --readme`: {describe(facts)}; {said}. {warning}{show.verdict(rows).splitlines()[0]}"
        _write_readme(asked.readme, f"{textwrap.fill(' '.join(text.split()), 120)}\n\n{show.markdown(rows)}\n")
    return 0


def _command(asked: argparse.Namespace) -> str:
    """Return the command that measures the same: where its files lay is nobody's business."""
    words = ["ops/bench/run", *(["--large"] if asked.large else [])]
    given = {"--only": ",".join(asked.only), "--size": str(asked.size), "--runs": str(asked.runs)}
    usual = {"--only": ",".join(PARTS), "--size": str(_SIZE), "--runs": str(_RUNS)}
    return " ".join([*words, *(f"{name} {value}" for name, value in given.items() if value != usual[name])])


def _measure(asked: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=asked.dir) as work, tempfile.TemporaryDirectory(dir=asked.tmpfs) as tmpfs:
        start = time.monotonic()
        _say("a deployment, and a model")
        model = Model.write(Path(work) / "model.safetensors", asked.size << 20)
        with deployed(Path(work) / "deployment") as deployment:
            deployment.seal(model.path, _VERSION)
            setting = Setting(deployment, model, Path(work), Path(tmpfs), asked.runs, asked.large)
            for name in asked.only:
                _say(f"{name}, after {time.monotonic() - start:.0f} seconds")
                rows += PARTS[name](setting)
                if name == "open":
                    model.forget()  # no later part has a peer that needs it
    return rows


def _arguments(words: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser(
        prog="ops/bench/run",
        description="Measures Custody on this machine, every figure beside its peer or limit in the same run.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", type=_parts, default=list(PARTS), metavar="PARTS", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--size", type=_positive, default=_SIZE, metavar="MIB", help=f"of weights  [default: {_SIZE}]")
    parser.add_argument(
        "--runs", type=_positive, default=_RUNS, metavar="N", help=f"of each contender  [default: {_RUNS}]"
    )
    parser.add_argument("--large", action="store_true", help="open models of 4 and 16 GiB as well")
    parser.add_argument("--dir", type=Path, help="a folder on the disk to open from  [default: the system's own]")
    parser.add_argument(
        "--tmpfs",
        type=Path,
        default=Path("/dev/shm"),  # noqa: S108 - where it is
        help="a folder in memory to seal to  [default: /dev/shm]",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here as well")
    parser.add_argument(
        "--readme", type=Path, nargs="?", const=_README, metavar="FILE", help="put the table into README.md as well"
    )
    return parser.parse_args(words)


def _parts(text: str) -> list[str]:
    chosen = text.split(",")
    for name in chosen:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PARTS)}")
    return [name for name in PARTS if name in chosen]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _write_readme(path: Path, text: str) -> None:
    whole = path.read_text()
    before, begin, rest = whole.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise FormatError(f"{path}: the marks between which the table belongs are missing")
    path.write_text(f"{before}{begin}{text}{end}{after}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["log"]:
        audit = sys.argv[2:3] == ["audit"]
        given = sys.argv[3:] if audit else sys.argv[2:]
        sys.argv = ["ops/bench/run log audit" if audit else "ops/bench/run log", *given]
        runpy.run_module("ops.bench.log_audit" if audit else "ops.bench.log", run_name="__main__")
    else:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers and files of gigabytes go at any end
        sys.exit(main(sys.argv[1:]))
