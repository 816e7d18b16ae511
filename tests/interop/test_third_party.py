"""A log of ours, verified by software that others wrote and nobody here touched: golang.org/x/mod/sumdb.

Debian has it: ``golang-go golang-golang-x-mod-dev``. Elsewhere set ``CUSTODY_GOPATH`` to a GOPATH that holds it.
"""

import base64
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from custody.publishing.publisher import Publisher
from custody.tlog.proof import Proof
from tests.doubles.tlog import witness_signer
from tests.unit.publishing.world import World, entry, two_of_three

GOPATH = Path(os.environ.get("CUSTODY_GOPATH", "/usr/share/gocode"))
SIZES = (1, 2, 255, 256, 257, 700)  # of the checkpoints

pytestmark = pytest.mark.skipif(
    shutil.which("go") is None or not (GOPATH / "src/golang.org/x/mod/sumdb/tlog").is_dir(),
    reason="needs Go and golang.org/x/mod (Debian: golang-go golang-golang-x-mod-dev)",
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The verifier, built from their source and our thirty lines around it."""
    target = tmp_path_factory.mktemp("go")
    environment = {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOCACHE": str(target / "cache"), "GOFLAGS": ""}
    source = Path(__file__).with_name("verify.go")
    subprocess.run(["go", "build", "-o", target / "verify", source], env={**os.environ, **environment}, check=True)
    return target / "verify"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Publisher]]:
    """A published log with full and partial tiles, each checkpoint cosigned by both witnesses."""
    world = World(tmp_path_factory.mktemp("log"))
    del world.witnesses[2:]
    world.policy = two_of_three(world.signer, *(witness.signer for witness in world.witnesses))
    publisher = world.running()
    for old, size in zip((0, *SIZES), SIZES, strict=False):
        world.append(*[entry(number) for number in range(old, size)])
        world.publish(publisher)
    yield world, publisher
    world.close()


Verify = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def verify(program: Path, log: tuple[World, Publisher], tmp_path: Path) -> Verify:
    """Run the verifier over a copy of the log, in which ``change`` has changed something."""
    world, _ = log

    def run(*proofs: str, change: Callable[[Path], object] = lambda _: None, log_key: str = "") -> object:
        copy = shutil.copytree(world.path / "log", tmp_path / "copy")
        change(copy)
        keys = [log_key or world.signer.vkey.encode(), *(witness.signer.vkey.encode() for witness in world.witnesses)]
        said = "".join(f"{line}\n" for line in proofs)
        return subprocess.run([program, copy, *keys], input=said, capture_output=True, text=True, check=False)

    return run  # type: ignore[return-value]


def line(*fields: object) -> str:
    return " ".join(base64.b64encode(field).decode() if isinstance(field, bytes) else str(field) for field in fields)


def inclusion(publisher: Publisher, index: int) -> str:
    return line("inclusion", index, *Proof.parse(publisher.receipt(index).proof).hashes)


def consistency(publisher: Publisher, old: int) -> str:
    visible = publisher._visible
    assert visible is not None
    tree = publisher._batch._tree
    assert tree.size == visible.size
    from custody.tlog.merkle import root_hash

    root = root_hash(old, visible.history._reader.hash_at)
    return line("consistency", old, root, *visible.history.consistency_proof(old))


def test_notes_cosignatures_tiles_records_and_our_proofs(verify: Verify, log: tuple[World, Publisher]) -> None:
    _, publisher = log
    proofs = [inclusion(publisher, index) for index in (0, 1, 254, 255, 256, 511, 512, 699)]
    proofs += [consistency(publisher, old) for old in (*SIZES, 300)]
    done = verify(*proofs)
    assert done.stderr == ""
    assert done.stdout == f"records 700, checkpoints {1 + len(SIZES)}, proofs {len(proofs)}\n"


def _flip(name: str) -> Callable[[Path], None]:
    def change(log: Path) -> None:
        data = bytearray((log / name).read_bytes())
        data[len(data) // 2] ^= 1
        (log / name).write_bytes(data)

    return change


@pytest.mark.parametrize(
    "name", ["checkpoint", "checkpoints/256", "tile/0/000", "tile/1/000.p/2", "tile/entries/001", "tile/0/002.p/188"]
)
def test_a_flipped_bit_anywhere_is_refused(verify: Verify, name: str) -> None:
    assert verify(change=_flip(name)).returncode == 1


def test_a_proof_of_another_entry_is_refused(verify: Verify, log: tuple[World, Publisher]) -> None:
    _, publisher = log
    assert verify(inclusion(publisher, 5).replace("inclusion 5 ", "inclusion 6 ")).returncode == 1


def test_a_cosigner_s_key_is_no_log_s(verify: Verify) -> None:
    done = verify(log_key=witness_signer(3).vkey.encode())
    assert done.returncode == 1
    assert "unknown verifier algorithm" in done.stderr
