"""After close, no copy of a secret is left in the memory of the process that used it; while live, it is found.

A child reads secrets from a pipe, straight into place, uses them through the functions of this room, and stops; the
parent, which knows them, scans the child's readable memory for every half of each. The same scan with the secrets
still open is the positive control. Covered are the inputs and what the parent can derive by itself.
"""

import hashlib
import hmac
import os
import subprocess
import sys
from pathlib import Path

import pytest

from custody.crypto import schedule
from custody.crypto.floe import Params
from custody.crypto.secret import SecretBytes
from custody.crypto.sodium import L, random_into

ROUNDS = 3

CHILD = r"""
import gc, os, sys
from custody.crypto import digests, floe, hpke, keys, schedule, sharing
from custody.crypto.floe import Params
from custody.crypto.secret import SecretBytes

case, rounds, live = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "live"
take = lambda: SecretBytes.read_from(0, 32)

def use():
    if case == "schedule":
        s = take()
        k = schedule.version_key(s, bytes(32), "d", "m@1")
        schedule.key_commit(k)
        return [s, k, schedule.file_key(k, 0), schedule.digest_key(k, 0)]
    if case == "floe":
        key, plain = take(), memoryview(bytearray(1 << 16))
        stored = memoryview(bytearray((1 << 16) + 32))
        e = floe.Encryptor(key, b"", floe.Params(1 << 16), lambda n: bytes(n))
        d = floe.Decryptor(key, b"", floe.Params(1 << 16), e.header)
        e.encrypt_into(0, True, plain, stored)
        d.decrypt_into(0, True, stored, plain)
        return [key, e, d]
    if case == "digests":
        key = take()
        digests.segment_digest(key, 0, bytearray(1 << 20))
        return [key]
    if case == "sharing":
        given = [sharing.Share(0, 1, take()), sharing.Share(0, 2, take())]
        groups = [sharing.Group(2, 3)]
        dealt = sharing.all_shares(given, groups)
        commitments = {(g, i): sharing.share_commitment(bytes(32), g, i, y.view) for g, i, y in dealt}
        sharing.check_shares(bytes(32), given, groups, commitments)
        s = sharing.recover(given, groups)
        again = sharing.split(s, groups, lambda out: os.readv(9, [out]))
        return [s, *(y for _, _, y in given), *(y for _, _, y in dealt), *again[0]]
    if case == "hpke":
        seed, share, out = take(), take(), SecretBytes(32)
        hpke.open_into(seed, b"i", hpke.seal(hpke.public_key(seed), b"i", share.view), out)
        return [seed, share, out]
    seed = take()
    keys.sign(seed, b"m" + keys.public_from_seed(seed))
    return [seed]

for n in range(rounds):
    used = use()
    if not (live and n == rounds - 1):
        for item in used:
            item.close()
        del used
gc.collect()
print("ready", flush=True)
os.read(0, 1)
"""


def derived(case: str, given: list[bytes]) -> list[bytes]:
    """What else the child computes from its input."""
    if case == "schedule":
        with SecretBytes.take(bytearray(given[0])) as s, schedule.version_key(s, bytes(32), "d", "m@1") as key:
            file_key, digest_key = schedule.file_key(key, 0), schedule.digest_key(key, 0)
            return [bytes(key.view), bytes(file_key.view), bytes(digest_key.view)]
    if case == "floe":
        head = Params(1 << 16).encode() + bytes(32)
        message_key = hmac.digest(given[0], head + b"MESSAGE_KEY:" + b"\1", "sha384")
        return [message_key, hmac.digest(message_key, head + b"DEK:" + bytes(8) + b"\1", "sha384")[:32]]
    if case == "sharing":
        a, b = (int.from_bytes(y, "little") for y in given)
        return [(n % L).to_bytes(32, "little") for n in (2 * a - b, 2 * b - a)]
    if case == "hpke":
        return [hashlib.shake_256(given[0]).digest(96)]
    return []


def scan(pid: int, needles: list[bytes]) -> list[str]:
    """Where in a process's readable memory the needles are."""
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, mode, *rest = line.split()
            start, end = (int(part, 16) for part in span.split("-"))
            if "r" not in mode or rest[-1] in {"[vvar]", "[vsyscall]", "[vvar_vclock]"}:
                continue
            try:
                memory.seek(start)
                content = memory.read(end - start)
            except OSError:  # guard pages and device memory
                continue
            found += [f"{rest[-1]} {needles.index(needle)}" for needle in needles if needle in content]
    return found


@pytest.mark.parametrize("case", ["schedule", "floe", "digests", "sharing", "hpke", "keys"])
@pytest.mark.parametrize("state", ["live", "closed"])
def test_secrets_are_in_memory_while_live_and_nowhere_after_close(case: str, state: str) -> None:
    count = 2 if case in {"sharing", "hpke"} else 1
    needles: list[bytes] = []
    sent = b""
    for _ in range(ROUNDS):
        given = []
        for _ in range(count):
            with SecretBytes.random(32, random_into) as drawn:
                drawn.view[31] = 1  # below L, whatever it is used for
                given.append(bytes(drawn.view))
        sent += b"".join(given)
        for secret in [*given, *derived(case, given)]:
            needles += [secret[at : at + 16] for at in range(0, len(secret), 16)]

    read, write = os.pipe()
    os.write(write, bytes(64 * ROUNDS))  # coefficients of the case "sharing"
    with subprocess.Popen(
        [sys.executable, "-c", f"import os; os.dup2({read}, 9)\n{CHILD}", case, str(ROUNDS), state],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[read],
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(sent)
        child.stdin.flush()
        assert child.stdout.readline() == b"ready\n"
        try:
            found = scan(child.pid, needles)
        except PermissionError:
            pytest.skip("reading a child's memory is forbidden here (yama ptrace_scope)")
        finally:
            child.stdin.close()
    os.close(read)
    os.close(write)
    assert bool(found) == (state == "live"), found  # where, and which 16 bytes of which secret
