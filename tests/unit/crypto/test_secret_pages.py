"""Small secrets share locked pages, and never see each other."""

import ctypes
import gc
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from custody.crypto.secret import SecretBytes


def locked() -> int:
    """KiB that this process has locked."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmLck:")]
    return int(line.split()[1])


def page_of(secret: SecretBytes) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(secret.view)) // mmap.PAGESIZE


def test_the_keys_of_thousands_of_files_take_few_pages() -> None:
    before = locked()
    keys = [SecretBytes.take(bytearray(i.to_bytes(32, "big"))) for i in range(1, 6401)]
    assert locked() - before <= 6400 * 64 // 1024 + 4
    assert [int.from_bytes(key.view, "big") for key in keys] == list(range(1, 6401))
    for key in keys[::2]:
        key.close()
    assert [int.from_bytes(key.view, "big") for key in keys[1::2]] == list(range(2, 6401, 2))
    for key in keys:
        key.close()
    after = locked()
    for _ in range(6400):
        SecretBytes(64).close()
    assert locked() == after


def test_one_that_is_lent_again_is_zeros_whatever_was_there() -> None:
    for size in (1, 32, 64, 65, 5000):
        for _ in range(200):
            with SecretBytes(size) as made:
                assert bytes(made.view) == bytes(size)
                made.view[:] = b"s" * size


def test_what_is_written_into_a_slice_after_the_end_is_not_in_the_next_secret() -> None:
    for _ in range(100):
        made = SecretBytes(32)
        late = made.view[:]
        made.close()
        late[:] = b"late" * 8
        del late
    more = [SecretBytes(32) for _ in range(100)]
    assert {bytes(one.view) for one in more} == {bytes(32)}


def test_a_slice_that_somebody_kept_never_shows_the_next_secret() -> None:
    kept = []
    for i in range(300):
        made = SecretBytes.take(bytearray(b"first secret, thirty-two bytes!!"))
        if i % 3:
            kept.append(made.view[:])
        made.close()
    others = [SecretBytes.take(bytearray(b"another" * 4)) for _ in range(1000)]
    assert {bytes(slice_) for slice_ in kept} == {bytes(32)}
    del kept
    for other in others:
        assert bytes(other.view) == b"another" * 4
        other.close()
    gc.collect()
    before = locked()
    more = [SecretBytes(32) for _ in range(1000)]  # the places of those slices are used again
    assert locked() == before
    assert {bytes(one.view) for one in more} == {bytes(32)}


def test_a_child_uses_no_page_of_its_parent() -> None:
    """It would find it unlocked."""
    made = [SecretBytes(32) for _ in range(3)]
    made.pop().close()
    parents = {page_of(one) for one in made}
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for one in made:
                one.close()
            fresh = [SecretBytes(32) for _ in range(200)]
            code = 2 if locked() < len(fresh) * 64 // 1024 or parents & set(map(page_of, fresh)) else 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_threads_never_get_the_same_place() -> None:
    wrong = []

    def work(mark: int) -> None:
        for _ in range(2000):
            with SecretBytes(32) as made:
                if bytes(made.view) != bytes(32):
                    wrong.append("not zeros")
                made.view[:] = bytes([mark]) * 32
                if bytes(made.view) != bytes([mark]) * 32:
                    wrong.append("shared")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(1, 5)))
    assert wrong == []
