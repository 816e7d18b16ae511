"""The benchmark runs and says what it measured; how fast is not asked here."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from custody.app.demo.places import S3
from ops.bench import machine, show
from ops.bench.__main__ import main
from ops.bench.gets import Gets
from ops.bench.rows import Contender, Part, Row, Target, beside, measure, returned

ROOT = Path(__file__).parents[2]
FASTER = Target(2, 4)
BELOW = Target(300, 150, of="value", below=True)


def compared(theirs: float, **more: object) -> list[Row]:
    """Ours is 4.0; a peer's is given, with a target of at least twice as much."""
    peer = Contender("theirs", lambda: theirs, target=FASTER)
    return measure(Part("part", "GB/s", returned, [Contender("ours", lambda: 4.0), peer]), 2)


def test_a_small_benchmark_prints_its_table_and_writes_its_figures(tmp_path: Path) -> None:
    readme, figures = tmp_path / "README.md", tmp_path / "figures.json"
    marks = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("<!-- ")]
    readme.write_text("\n".join(["before", marks[0], "an old table", marks[1], "after", ""]))
    command = ["-m", "ops.bench", "--size", "4", "--runs", "1", "--dir", str(tmp_path), "--tmpfs", str(tmp_path)]
    command += ["--only", "stream,seal,part", "--json", str(figures), "--readme", str(readme)]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for words in ("page size 4096", "\n  cp  ", "custody, streamed", "one tensor, direct, ms", "must be (aim)"):
        assert words in done.stdout
    assert max(map(len, show_lines(done.stdout))) <= 100
    whole = json.loads(figures.read_text())
    assert next(row["name"] for row in whole["rows"] if row["values"] and not row["ours"]) == "cp"
    assert {row["part"].split(",")[0] for row in whole["rows"] if row["values"]} == {"seal", "one tensor", "stream"}
    text = readme.read_text()
    assert text.startswith(f"before\n{marks[0]}\n`ops/bench/run --only seal,part,stream --size 4 --runs 1 --readme`:")
    assert text.endswith(f"{marks[1]}\nafter\n")
    assert "| **custody, streamed** |" in text
    assert "an old table" not in text


def show_lines(said: str) -> list[str]:
    """The lines of table and bars: what stands above says what was measured."""
    return said.partition("\n\n")[2].splitlines()


def test_a_ratio_is_ours_to_theirs_and_a_target_is_judged_by_it() -> None:
    _, met = compared(2.0)
    _, missed = compared(2.5)
    assert (met.ratio, met.met, missed.ratio, missed.met) == (2.0, True, 1.6, False)
    assert ">= 2 (4) met" in show.table([met])
    assert "1 of 2 targets are met.\nNot met: part / theirs." in show.verdict([met, missed])


def test_a_target_of_our_own_figure_is_a_limit() -> None:
    part = Part("memory", "MiB", returned, [Contender("ours", lambda: 299.0, target=BELOW)])
    assert measure(part, 1)[0].met is True
    part = Part("memory", "MiB", returned, [Contender("ours", lambda: 300.0, target=BELOW)])
    assert measure(part, 1)[0].met is False


def test_a_peer_that_is_not_there_or_fails_stays_in_the_table_and_says_why() -> None:
    def absent() -> Contender:
        raise ImportError("No module named 'torch'", name="torch")

    def fails() -> object:
        raise RuntimeError("not today")

    contenders = [Contender("ours", lambda: 4.0), beside("a", absent, FASTER), Contender("b", fails, target=FASTER)]
    rows = measure(Part("part", "GB/s", returned, contenders), 2)
    assert [row.missing for row in rows] == [
        "",
        "not installed: torch",
        "failed: RuntimeError: not today",
    ]
    assert [row.met for row in rows[1:]] == [None, None]
    assert "0 of 2 targets are met, 2 are not measured (?)." in show.verdict(rows)


def test_ours_must_not_fail() -> None:
    def fails() -> object:
        raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"):
        measure(Part("part", "GB/s", returned, [Contender("ours", fails)]), 1)


def test_a_part_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "seal,speed"])
    assert ended.value.code == 2
    assert "'speed' is none of seal, open, part, stream" in capsys.readouterr().err


class _Refuses(BaseHTTPRequestHandler):
    """Answers with an error as long as what was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Refuse."""
        self.send_response(403)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(bytes(1000))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("get", [Gets.sockets, Gets.standard_library, Gets.sockets_and_steps])
def test_an_error_is_no_fast_get(tmp_path: Path, get: Callable[[Gets, memoryview], None]) -> None:
    with HTTPServer(("127.0.0.1", 0), _Refuses) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with pytest.raises(ConnectionError, match="the answer is 403 with 1000 bytes"):
                get(
                    Gets(S3(tmp_path), "key", 1000, "127.0.0.1", server.server_port, "/key"),
                    memoryview(bytearray(1000)),
                )
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("before", "others", "said"), [(0.1, 0.1, False), (0.9, 0.1, True), (0.1, 0.9, True)])
def test_a_machine_is_busy_that_was_so_before_or_after(*, before: float, others: float, said: bool) -> None:
    facts = {"load before": before, "load after": 9.0, "cores in use after": others}
    assert machine.busy(facts) is said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("flags\t\t: fpu aes avx avx2", "avx2 aes"),
        ("flags\t\t: avx512f vaes aes avx2 avx512fancy", "avx2 avx512f aes vaes"),
        ("Features\t: fp asimd aes sha2", "aes asimd sha2"),
        ("flags\t\t:", "unknown"),
        ("bugs\t\t: aes", "unknown"),
    ],
)
def test_the_instructions_that_make_the_difference_are_told(line: str, said: str) -> None:
    assert machine._instructions(["processor\t: 0", "vmx flags\t: vnmi", line, "flags\t\t: vaes of another"]) == (
        said if line.startswith(("flags", "Features")) else "vaes"
    )
