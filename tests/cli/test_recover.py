"""``custody recover``: break glass, and everything that must stop it."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import FILES, VERSION, Deployment
from tests.doubles.command import PASSPHRASE, Done

BOTH = ("--key", "bob.key", "--key", "carol.key")


def _recover(
    deployment: Deployment, *more: object, keys: tuple[str, ...] = BOTH, code: int = 0, passphrases: int = 2
) -> Done:
    words = ["recover", VERSION, "--out", "out", "--store", "file:store", *keys, *more]
    return deployment.custody(*words, passphrases=[PASSPHRASE] * passphrases, code=code)


def _nothing_written(deployment: Deployment) -> None:
    assert not (deployment.directory / "out").exists()
    assert [path.name for path in deployment.directory.iterdir() if path.name.endswith(".partial")] == []


def test_two_of_three_custodians_get_every_file_back(deployment: Deployment) -> None:
    done = _recover(deployment, "--output", "json")
    result = json.loads(done.out)
    assert result["files"] == [
        {"path": name, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in sorted(FILES.items())
    ]
    assert result["persons"] == ["bob", "carol"]
    out = deployment.directory / "out"
    assert {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()} == FILES
    assert {path.stat().st_mode & 0o777 for path in out.rglob("*") if path.is_file()} == {0o600}
    assert "freshness unverified" in done.err


def test_people_see_a_table_of_digests(deployment: Deployment) -> None:
    done = _recover(deployment)
    for name, data in FILES.items():
        assert f"{hashlib.sha256(data).hexdigest()}  {len(data):<6}  {name}" in done.out
    assert "2 of alice, bob, carol" in done.err


def test_one_file_alone(deployment: Deployment) -> None:
    _recover(deployment, "--file", "weights/model.bin")
    out = deployment.directory / "out"
    assert [str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()] == ["weights/model.bin"]
    words = ["recover", VERSION, "--out", "out2", "--store", "file:store", *BOTH, "--file", "../alice.key"]
    done = deployment.custody(*words, code=13)
    assert done.message == "demo/tiny@1 holds no file '../alice.key'"


def test_one_custodian_is_told_who_is_missing(deployment: Deployment) -> None:
    done = _recover(deployment, keys=("--key", "bob.key"), code=12)
    assert done.message == "no quorum for demo/tiny@1: bob present; missing 1 more of alice, carol"
    _nothing_written(deployment)


def test_the_same_key_twice_is_not_two_custodians(deployment: Deployment) -> None:
    (deployment.directory / "copy.key").write_bytes((deployment.directory / "bob.key").read_bytes())
    (deployment.directory / "copy.key").chmod(0o600)
    done = _recover(deployment, keys=("--key", "bob.key", "--key", "copy.key"), code=16)
    assert done.message == "the same key is given twice"


def test_a_stranger_does_not_count(deployment: Deployment) -> None:
    deployment.custody(
        "custodian", "keygen", "--person", "bob", "--device", "other", "--out", "x.key", passphrases=[PASSPHRASE]
    )
    done = _recover(deployment, keys=("--key", "bob.key", "--key", "x.key"), code=12)
    assert done.message.endswith("bob present (1 of the key files hold no share of it); missing 1 more of alice, carol")


def test_a_wrong_passphrase_names_the_file(deployment: Deployment) -> None:
    words = ["recover", VERSION, "--out", "out", "--store", "file:store", *BOTH]
    done = deployment.custody(*words, passphrases=[PASSPHRASE, "not that one at all"], code=12)
    assert done.message == "carol.key: wrong passphrase or damaged key file"
    _nothing_written(deployment)


def test_nothing_is_overwritten(deployment: Deployment) -> None:
    (deployment.directory / "out").mkdir()
    (deployment.directory / "out/mine").write_text("mine")
    assert _recover(deployment, code=14).message == "out: exists already"
    assert (deployment.directory / "out/mine").read_text() == "mine"
    (deployment.directory / "out/mine").unlink()
    _recover(deployment)  # an empty directory is as good as none


def test_out_that_is_a_link_is_refused(deployment: Deployment) -> None:
    (deployment.directory / "elsewhere").mkdir()
    (deployment.directory / "out").symlink_to("elsewhere")
    assert _recover(deployment, code=14).message == "out: exists already"
    assert list((deployment.directory / "elsewhere").iterdir()) == []


def test_out_in_a_directory_that_does_not_exist(deployment: Deployment) -> None:
    words = ["recover", VERSION, "--out", "no/such/out", "--store", "file:store", *BOTH]
    done = deployment.custody(*words, passphrases=[PASSPHRASE] * 2, code=13)
    assert done.message.endswith("no/such: no such file or directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_out_in_a_directory_that_may_not_be_written(deployment: Deployment) -> None:
    (deployment.directory / "sealed").mkdir(0o500)
    words = ["recover", VERSION, "--out", "sealed/out", "--store", "file:store", *BOTH]
    assert deployment.custody(*words, passphrases=[PASSPHRASE] * 2, code=16).message.endswith("permission denied")


def test_a_full_disk_leaves_nothing(deployment: Deployment) -> None:
    words = ["recover", VERSION, "--out", "out", "--store", "file:store", *BOTH]
    limit = ["bash", "-c", 'ulimit -f 64; exec "$@"', "-"]  # 64 KiB a file; the weights have 175
    done = deployment.custody(*words, passphrases=[PASSPHRASE] * 2, prefix=limit, code=15)
    assert done.message == "weights/model.bin: cannot be written: file too large"
    _nothing_written(deployment)


def test_a_flipped_byte_of_ciphertext_is_found_and_named(deployment: Deployment) -> None:
    path = deployment.manifest.with_name("3.floe")
    data = bytearray(path.read_bytes())
    data[74 + 5 * (4096 + 32) + 100] ^= 1
    path.write_bytes(data)
    assert _recover(deployment, code=11).message == "weights/model.bin: segment 5: authentication failed"
    _nothing_written(deployment)


@pytest.mark.parametrize("name", ["3.floe", "3.digests"])
def test_a_file_that_is_gone_from_the_store(deployment: Deployment, name: str) -> None:
    deployment.manifest.with_name(name).unlink()
    assert name in _recover(deployment, code=13).message
    _nothing_written(deployment)


@pytest.mark.parametrize("path", ["../../evil", "/etc/evil", "a/../b", "weights\\\\x", "con\\u202etrol"])
def test_path_tricks_in_a_manifest_never_reach_a_path(deployment: Deployment, path: str) -> None:
    manifest = json.loads(deployment.manifest.read_bytes())
    payload = _decoded(manifest["content"]["payload"])
    changed = payload.replace(b'"weights/model.bin"', f'"{path}"'.encode())
    assert changed != payload
    manifest["content"]["payload"] = _encoded(changed)
    deployment.manifest.write_text(json.dumps(manifest, sort_keys=True, separators=(",", ":")))
    done = _recover(deployment, code=13)
    assert done.message.startswith("the store holds no demo/tiny@1 that can be read; 1 damaged: versions/")
    assert "\u202e" not in done.err
    _nothing_written(deployment)


def test_a_manifest_signed_by_nobody_the_root_names(deployment: Deployment) -> None:
    manifest = json.loads(deployment.manifest.read_bytes())
    manifest["content"]["signatures"][0]["keyid"] = "0" * 64
    deployment.manifest.write_text(json.dumps(manifest, sort_keys=True, separators=(",", ":")))
    assert "not signed with a device of alice that the trust root names" in _recover(deployment, code=11).message


def test_a_wrap_that_was_swapped_is_refused_and_the_custodian_named(deployment: Deployment) -> None:
    manifest = json.loads(deployment.manifest.read_bytes())
    wraps = manifest["wraps"]
    wraps[1]["wrapped"], wraps[2]["wrapped"] = wraps[2]["wrapped"], wraps[1]["wrapped"]
    deployment.manifest.write_text(json.dumps(manifest, sort_keys=True, separators=(",", ":")))
    assert _recover(deployment, code=11).message == "the share of bob does not open: the manifest was altered"


def test_argon2_parameters_that_were_lowered_are_refused_before_work(deployment: Deployment) -> None:
    path = deployment.directory / "bob.key"
    path.write_text(path.read_text().replace('"memory_kib":"65536"', '"memory_kib":"8"'))
    assert _recover(deployment, code=10).message.startswith("bob.key: key file: kdf.memory_kib is 8")


def test_a_key_file_that_others_may_read(deployment: Deployment) -> None:
    (deployment.directory / "bob.key").chmod(0o644)
    assert _recover(deployment, code=16).message == "bob.key: others may use this key file (mode 0644)"


def test_a_version_that_is_not_there(deployment: Deployment) -> None:
    words = ["recover", "demo/tiny@2", "--out", "out", "--store", "file:store", *BOTH]
    assert deployment.custody(*words, code=13).message == "the store holds no demo/tiny@2"
    words = ["recover", "no version", "--out", "out", "--store", "file:store", *BOTH]
    assert deployment.custody(*words, code=10).message == "'no version' is not a version"


def test_without_a_pin_nothing_is_believed(deployment: Deployment, tmp_path: Path) -> None:
    words = ["recover", VERSION, "--out", "out", "--store", "file:store", "--root", "prod/keys", *BOTH]
    done = deployment.custody(*words, "--home", tmp_path / "new", passphrases=[PASSPHRASE] * 2, code=16)
    assert done.message == "no genesis trust root is pinned, so no trust root can be believed"
    genesis = json.loads(deployment.custody("root", "verify", "prod/keys", "--output", "json").out)["genesis"]
    deployment.custody(
        *words, "--genesis", genesis, "--home", tmp_path / "new", passphrases=[PASSPHRASE] * 2
    )  # break glass on a strange machine


def test_ctrl_c_at_the_prompt_is_one_line(deployment: Deployment) -> None:
    words = ["recover", VERSION, "--out", "out", "--store", "file:store", *BOTH]
    shown = deployment.custody.at_terminal(*words, typed=[("Passphrase of bob.key", "\x03")], code=130)
    assert "custody: interrupted" in shown
    assert "Traceback" not in shown


def test_at_a_terminal_nothing_typed_is_shown_and_a_slip_may_be_corrected(deployment: Deployment) -> None:
    words = ["recover", VERSION, "--out", "out", "--store", "file:store", *BOTH]
    shown = deployment.custody.at_terminal(
        *words,
        typed=[
            ("Passphrase of bob.key", "a slip of the fingers"),
            ("Passphrase of bob.key", PASSPHRASE),
            ("Passphrase of carol.key", PASSPHRASE),
        ],
    )
    assert PASSPHRASE not in shown
    assert "slip" not in shown
    assert "wrote 4 files to out" in shown


def _decoded(text: str) -> bytes:
    import base64

    return base64.b64decode(text)


def _encoded(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()
