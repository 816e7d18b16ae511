import copy
import ctypes
import gc
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from custody.crypto.secret import RandomInto, SecretBytes
from custody.errors import FormatError

CANARY = b"correct horse battery staple 32!"


def secret() -> SecretBytes:
    return SecretBytes.take(bytearray(CANARY))


def flags_of(made: SecretBytes) -> set[str]:
    """The kernel's own account of the pages behind a secret (proc_pid_smaps(5), VmFlags)."""
    address = ctypes.addressof(ctypes.c_char.from_buffer(made.view))
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()[0]
        if "-" in head and not head.endswith(":"):
            start, end = (int(part, 16) for part in head.split("-"))
            inside = start <= address < end
        elif inside and head == "VmFlags:":
            return set(line.split()[1:])
    raise AssertionError("the mapping is not there")


def test_content_is_writable_and_has_the_asked_size() -> None:
    with SecretBytes(5) as made:
        made.view[:] = b"abcde"
        assert (len(made), bytes(made.view)) == (5, b"abcde")


def test_pages_are_left_out_of_dumps_and_forks_and_locked_where_allowed() -> None:
    made = secret()
    flags = flags_of(made)
    assert {"dd", "wf"} <= flags
    assert made.locked == ("lo" in flags)


def test_taking_wipes_the_source() -> None:
    source = bytearray(CANARY)
    made = SecretBytes.take(source)
    assert bytes(made.view) == CANARY
    assert source == bytes(32)


def test_taking_bytes_wipes_the_object() -> None:
    source = bytes(bytearray(CANARY))
    made = SecretBytes.take_bytes(source)
    assert bytes(made.view) == CANARY
    assert source == bytes(32)


def test_random_bytes_come_from_the_given_source(random_into: RandomInto) -> None:
    first, second = SecretBytes.random(32, random_into), SecretBytes.random(32, random_into)
    assert bytes(first.view) not in {bytes(32), bytes(second.view)}


def test_reading_from_a_descriptor_takes_exactly_the_size() -> None:
    read, write = os.pipe()
    os.write(write, CANARY + b"more")
    made = SecretBytes.read_from(read, 32)
    assert bytes(made.view) == CANARY
    assert os.read(read, 9) == b"more"


def test_a_descriptor_that_ends_early_is_refused() -> None:
    read, write = os.pipe()
    os.write(write, b"short")
    os.close(write)
    with pytest.raises(FormatError, match="ends after 5"):
        SecretBytes.read_from(read, 32)


def test_use_after_close_is_refused_and_close_twice_is_not() -> None:
    made = secret()
    made.close()
    made.close()
    assert made.closed
    with pytest.raises(ValueError, match="wiped"):
        made.view  # noqa: B018


def test_close_wipes_even_what_a_slice_still_shows() -> None:
    made = secret()
    slice_ = made.view[4:20]
    assert bytes(slice_) == CANARY[4:20]
    made.close()
    assert bytes(slice_) == bytes(16)


def test_leaving_the_block_by_an_exception_wipes() -> None:
    def fail(made: SecretBytes) -> None:
        with made:
            raise RuntimeError

    made = secret()
    with pytest.raises(RuntimeError):
        fail(made)
    assert made.closed


def test_garbage_collection_wipes() -> None:
    made = secret()
    slice_ = made.view[:]
    del made
    gc.collect()
    assert bytes(slice_) == bytes(32)


def test_repr_str_and_format_show_the_length_only() -> None:
    made = secret()
    assert {repr(made), str(made), f"{made}"} == {"<SecretBytes of 32 bytes>"}
    made.close()
    assert repr(made) == "<SecretBytes of 32 bytes, wiped>"


@pytest.mark.parametrize("leak", [bytes, pickle.dumps, copy.copy, copy.deepcopy, list, hash, bytearray, memoryview])
def test_every_implicit_copy_is_refused(leak: Callable[[object], object]) -> None:
    with pytest.raises(TypeError):
        leak(secret())


def test_equal_secrets_are_not_equal_objects() -> None:
    assert secret() != secret()


def test_a_forked_child_gets_zeros_and_a_refusal() -> None:
    program = (
        "import os\n"
        "from custody.crypto.secret import SecretBytes\n"
        "made = SecretBytes.take(bytearray(b'x' * 32)); view = made.view\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    try: made.view\n"
        "    except ValueError: os._exit(7 if bytes(view) == bytes(32) else 8)\n"
        "    os._exit(9)\n"
        "assert bytes(made.view) == b'x' * 32\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout == "7\n"


def test_a_size_of_zero_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError):
        SecretBytes(0)


def test_a_lock_that_is_refused_is_reported_or_an_error_as_asked() -> None:
    """In a child without CAP_IPC_LOCK, under a memory lock limit of zero."""
    program = (
        "import ctypes, resource\n"
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))\n"
        "from custody.crypto.secret import SecretBytes\n"
        "from custody.errors import ConfigError\n"
        "import os\n"
        "if os.geteuid() == 0: os.setresuid(65534, 65534, 65534)\n"
        "print(SecretBytes(32).locked)\n"
        "try: SecretBytes(32, require_lock=True)\n"
        "except ConfigError as error: print(error.hint)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout
    assert result.startswith("False\nraise RLIMIT_MEMLOCK")


def test_a_hardened_process_leaves_no_core_and_cannot_be_traced() -> None:
    program = (
        "import ctypes, resource\n"
        "from custody.crypto.secret import harden_process\n"
        "harden_process()\n"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout
    assert result == "0 (0, 0)\n"
