"""The deployment of the demo and its people: three custodians, one who seals and asks, one who owns the job, the job.

Everybody has a home of their own, as on a laptop of their own; they share the network and the store, nothing else.
"""

from pathlib import Path
from typing import Final

from custody.adapters import small_files
from custody.app.demo.stage import PASSPHRASE, Stage

__all__ = ["CUSTODIANS", "DEPLOYMENT", "JOB", "VERSION", "ceremony", "issue", "profiles", "write_job"]

DEPLOYMENT: Final = "custody.example.org/demo"
_DOMAIN: Final = "custody.example.org"
JOB: Final = f"spiffe://{_DOMAIN}/job/serving"
VERSION: Final = "demo/minilm@1"
CUSTODIANS: Final = ("alice", "bob", "carol")
_PEOPLE: Final = (*CUSTODIANS, "dave", "erin")
_SERVER_NAME: Final = "localhost"

_ROLES: Final = """
[[roster]]
name = "governance"
guards = []
release = "with-decision"
cool_off = "0s"
[[roster.group]]
name = "custodians"
threshold = 2
members = ["alice", "bob", "carol"]

[[roster]]
name = "custodians"
guards = ["*"]
release = "with-decision"
cool_off = "0s"
[[roster.group]]
name = "custodians"
threshold = 2
members = ["alice", "bob", "carol"]

[[sealer]]
sealer = "dave"
names = ["demo/*"]
"""


def ceremony(stage: Stage) -> None:
    """Everybody makes a key; the genesis trust root is written, signed by all, and pinned by all."""
    stage.title("Five people make keys, each at home; the private half never leaves it")
    blocks = []
    for person in _PEOPLE:
        home = stage.home(person)
        small_files.make_directory(home, 0o700)
        small_files.create(home / PASSPHRASE, f"a passphrase of {person}, for the demo\n".encode(), 0o600)
        stage.run(
            person,
            *("custodian", "keygen", "--person", person, "--out", str(home / f"{person}.key")),
            passphrase=True,
            show=person == _PEOPLE[0],
        )
        public = stage.run(person, "custodian", "export", str(home / f"{person}.key"), show=False)
        small_files.create(stage.directory / f"keys/{person}.json", public.encode())
        blocks.append(f'\n[[person]]\nid = "{person}"\nname = "{person.title()}"\nkeys = ["keys/{person}.json"]\n')
    path = stage.directory / "ceremony.toml"
    owner = f'\n[[owner]]\nworkload = "spiffe://{_DOMAIN}/job/*"\npersons = ["erin"]\n'
    small_files.replace(path, "".join([path.read_text(), *blocks, _ROLES, owner]).encode())
    stage.title("They write the genesis trust root, sign it, and pin its digest")
    draft = stage.directory / "root-draft.json"
    stage.run(None, "root", "create", "--dir", str(stage.directory), "--out", str(draft), show=False)
    for person in _PEOPLE:
        key = str(stage.home(person) / f"{person}.key")
        stage.run(person, "root", "sign", str(draft), "--key", key, "--yes", passphrase=True, show=person == "alice")
    small_files.create(stage.directory / "keys/root.json", draft.read_bytes())
    draft.unlink()
    for person in (*_PEOPLE, "job", "auditor"):
        root = str(stage.directory / "keys/root.json")
        stage.run(person, "root", "verify", root, "--pin", "--yes", show=person == "auditor")


def issue(stage: Stage) -> None:
    """Certificates of an hour for the broker, the people and the job."""
    authority = str(stage.directory / "ca")
    broker = f"spiffe://{_DOMAIN}/broker/broker-1"
    out = str(stage.directory / "broker/tls")
    stage.run(None, "ca", "issue", broker, "--ca", authority, "--out", out, "--dns", _SERVER_NAME)
    for person in _PEOPLE:
        tls = str(stage.home(person) / "tls")
        identity = f"spiffe://{_DOMAIN}/person/{person}"
        stage.run(None, "ca", "issue", identity, "--ca", authority, "--out", tls, show=False)
    stage.run(None, "ca", "issue", JOB, "--ca", authority, "--out", str(stage.home("job") / "tls"), show=False)


def profiles(stage: Stage, address: str, store: str) -> None:
    """Write each home's settings: where the broker is, which key and certificate are its own. Dave, who seals, does not
    even know where the store is.
    """
    for who in (*_PEOPLE, "job"):
        path = stage.home(who) / "custody.toml"
        pins = [line for line in path.read_text().splitlines() if line.startswith(("deployment", "genesis"))]
        own = [f'person = "{who}"', f'key_file = "{who}.key"'] if who in _PEOPLE else []
        lines = [
            *pins,
            *own,
            *([f'store = "{store}"'] if who != "dave" else []),
            "[broker]",
            f'address = "{address}"',
            f'server_name = "{_SERVER_NAME}"',
            "[tls]",
            'certificate = "tls/tls.crt"',
            'key = "tls/tls.key"',
            'ca = "tls/ca.pem"',
        ]
        small_files.replace(path, ("\n".join(lines) + "\n").encode(), 0o600)


def write_job(path: Path) -> None:
    """Write the job's program: the library as the README shows it."""
    small_files.replace(path, _JOB.encode())


_JOB: Final = '''\
"""A job: reads one half of a file, waits to be told, reads on."""

import sys

from custody.client import Custody
from custody.errors import CustodyError

home, lease, name = sys.argv[1:]
try:
    with Custody.connect(home) as custody, custody.lease(lease).open() as session:
        half = session.size(name) // 2
        print(len(session.read(name, 0, half)), "bytes read", flush=True)
        sys.stdin.readline()
        print(len(session.read(name, half)), "bytes read", flush=True)
except CustodyError as error:
    print(f"refused: {error.message}", flush=True)
    sys.exit(error.exit_code)
'''
