"""After a lease closes, no key of it is in the readable memory of any of our processes (design section 8).

The scanner is another process. Each run first finds the keys while the lease is open: a scanner that finds nothing
then would prove nothing later. The release-key seed is known to the broker alone; it is recognised in the broker's own
memory, since its public key is logged.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from custody.crypto import hpke, schedule
from custody.crypto.rebuild import Target, rebuild
from custody.crypto.secret import SecretBytes
from custody.crypto.sharing import Group, Share, recover
from custody.documents.release import ReleaseKey
from custody.values import U64
from custody.wire.messages import RequestReply
from tests.doubles import scanner
from tests.doubles.site import DEPLOYMENT, Site, children, write_model

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="reading another process's memory takes CAP_SYS_PTRACE")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("memory") / "site", cold=True) as running:
        yield running


def scan(pids: list[int], needles: dict[str, bytes]) -> set[str]:
    """Names of needles found in any of the processes."""
    names = list(needles)
    output = subprocess.run(
        [sys.executable, scanner.__file__, *map(str, pids)],
        input="\n".join(needles[name].hex() for name in names),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {names[int(line.split()[1])] for line in output.splitlines()}


def halves(secrets: dict[str, bytes]) -> dict[str, bytes]:
    """Both halves of each secret: where it lies whole, they lie too."""
    found: dict[str, bytes] = {}
    for name, secret in secrets.items():
        middle = len(secret) // 2
        found |= {f"{name}, first half": secret[:middle], f"{name}, second half": secret[middle:]}
    return found


class Version:
    """A sealed version and, since the test holds all custodians' keys, every secret of it."""

    def __init__(self, site: Site, folder: Path, name: str) -> None:
        self.source = write_model(folder / name.replace("/", "-").replace("@", "-"), {"weights.bin": 3 << 20})
        self.sealed = site.seal(self.source, name)
        site.register(self.sealed)
        content, sharing = self.sealed.content, self.sealed.sharing
        shares = []
        self.secrets: dict[str, bytes] = {}
        for slot, holder in sharing.slots().items():
            wrap = next(item for item in self.sealed.manifest.wraps if item.slot == slot)
            unlocked = site.keys[holder.person]
            y = SecretBytes(32)
            digest = bytes.fromhex(self.sealed.manifest.sharing.digest)
            hpke.open_into(
                unlocked.xwing_seed,
                hpke.wrap_info(digest, slot.group, slot.index, unlocked.key_id),
                wrap.wrapped,
                y,
            )
            shares.append(Share(slot.group, slot.index, y))
            self.secrets[f"y of {holder.person}"] = bytes(y.view)
        groups = tuple(Group(group.threshold, len(group.slots)) for group in sharing.groups)
        commitments = {
            (slot.group, slot.index): bytes.fromhex(holder.commitment) for slot, holder in sharing.slots().items()
        }
        target = Target(
            DEPLOYMENT,
            content.version,
            bytes.fromhex(content.vid),
            bytes.fromhex(content.key_commit),
            groups,
            commitments,
        )
        with recover(shares, groups) as s, rebuild(target, shares) as key, schedule.file_key(key, 0) as file_key:
            self.secrets |= {"s": bytes(s.view), "K": bytes(key.view), "file key": bytes(file_key.view)}
        for share in shares:
            share.value.close()


def test_custodians_keys_and_clear_shares_never_leave_their_process(site: Site, tmp_path: Path) -> None:
    """This process is the custodians': it holds their keys, and no other process ever does, nor any file."""
    version = Version(site, tmp_path, "memory/custodians@1")
    private = {
        f"{kind} of {person}": bytes(seed.view)
        for person, keys in site.keys.items()
        for kind, seed in (("signing key", keys.ed25519_seed), ("X-Wing key", keys.xwing_seed))
    }
    shares = {name: secret for name, secret in version.secrets.items() if name.startswith("y of")}
    secrets = private | shares
    assert scan([os.getpid()], private)  # the scanner does see them where they are
    _, lease = site.granted(version.sealed)
    assert not scan(all_processes(site), secrets)
    with site.calls("job") as job:
        opened = site.open(job, version.sealed, lease)
        assert not scan(all_processes(site), secrets)
        job.close_session(opened.session)
    for path in site.directory.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [name for name, secret in (private | shares).items() if secret in data], path


def release_seed(site: Site, view: RequestReply) -> bytes:
    """Find the seed in the broker: each small secret has a slot of 64 bytes, and this makes the logged public key."""
    envelope = [item for item in view.envelopes if item.payloadType == ReleaseKey.payload_type][-1]
    public = envelope.document(ReleaseKey).xwing[-32:]
    for start, data in scanner.pieces(site.processes["broker"].pid, overlap=4096):
        for offset in range(-start % 64, len(data) - 64, 64):
            candidate = data[offset : offset + 32]
            if any(data[offset + 32 : offset + 64]) or candidate.count(0) > 8:
                continue  # the rest of a secret's slot is zeros, and a seed is not
            private = X25519PrivateKey.from_private_bytes(hashlib.shake_256(candidate).digest(96)[64:])
            if private.public_key().public_bytes_raw() == public:
                return candidate
    raise AssertionError("the release-key seed is not in the broker's memory while it should be")


def all_processes(site: Site) -> list[int]:
    return [pid for process in site.processes.values() for pid in children(process.pid)]


@pytest.mark.parametrize("ending", ["returned by the job", "revoked mid-stream", "expired"])
def test_no_key_is_left_after_a_lease(site: Site, tmp_path: Path, ending: str) -> None:
    version = Version(site, tmp_path, f"memory/{ending.split(maxsplit=1)[0]}@1")
    soon = {} if ending != "expired" else {"open_before": site.time(20), "duration": U64(1)}
    with site.calls("dave") as calls:
        view = calls.submit_request(site.request(version.sealed, sessions=U64(1), bytes=U64(3 << 20), **soon))
    seed = release_seed(site, view)
    secrets = halves(version.secrets | {"release-key seed": seed})
    view = site.approve(view, "alice", "bob")
    lease = site.lease_of(view)
    with site.calls("job") as job:
        opened = site.open(job, version.sealed, lease)
        stream = job.read(opened.session, 0)
        next(stream)
        # The positive control: while the lease is open the broker holds the file key, and the scanner sees it.
        live = scan(all_processes(site), secrets)
        assert live == {"file key, first half", "file key, second half"}  # no share, and neither s, K nor the seed
        if ending == "returned by the job":
            for _ in stream:
                pass
            job.close_session(opened.session)
        elif ending == "revoked mid-stream":
            with site.calls("alice") as alice:
                alice.stop(site.stop_document("alice", "revoke", lease))
        deadline = time.monotonic() + 60
        with site.calls("dave") as dave:
            while dave.get_request(view.request).phase != "closed":
                assert time.monotonic() < deadline
                dave.get_request(view.request, seen=1000, wait_seconds=1)
    assert scan(all_processes(site), secrets) == set()


def test_no_key_is_left_when_opening_fails(site: Site, tmp_path: Path) -> None:
    """One share is bad: the seed must live on for a better one, but nothing that was opened may."""
    version = Version(site, tmp_path, "memory/failed@1")
    with site.calls("dave") as calls:
        view = calls.submit_request(site.request(version.sealed))
    view = site.approve(view, "alice")
    decision, _, wrapped = site.decide(view, "bob")
    spoiled = wrapped[:-1] + bytes([wrapped[-1] ^ 1])
    with site.calls("bob") as bob:
        bob.decide(decision)
        bob.release_share(site.release_of(view, "bob", spoiled), spoiled)
    with site.calls("job") as job, pytest.raises(Exception, match="bob"):
        site.open(job, version.sealed, site.lease_of(view))
    assert scan(all_processes(site), halves(version.secrets)) == set()


def test_nothing_is_left_in_the_opener_or_on_disk_after_sigterm(site: Site, tmp_path: Path) -> None:
    version = Version(site, tmp_path, "memory/sigterm@1")
    _, lease = site.granted(version.sealed)
    with site.calls("job") as job:
        site.open(job, version.sealed, lease)
        assert "file key" in scan(all_processes(site), version.secrets)
        before = children(site.processes["broker"].pid)
        site.stop("broker", signal.SIGTERM)
    assert not [pid for pid in before if Path(f"/proc/{pid}").exists()]
    needles = list(version.secrets.values())
    for path in site.directory.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [needle for needle in needles if needle in data or needle.hex().encode() in data], path
    site.start_broker()
