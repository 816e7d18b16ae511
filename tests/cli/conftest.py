"""A deployment made with the commands themselves, once; each test gets a copy of it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.doubles.command import PASSPHRASE, Custody

PERSONS = ("alice", "bob", "carol")
DEPLOYMENT = "custody.example.org/test"
VERSION = "demo/tiny@1"
FILES = {"config.json": b'{"a":1}', "weights/model.bin": bytes(range(256)) * 700, ".hidden": b"h", "empty": b""}

CEREMONY = """
[[roster]]
name = "governance"
guards = ["*"]
[[roster.group]]
name = "founders"
threshold = 2
members = ["alice", "bob", "carol"]
[[sealer]]
sealer = "alice"
names = ["demo/*"]
[[owner]]
workload = "spiffe://custody.example.org/job/*"
persons = ["carol"]
"""


@dataclass(frozen=True)
class Deployment:
    """Directory with ``prod`` (the deployment), ``<person>.key``, ``store`` with one version, ``model``, its files."""

    directory: Path

    @property
    def custody(self) -> Custody:
        return Custody(self.directory, self.directory / "home")

    def seal(self, *more: object, version: str = "demo/other@1", code: int = 0, path: str = "model") -> object:
        words = ["seal", path, version, "--store", "file:store", "--key", "alice.key", *more]
        return self.custody(*words, passphrases=[PASSPHRASE], code=code)

    @property
    def manifest(self) -> Path:
        (path,) = (self.directory / "store").glob("versions/*/manifest.json")
        return path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys, a genesis root signed and pinned, and a sealed version."""
    directory = tmp_path_factory.mktemp("made")
    custody = Custody(directory, directory / "home")
    custody("init", "prod", "--deployment", DEPLOYMENT)
    ceremony = (directory / "prod/ceremony.toml").read_text()
    for person in PERSONS:
        custody("custodian", "keygen", "--person", person, "--out", f"{person}.key", passphrases=[PASSPHRASE])
        exported = custody("custodian", "export", f"{person}.key")
        (directory / f"prod/{person}.json").write_text(exported.out)
        ceremony += f'[[person]]\nid = "{person}"\nname = "{person.title()}"\nkeys = ["{person}.json"]\n'
    (directory / "prod/ceremony.toml").write_text(ceremony + CEREMONY)
    custody("root", "create", "--dir", "prod", "--out", "draft.json")
    for person in PERSONS:
        custody("root", "sign", "draft.json", "--key", f"{person}.key", "--yes", passphrases=[PASSPHRASE])
    (directory / "draft.json").rename(directory / "prod/keys/root.json")
    custody("root", "verify", "prod/keys", "--pin", "--yes")
    for name, data in FILES.items():
        path = directory / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (directory / "store").mkdir()
    words = ["seal", "model", VERSION, "--store", "file:store", "--key", "alice.key", "--segment-size", "4KiB"]
    custody(*words, passphrases=[PASSPHRASE])
    return directory


@pytest.fixture
def deployment(made: Path, tmp_path: Path) -> Deployment:
    """A copy that the test may break."""
    directory = tmp_path / "site"
    shutil.copytree(made, directory)
    return Deployment(directory)
