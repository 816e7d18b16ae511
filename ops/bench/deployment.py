"""A whole deployment to measure: the demo's own, with its people, its servers in processes of their own, and a job.

The commands that set it up run in this process: starting one for each would take longer than what is measured.
"""

import io
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from custody.adapters.home import Home
from custody.adapters.surroundings import Surroundings
from custody.app.connect import find_key, open_desk
from custody.app.demo.cast import DEPLOYMENT, ceremony, issue, profiles
from custody.app.demo.places import Directory, Place
from custody.app.demo.stage import PASSPHRASE, Stage
from custody.cli.registry import main_group
from custody.client import Custody, Lease, PendingRequest
from custody.crypto.secret import SecretBytes
from custody.custodian.acting import decide, look
from custody.custodian.keys import DeviceSigner
from custody.custodian.rewrap import rewrap_aside
from custody.custodian.rewrap_child import Job
from custody.custodian.signing import draft_decision
from custody.documents.request import Mode

__all__ = ["Deployment", "deployed"]

_ONLY_STREAMS: Final = 'unless {\n    context.mode == "stream"\n};'
_BOTH_MODES: Final = 'unless {\n    ["stream", "direct"].contains(context.mode)\n};'
_HELLOS: Final = "hellos-per-minute = 100000\nrequests-per-minute = 100000\n"
SESSIONS: Final = 10_000


class _Stage(Stage):
    """Runs commands in this process, and shows nothing."""

    def run(self, who: str | None, *words: str, expect: int = 0, show: bool = True, passphrase: bool = False) -> str:
        """Run a command; it raises what went wrong."""
        del expect, show
        home = ["--home", str(self.home(who))] if who else []
        out, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
        secret = os.open(self.home(who) / PASSPHRASE, os.O_RDONLY) if passphrase and who else -1
        try:
            given = ["--passphrase-fd", str(secret)] if secret >= 0 else []
            with redirect_stdout(out), redirect_stderr(errors):
                main_group.main(args=[*home, *words, *given], prog_name="custody", standalone_mode=False)
        finally:
            if secret >= 0:
                os.close(secret)
        out.seek(0)
        return out.read()


def _nobody(_text: str) -> None:
    """Show nothing."""


@dataclass
class Deployment:
    """Broker and witness of a deployment that permits direct mode, and those who use it. Neither runs at first."""

    directory: Path
    version: str = ""
    _stage: Stage = field(init=False)
    _witness: str = ""
    _leases: dict[tuple[str, Mode], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make its keys, its people and its trust root."""
        self._stage = _Stage(self.directory, say=_nobody, title=_nobody)
        self._stage.run("operator", "init", str(self.directory), "--deployment", DEPLOYMENT)
        policy = self.directory / "broker/policy/policy.cedar"
        policy.write_text(_replaced(policy.read_text(), _ONLY_STREAMS, _BOTH_MODES))
        ceremony(self._stage)
        issue(self._stage)

    def watch(self) -> None:
        """Start the witness."""
        key = ("--key", "witness/witness.key", "--state", "witness/state", "--log", "keys/log.vkey")
        self._witness = self._stage.serve("witness", "witness", "serve", *key, "--listen", "127.0.0.1:0")

    @property
    def broker(self) -> int:
        """The broker's process."""
        return self._stage.servers["broker"].pid

    @property
    def job_home(self) -> Path:
        """The home of the job."""
        return self._stage.home("job")

    @property
    def tls(self) -> Path:
        """The broker's certificate and key, and the CA: other servers may borrow them."""
        return self.directory / "broker/tls"

    def serve(self, place: Place, direct: str) -> None:
        """Start the broker over a store, instead of the one that ran; ``direct`` is how jobs reach the store."""
        self._stage.stop("broker")
        place.prepare(self._stage)
        config = self.directory / "broker/broker.toml"
        config.unlink(missing_ok=True)
        words = ("configure", "--dir", str(self.directory), "--address", "127.0.0.1:0")
        self._stage.run(None, "broker", *words, "--witness", f"witness-1={self._witness}")
        text = _replaced(config.read_text(), 'url = "file:../store"', f'url = "{place.url}"\ndirect = "{direct}"')
        config.write_text(_replaced(text, "[listen]\n", f"[listen]\n{_HELLOS}"))
        serve = ("broker", "serve", "--config", "broker/broker.toml")
        address = self._stage.serve("broker", *serve, environment=place.environment)
        profiles(self._stage, address, place.url)

    def seal(self, model: Path, version: str) -> None:
        """Seal a model through the broker; requests are for this one from now on."""
        self._stage.run("dave", "seal", str(model), version, passphrase=True)
        self.version = version

    def job(self) -> Custody:
        """Connect as the job."""
        return Custody.connect(self.job_home)

    def request(self, job: Custody, mode: Mode = "stream") -> PendingRequest:
        """Ask as the job, for itself."""
        return job.request(
            self.version, purpose="serving", reason="to measure", duration="2h", sessions=SESSIONS, mode=mode
        )

    def lease(self, job: Custody, mode: Mode = "stream") -> Lease:
        """Ask, and have it granted, the first time; it is long enough for all sessions that are opened here."""
        wanted = (self.version, mode)
        if wanted not in self._leases:
            request = self.request(job, mode)
            for person in ("alice", "bob"):
                self.approve(request.digest, person)
            self._leases[wanted] = request.wait().id
        return job.lease(self._leases[wanted])

    def approve(self, request: str, person: str) -> float:
        """Look, approve, and send the share; returns when the decision was sent, as ``time.perf_counter`` has it."""
        sent = []

        def rewrap(job: Job, seed: SecretBytes) -> tuple[bytes, ...]:
            wrapped = rewrap_aside(job, seed)
            sent.append(time.perf_counter())  # what is left to be done is signing: the share is the last that can fail
            return wrapped

        around = Surroundings.real()
        with self.unlocked(person) as device, open_desk(Home(self._stage.home(person)), around) as desk:
            shown = look(desk, desk.find(request), person=person, device=device.key_id, clock=around.clock)
            decision = draft_decision(shown, "approve", "", issued=shown.now)
            decide(desk, shown, decision, device, clock=around.clock, rewrap=rewrap)
        return sent[0]

    @contextmanager
    def unlocked(self, person: str) -> Iterator[DeviceSigner]:
        """Unlock somebody's key for the length of a block."""
        home = self._stage.home(person)
        key = find_key(Home(home), None)
        if key is None:
            raise AssertionError(home)
        secret = bytearray((home / PASSPHRASE).read_bytes().removesuffix(b"\n"))
        with DeviceSigner(key.file.unlock(secret)) as device:
            yield device

    def background(self, name: str, command: Sequence[str]) -> None:
        """Start a server that is none of ours."""
        self._stage.background(name, command)

    def stop(self) -> None:
        """End all servers."""
        for name in reversed(list(self._stage.servers)):
            self._stage.stop(name)


@contextmanager
def deployed(directory: Path) -> Iterator[Deployment]:
    """Have a deployment with a directory as its store for the length of a block."""
    deployment = Deployment(directory)
    try:
        deployment.watch()
        store = directory / "store"
        deployment.serve(Directory(store), str(store))
        yield deployment
    finally:
        deployment.stop()


def _replaced(text: str, old: str, new: str) -> str:
    if old not in text:
        raise AssertionError(old)
    return text.replace(old, new)
