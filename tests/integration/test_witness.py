"""A real witness in another process, asked over HTTP."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3

from custody.adapters.witness_http import HttpWitness, WitnessConflictError, WitnessRefusedError
from custody.errors import ConflictError, UnavailableError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import leaf_hash
from custody.tlog.note import NoteSigner, VKey, open_note
from custody.tlog.policy import LogKey, Policy, Witness
from custody.tlog.proof import verify_proof
from custody.tlog.witness_protocol import SIZE_CONTENT_TYPE
from custody.witness.serve import generate_key
from tests.doubles.tlog import ORIGIN, Log, log_signer

_LOG = Log(300)
_PROGRAM = """
import sys, time
from pathlib import Path
from custody.witness.serve import WitnessConfig, serve
folder, logs = Path(sys.argv[1]), tuple(sys.argv[2:])
config = WitnessConfig("127.0.0.1:0", folder / "state", folder / "key", logs, "/witness")
serve(config, lambda: int(time.time()), time.monotonic)
"""


class Process:
    """A witness that can be killed and started again on the same directory."""

    def __init__(self, folder: Path, rng: Callable[[int], bytes]) -> None:
        self.folder = folder
        (folder / "state").mkdir()
        secret, public = generate_key("w1.example/witness", rng)
        (folder / "key").write_text(secret)
        (folder / "key").chmod(0o600)
        self.vkey = VKey.parse(public.strip())
        self._clients: list[HttpWitness] = []
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(self.folder), log_signer().vkey.encode()],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("witness w1.example/witness listening on http://127.0.0.1:")
        self.url = line.split()[-1]

    def client(self) -> HttpWitness:
        self._clients.append(HttpWitness("w1", self.vkey, self.url, timeout=30))
        return self._clients[-1]

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def close(self) -> None:
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)


@pytest.fixture
def witness(tmp_path: Path, rng: Callable[[int], bytes]) -> Iterator[Process]:
    process = Process(tmp_path, rng)
    yield process
    process.close()


def _ask(client: HttpWitness, old: int, size: int, log: Log = _LOG) -> bytes:
    (line,) = client.add_checkpoint(old, log.consistency(old, size), log.checkpoint(size))
    return line


def _post(url: str, body: bytes) -> urllib3.BaseHTTPResponse:
    with urllib3.PoolManager(retries=False) as pool:
        return pool.request("POST", f"{url}/add-checkpoint", body=body)


def test_a_growing_log_is_cosigned_and_its_receipt_verifies(witness: Process) -> None:
    client = witness.client()
    old = 0
    for size in (1, 2, 255, 256, 257, 300, 300):
        line = _ask(client, old, size)
        old = size
    note = _LOG.checkpoint() + line
    policy = Policy((LogKey(log_signer().vkey),), (Witness("w1", witness.vkey),), (), "w1")
    checked = verify_proof(_LOG.receipt(123, note), leaf_hash(_LOG.entries[123]), policy.check)
    assert checked.checkpoint == _LOG.head()
    assert checked.cosigned["w1"] > 1_600_000_000
    stored = client.latest(ORIGIN)
    assert stored is not None
    assert policy.check(stored).checkpoint == _LOG.head()


def test_every_refusal_of_the_specification(witness: Process) -> None:
    client = witness.client()
    assert client.latest(ORIGIN) is None
    _ask(client, 0, 100)

    with pytest.raises(WitnessConflictError) as conflict:
        _ask(client, 50, 200)
    assert conflict.value.size == 100
    with pytest.raises(WitnessRefusedError, match="422"):
        _ask(client, 100, 200, Log(300, branch=60))
    with pytest.raises(WitnessRefusedError, match="422"):
        client.add_checkpoint(100, [], Log(100, branch=60).checkpoint())
    with pytest.raises(WitnessRefusedError, match="422"):
        client.add_checkpoint(100, [bytes(32)], _LOG.checkpoint(200))
    with pytest.raises(WitnessRefusedError, match="403"):
        _ask(client, 100, 200, Log(300, log_signer(key="stranger")))
    with pytest.raises(WitnessRefusedError, match="404"):
        _ask(client, 100, 200, Log(300, log_signer("unknown.example")))
    with pytest.raises(WitnessRefusedError, match="400"):
        client.add_checkpoint(100, [], _LOG.checkpoint(50))

    assert _ask(client, 100, 200)


def test_refusals_on_the_wire(witness: Process) -> None:
    _ask(witness.client(), 0, 100)
    conflict = _post(witness.url, _LOG.request(50).encode())
    assert (conflict.status, conflict.data) == (409, b"100\n")
    assert conflict.headers["Content-Type"] == SIZE_CONTENT_TYPE
    assert _post(witness.url, b"garbage").status == 400
    assert _post(witness.url, b"").status == 400
    assert _post(witness.url, bytes(17 * 1024)).status == 413
    root = witness.url.removesuffix("/witness")
    with urllib3.PoolManager(retries=False) as pool:
        assert pool.request("GET", f"{root}/health").data == b"ok\n"
        assert b'tree_size{origin="log.example/custody"} 100.0' in pool.request("GET", f"{root}/metrics").data
        assert pool.request("GET", f"{witness.url}/{'0' * 64}/checkpoint").status == 404
        assert pool.request("GET", f"{witness.url}/..%2Fkey/checkpoint").status == 404
        name = hashlib.sha256(ORIGIN.encode()).hexdigest()
        assert pool.request("GET", f"{witness.url}/{name}/checkpoint").status == 200


def test_kill_nine_and_restart_keeps_what_was_cosigned(witness: Process) -> None:
    line = _ask(witness.client(), 0, 100)
    assert witness.stop(signal.SIGKILL) == -signal.SIGKILL
    witness.start()
    client = witness.client()
    stored = client.latest(ORIGIN)
    assert stored is not None
    assert stored.endswith(line)
    with pytest.raises(WitnessConflictError) as conflict:
        _ask(client, 0, 150, Log(300, branch=10))
    assert conflict.value.size == 100
    with pytest.raises(WitnessRefusedError, match="claims size 100"):
        _ask(client, 0, 50)
    assert _ask(client, 100, 200)


def test_killed_amid_requests_it_has_stored_whatever_it_answered(witness: Process) -> None:
    answered: list[int] = [0]
    begun = threading.Event()

    def ask() -> None:
        client = witness.client()
        for size in range(1, 301):
            try:
                _ask(client, size - 1, size)
            except UnavailableError:
                return
            answered.append(size)
            begun.set()

    thread = threading.Thread(target=ask)
    thread.start()
    assert begun.wait(60)
    witness.stop(signal.SIGKILL)
    thread.join(60)
    assert not thread.is_alive()
    witness.start()
    stored = witness.client().latest(ORIGIN)
    assert stored is not None
    opened = open_note(stored, [witness.vkey])
    assert Checkpoint.parse(opened.text).size in (answered[-1], answered[-1] + 1)


def test_of_two_concurrent_updates_from_one_size_one_wins_and_nothing_rolls_back(witness: Process) -> None:
    _ask(witness.client(), 0, 100)
    outcomes: list[int | None] = []
    barrier = threading.Barrier(8)

    def ask(size: int) -> None:
        client = witness.client()
        barrier.wait(30)
        try:
            _ask(client, 100, size)
            outcomes.append(size)
        except WitnessRefusedError:  # it is already beyond the size that we submitted
            outcomes.append(None)
        except ConflictError:
            outcomes.append(None)

    threads = [threading.Thread(target=ask, args=(size,)) for size in range(200, 208)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    winners = [size for size in outcomes if size is not None]
    assert len(outcomes) == 8
    assert len(winners) == 1
    stored = witness.client().latest(ORIGIN)
    assert stored is not None
    assert Checkpoint.parse(open_note(stored, [witness.vkey]).text).size == winners[0]


def test_a_second_witness_on_the_same_directory_does_not_start(witness: Process) -> None:
    second = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(witness.folder), log_signer().vkey.encode()],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        timeout=60,
        check=False,
    )
    assert second.returncode != 0
    assert b"another process uses it" in second.stderr
    assert b"PRIVATE+KEY" not in second.stderr + second.stdout


def test_sigterm_ends_it_cleanly(witness: Process) -> None:
    _ask(witness.client(), 0, 1)
    assert witness.stop(signal.SIGTERM) == 0
    with pytest.raises(UnavailableError):
        _ask(witness.client(), 1, 2)


def test_another_key_on_old_state_signs_nothing(witness: Process, rng: Callable[[int], bytes]) -> None:
    _ask(witness.client(), 0, 100)
    witness.stop(signal.SIGTERM)
    (witness.folder / "key").write_text(generate_key("w1.example/witness", rng)[0])
    witness.start()
    witness.vkey = NoteSigner.parse((witness.folder / "key").read_text().strip()).vkey
    with pytest.raises(UnavailableError, match="500"):
        _ask(witness.client(), 0, 100)
