"""A history in which everything happens that people ask about: made once, read by many tests."""

from functools import cache
from pathlib import Path

from custody.values import U64
from tests.doubles.world import HOUR, World
from tests.unit.audit.published import Published

__all__ = ["BATCH", "SERVE", "busy", "published", "written"]

SERVE = "spiffe://example.org/job/serve"
BATCH = "spiffe://example.org/job/batch"


def busy(seed: bytes = b"busy") -> World:
    """Two versions, five requests: read and returned; denied; revoked in mid-session; open; waiting."""
    world = World(seed)
    _read_and_returned(world)
    _denied_then_revoked(world)
    _running(world)
    return world


def _read_and_returned(world: World) -> None:
    world.append("system", reason="broker-start", actor=world.party("broker-1"))
    world.seal("demo/tiny@1")
    world.tick(60)
    world.seal("demo/large@2")
    world.tick(300)
    returned = world.file("demo/tiny@1")
    world.tick(40)
    returned.decide("alice")
    world.tick(500)
    returned.decide("bob")
    returned.grant()
    returned.open()
    job = world.job()
    session = returned.begin(job, bytes=U64(5000))
    world.tick(600)
    returned.end(session, (0, 700), (1, 3000))
    returned.log_stop(returned.stop("return", job), job)
    returned.close("returned")
    world.tick(HOUR)


def _denied_then_revoked(world: World) -> None:
    denied = world.file("demo/large@2", beneficiary=BATCH)
    world.tick(2)
    denied.decide("alice", "deny")
    world.tick(90)
    denied.decide("bob", "deny")
    denied.close("denied")
    world.tick(HOUR)
    revoked = world.file("demo/large@2", beneficiary=BATCH)
    world.tick(3)
    revoked.decide("carol")
    world.tick(200)
    revoked.decide("bob")
    revoked.grant()
    revoked.send("carol")
    revoked.send("bob")
    revoked.begin_opening()
    revoked.end_opening()
    batch = world.job(BATCH)
    session = revoked.begin(batch, bytes=U64(9000))
    world.tick(30)
    revoked.log_stop(revoked.stop("revoke", "alice"), "alice")
    revoked.end(session, (1, 4000), outcome="aborted", reason="revoked")
    revoked.close("revoked")
    world.tick(HOUR)


def _running(world: World) -> None:
    running = world.opened("demo/tiny@1")
    first = running.begin(bytes=U64(6000))
    world.tick(120)
    running.end(first, (0, 700), (1, 5000))
    running.begin(bytes=U64(2000))
    world.tick(60)
    world.append("system", reason="refused-strangers", count=U64(12))
    world.log_hello(world.hello("carol"), "carol")
    world.file("demo/large@2", beneficiary=BATCH)


@cache
def published() -> Published:
    """The history, published entry by entry. Not to be changed."""
    return Published.each(busy())


def written(log: Published, directory: Path) -> Path:
    """Write a log into a directory ``log``, and beside it a home that pins its genesis; return the directory."""
    for name, data in log.files.items():
        path = directory / "log" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    home = directory / "home"
    home.mkdir(mode=0o700)
    world = log.world
    (home / "custody.toml").write_text(f'deployment = "{world.deployment}"\ngenesis = "{world.genesis.digest}"\n')
    return directory
