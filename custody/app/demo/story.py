"""What happens in the demo, in the order in which it is told."""

import hashlib
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from custody.adapters import small_files
from custody.app.demo.cast import CUSTODIANS, DEPLOYMENT, JOB, VERSION, ceremony, issue, profiles, write_job
from custody.app.demo.places import Place
from custody.app.demo.ports import free_ports
from custody.app.demo.scripts import Server, down, up
from custody.app.demo.stage import Stage
from custody.errors import CustodyError, DeniedError, IntegrityError, UnavailableError

__all__ = ["tell"]

_WITNESS: Final = (
    *("witness", "serve", "--key", "witness/witness.key", "--state", "witness/state", "--log", "keys/log.vkey"),
)
_BROKER: Final = ("broker", "serve", "--config", "broker/broker.toml")


def tell(stage: Stage, model: Path, place: Place, monotonic: Callable[[], float]) -> None:
    """Tell the whole story. Raises ``CustodyError`` when anything does not happen as it should."""
    begin = monotonic()
    stage.title(f"A new deployment, {DEPLOYMENT}, in {stage.directory}")
    stage.run("operator", "init", str(stage.directory), "--deployment", DEPLOYMENT)
    ceremony(stage)
    stage.title("A witness and a broker start; they speak mTLS with hour-long certificates")
    issue(stage)
    address, witness = _servers(stage, place)
    profiles(stage, address, place.url)
    request, lease = _agree(stage, model)
    _fetch(stage, model, request)
    _tamper(stage, place, request)
    _blind(stage, request, witness)
    _revoke(stage, lease, model)
    _audit(stage)
    for name in ("broker", "witness", "s3"):
        stage.stop(name)
    _leave(stage, place, witness)
    stage.title(f"Done in {monotonic() - begin:.0f} seconds")
    _next(stage, place)


def _servers(stage: Stage, place: Place) -> tuple[str, str]:
    """Start them. Returns the addresses of broker and witness; they keep them whenever they start again."""
    place.prepare(stage)
    address, watched = (f"127.0.0.1:{port}" for port in free_ports(2, random.SystemRandom()))
    witness = stage.serve("witness", *_WITNESS, "--listen", watched)
    stage.run(
        None,
        *("broker", "configure", "--dir", str(stage.directory), "--address", address),
        *("--witness", f"witness-1={witness}"),
        show=False,
    )
    config = stage.directory / "broker/broker.toml"
    # The demo shows a blocked log; nobody should wait long for it.
    text = config.read_text().replace("receipt-timeout = 10", "receipt-timeout = 4")
    text = text.replace('url = "file:../store"', f'url = "{place.url}"')
    small_files.replace(config, text.encode(), 0o600)
    return stage.serve("broker", *_BROKER, environment=place.environment), watched


def _agree(stage: Stage, model: Path) -> tuple[str, str]:
    """Seal, ask, and have two of three custodians approve. Returns request and lease."""
    stage.title("Dave seals the model: encrypted, its key split among three custodians, nobody has it")
    stage.say("  It goes into the store through the broker: Dave has no password of the store.")
    stage.run("dave", "seal", str(model), VERSION, passphrase=True)
    stage.title("He asks for it on behalf of the serving job")
    asked = stage.ask(
        "dave",
        *("request", VERSION, "--for", JOB, "--purpose", "serving", "--reason", "show what Custody does"),
        *("--duration", "1h", "--sessions", "6"),
        passphrase=True,
    )
    request = str(asked["request"]["digest"])
    out = str(stage.directory / "fetched")
    stage.title("Nobody has agreed: the job gets nothing")
    stage.run("job", "fetch", request[:12], "--out", out, expect=DeniedError.exit_code)
    stage.title("Alice looks at what she is asked, and approves; one of three is not enough")
    stage.run("alice", "pending")
    stage.run("alice", "approve", request[:12], "--yes", passphrase=True)
    stage.run("job", "fetch", request[:12], "--out", out, expect=DeniedError.exit_code)
    stage.title("Bob approves: a quorum")
    stage.run("bob", "approve", request[:12], "--yes", passphrase=True, show=False)
    leases = stage.ask("bob", "lease", "list")["leases"]
    return request, str(leases[0]["lease"])


def _fetch(stage: Stage, model: Path, request: str) -> None:
    stage.title("Now the job gets it, over gRPC, every byte checked, the log's receipt before the first")
    receipts = str(stage.directory / "receipts")
    out = stage.directory / "fetched"
    stage.run("job", "fetch", request[:12], "--out", str(out), "--receipts", receipts)
    for path in sorted(item for item in (model.rglob("*") if model.is_dir() else [model]) if item.is_file()):
        name = path.relative_to(model if model.is_dir() else model.parent)
        if _sha256(path) != _sha256(out / name):
            raise IntegrityError(f"{name} that was fetched is not the one that was sealed")
    biggest = _biggest(model)
    stage.say(f"  SHA-256 of {biggest.name}, sealed and fetched: {_sha256(biggest)}")


def _tamper(stage: Stage, place: Place, request: str) -> None:
    stage.title("Somebody with the store's password flips one bit: refused, and the segment is named")
    place.flip()
    out = str(stage.directory / "fetched-again")
    stage.run("job", "fetch", request[:12], "--out", out, "--patience", "5s", expect=IntegrityError.exit_code)
    place.flip()


def _blind(stage: Stage, request: str, witness: str) -> None:
    stage.title("The witness goes away: what nobody can witness is not released")
    stage.stop("witness")
    out = str(stage.directory / "fetched-unseen")
    stage.run("job", "fetch", request[:12], "--out", out, "--patience", "5s", expect=UnavailableError.exit_code)
    stage.serve("witness", *_WITNESS, "--listen", witness)


def _revoke(stage: Stage, lease: str, model: Path) -> None:
    stage.title("A job reads, Carol revokes its lease, and the job is cut off in the middle")
    script = stage.directory / "job.py"
    write_job(script)
    biggest = _biggest(model)
    name = str(biggest.relative_to(model)) if model.is_dir() else biggest.name
    job = stage.job(script, str(stage.home("job")), lease, name)
    if job.stdin is None or job.stdout is None:
        raise AssertionError
    first = job.stdout.readline().strip()
    stage.say(f"    {first}")
    stage.run("carol", "lease", "revoke", lease[:12], "--reason", "enough shown", passphrase=True)
    job.stdin.write("\n")
    job.stdin.flush()
    second = job.stdout.readline().strip()
    stage.say(f"    {second}")
    code = job.wait(60)
    if code != DeniedError.exit_code or not first.endswith("read"):
        said = job.stderr.read() if job.stderr else ""
        raise CustodyError(f"the job should have been cut off; it said {second!r}, exit code {code} {said}")


def _audit(stage: Stage) -> None:
    stage.title("An auditor who trusts nobody verifies the log from its files alone")
    log = str(stage.directory / "log")
    stage.run("auditor", "log", "verify", log)
    stage.run("auditor", "log", "show", "--log", log, "--root", str(stage.directory / "keys"), "--last", "12")


def _leave(stage: Stage, place: Place, witness: str) -> None:
    """Leave what starts and stops the servers again."""
    custody = (sys.executable, "-m", "custody.cli")
    servers = [
        Server("witness", (*custody, *_WITNESS, "--listen", witness)),
        Server("broker", (*custody, *_BROKER), place.environment),
    ]
    if place.command:
        servers.insert(0, Server("s3", place.command, port=place.port, abrupt=True))
    for name, text in (("up", up(servers)), ("down", down(reversed(servers)))):
        small_files.replace(stage.directory / name, text.encode(), 0o755)


def _next(stage: Stage, place: Place) -> None:
    homes = stage.directory / "homes"
    for line in (
        "What you can try next (the certificates last an hour):",
        f'  export PATH="{Path(sys.executable).parent}:$PATH"',
        f"  {stage.directory}/up",
        *(f"  export {name}={value}    # for break glass only" for name, value in place.environment.items()),
        f"  custody --home {homes}/dave versions",
        f'  custody --home {homes}/dave request {VERSION} --for {JOB} --purpose serving --reason "my turn" \\',
        f"      --passphrase-fd 3 3<{homes}/dave/passphrase",
        f"  custody --home {homes}/alice pending",
        f"  custody --home {homes}/auditor log verify {stage.directory}/log",
        f"  {stage.directory}/down",
        f"Custodians of this demo: {', '.join(CUSTODIANS)}. Their passphrases lie in their homes, as no real one does.",
    ):
        stage.say(line)


def _biggest(model: Path) -> Path:
    files = [path for path in model.rglob("*") if path.is_file()] if model.is_dir() else [model]
    return max(files, key=lambda path: path.stat().st_size)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
