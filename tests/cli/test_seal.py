"""``custody seal``: what lies in the store afterwards, and everything that must stop it."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.cli.conftest import FILES, VERSION, Deployment
from tests.doubles.command import PASSPHRASE, Done


def _seal(deployment: Deployment, *more: object, path: str = "model", code: int = 0, store: str = "file:store") -> Done:
    words = ["seal", path, "demo/other@1", "--store", store, "--key", "alice.key", *more]
    return deployment.custody(*words, passphrases=[PASSPHRASE], code=code)


def _versions(deployment: Deployment) -> int:
    return len(list((deployment.directory / "store").glob("versions/*/manifest.json")))


def _blobs(deployment: Deployment) -> list[Path]:
    return [path for path in (deployment.directory / "store").rglob("*") if path.is_file()]


def test_a_sealed_version_says_what_it_is_and_holds_no_plaintext(deployment: Deployment) -> None:
    done = _seal(deployment, "--label", "stage=final", "--retention", "long", "--output", "json")
    result = json.loads(done.out)
    assert (result["version"], result["files"]) == ("demo/other@1", len(FILES))
    assert result["size"] == sum(map(len, FILES.values()))
    stored = b"".join(path.read_bytes() for path in _blobs(deployment))
    assert FILES["weights/model.bin"][:64] not in stored
    assert "freshness unverified" in done.err


def test_a_file_alone_is_known_by_its_name(deployment: Deployment) -> None:
    assert json.loads(_seal(deployment, "--output", "json", path="model/config.json").out)["files"] == 1


def test_a_label_that_exists_is_refused_before_the_passphrase(deployment: Deployment) -> None:
    words = ["seal", "model", VERSION, "--store", "file:store", "--key", "alice.key"]
    assert deployment.custody(*words, code=14).message == f"{VERSION} exists already in this store"


def test_a_missing_path(deployment: Deployment) -> None:
    assert _seal(deployment, path="nowhere", code=13).message == "nowhere: no such file or directory"


def test_a_missing_store(deployment: Deployment) -> None:
    done = _seal(deployment, store="file:nowhere", code=16)
    assert done.message.endswith("nowhere: no such file or directory")
    assert "hint: mkdir -m 750" in done.err
    assert _seal(deployment, store="ftp://x/y", code=16).message == "store 'ftp://x/y': no store of this kind"


def test_an_empty_directory_is_no_version(deployment: Deployment) -> None:
    (deployment.directory / "hollow/inside").mkdir(parents=True)
    assert _seal(deployment, path="hollow", code=10).message == "hollow: there is no file in it to seal"


@pytest.mark.parametrize("place", ["model/link", "model/weights/link"])
def test_a_symbolic_link_is_refused_and_not_followed(deployment: Deployment, place: str) -> None:
    (deployment.directory / place).symlink_to("/etc/passwd")
    done = _seal(deployment, code=10)
    assert done.message == f"{place}: a symbolic link; a version holds regular files only"
    assert _versions(deployment) == 1


def test_special_files_are_refused_and_not_waited_for(deployment: Deployment) -> None:
    os.mkfifo(deployment.directory / "model/pipe")
    assert _seal(deployment, code=10).message.startswith("model/pipe: a named pipe")
    (deployment.directory / "model/pipe").unlink()
    here = Path.cwd()
    try:
        os.chdir(deployment.directory / "model")  # the path of a socket is short
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("sock")
    finally:
        os.chdir(here)
    assert _seal(deployment, code=10).message.startswith("model/sock: a socket")


def test_a_name_that_could_redraw_a_screen_is_refused_and_shown_escaped(deployment: Deployment) -> None:
    (deployment.directory / "model/\x1b[2Jx").write_bytes(b"")
    done = _seal(deployment, code=10)
    assert done.message == "path: character U+001B at position 0 is not allowed"
    assert "\x1b" not in done.err


def test_a_wrong_passphrase(deployment: Deployment) -> None:
    words = ["seal", "model", "demo/other@1", "--store", "file:store", "--key", "alice.key"]
    done = deployment.custody(*words, passphrases=["wrong but long enough"], code=12)
    assert done.message == "alice.key: wrong passphrase or damaged key file"


def test_who_may_not_seal_is_told_so_before_the_passphrase(deployment: Deployment) -> None:
    words = ["seal", "model", "demo/other@1", "--store", "file:store", "--key", "bob.key"]
    assert deployment.custody(*words, code=12).message == "bob may not seal demo/other@1"
    words = ["seal", "model", "frontier/llm@1", "--store", "file:store", "--key", "alice.key"]
    done = deployment.custody(*words, code=12)
    assert done.message == "alice may not seal frontier/llm@1"
    assert "hint: the trust root lets alice seal demo/*" in done.err


def test_a_key_that_the_root_does_not_name(deployment: Deployment) -> None:
    deployment.custody("custodian", "keygen", "--person", "alice", "--out", "new.key", passphrases=[PASSPHRASE])
    words = ["seal", "model", "demo/other@1", "--store", "file:store", "--key", "new.key"]
    assert "does not name this key" in deployment.custody(*words, code=12).message


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--segment-size", "1MB", "--segment-size '1MB' is not a size"),
        ("--segment-size", "3MiB", "a segment of 3145728 bytes"),
        ("--label", "stage", "--label 'stage' is not K=V"),
        ("--lineage", "abc", "'abc' is not a content digest"),
        ("--retention", "For Ever", "'For Ever' is not a retention class"),
    ],
)
def test_an_option_that_is_wrong_is_named(deployment: Deployment, option: str, value: str, message: str) -> None:
    assert _seal(deployment, option, value, code=10).message == message


def test_a_profile_with_a_typo_names_key_line_and_what_was_meant(deployment: Deployment) -> None:
    profile = deployment.directory / "home/custody.toml"
    profile.write_text(profile.read_text() + '[broker]\naddress = "localhost:1"\nserver_nam = "x"\n')
    done = _seal(deployment, code=16)
    assert done.message == f"{profile}:5: unknown key 'server_nam' in [broker]"
    assert "hint: did you mean server_name?" in done.err


def test_a_profile_names_store_and_key_file(deployment: Deployment) -> None:
    profile = deployment.directory / "home/custody.toml"
    profile.write_text(f'store = "file:../store"\nkey_file = "../alice.key"\n{profile.read_text()}')
    deployment.custody("seal", "model", "demo/other@1", passphrases=[PASSPHRASE])
    assert _versions(deployment) == 2


def test_a_full_disk_leaves_nothing_behind_and_the_next_seal_works(deployment: Deployment) -> None:
    before = _blobs(deployment)
    words = ["seal", "model", "demo/other@1", "--store", "file:store", "--key", "alice.key"]
    limit = ["bash", "-c", 'ulimit -f 64; exec "$@"', "-"]
    done = deployment.custody(*words, passphrases=[PASSPHRASE], prefix=limit, code=15)
    assert "file too large" in done.message
    assert _blobs(deployment) == before
    _seal(deployment)


def _hold_in_the_middle(deployment: Deployment, number: int) -> None:
    """Start a seal of a file so large that it is not over yet, and send it a signal once a blob is there."""
    big = deployment.directory / "big"
    big.mkdir()
    (big / "a-small").write_bytes(b"a")
    with (big / "large").open("wb") as file:
        file.truncate(4 << 30)
    words = ["seal", "big", "demo/other@1", "--store", "file:store", "--key", "alice.key"]
    before = len(_blobs(deployment))
    started = deployment.custody.start(*words, passphrases=[PASSPHRASE])
    deadline = time.monotonic() + 30
    while len(_blobs(deployment)) < before + 2:  # those of the small file; the large one's have no names yet
        assert started.process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    started.process.send_signal(number)
    done = started.wait()
    (big / "large").unlink()
    if number == signal.SIGKILL:
        assert done.code == -signal.SIGKILL
    else:
        assert (done.code, done.err.splitlines()[-1]) == (130, "custody: interrupted")


def test_a_killed_seal_leaves_nothing_visible_and_the_next_one_sweeps_it(deployment: Deployment) -> None:
    before = set(_blobs(deployment))
    _hold_in_the_middle(deployment, signal.SIGKILL)
    left = set(_blobs(deployment)) - before
    assert left
    assert _versions(deployment) == 1
    done = _seal(deployment)
    assert "removed the blobs of 1 interrupted seal" in done.err
    assert {path for path in left if path.exists()} == set()
    assert list((deployment.directory / "home/unfinished").iterdir()) == []
    assert _versions(deployment) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_seal_cleans_up_at_once(deployment: Deployment, number: int) -> None:
    before = set(_blobs(deployment))
    _hold_in_the_middle(deployment, number)
    assert set(_blobs(deployment)) == before
    assert list((deployment.directory / "home/unfinished").iterdir()) == []


def test_blobs_that_are_nobodys_are_listed_and_left_alone(deployment: Deployment) -> None:
    other = deployment.directory / "store/versions" / ("ab" * 32)
    other.mkdir()
    (other / "0.floe").write_bytes(b"somebody seals this right now")
    done = _seal(deployment)
    assert "the store holds 1 blobs of vid abababababababab… without a manifest" in done.err
    assert (other / "0.floe").exists()
