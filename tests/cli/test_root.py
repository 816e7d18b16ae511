"""``custody root``: the ceremony, the pin, later roots, and roots that must not be believed."""

import base64
import json
import shutil
from pathlib import Path

from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import ED25519, NoteSigner
from tests.cli.conftest import CEREMONY, DEPLOYMENT, PERSONS, Deployment
from tests.doubles.command import PASSPHRASE, Custody

WITNESS_KEY = "witness/witness.key"


def _digest(deployment: Deployment, path: object = "prod/keys/root.json") -> str:
    return str(json.loads(deployment.custody("root", "show", path, "--output", "json").out)["digest"])


def _sign(deployment: Deployment, draft: str, *persons: str, more: tuple[str, ...] = ()) -> str:
    shown = ""
    for person in persons:
        words = ["root", "sign", draft, "--key", f"{person}.key", "--yes", *more]
        done = deployment.custody(*words, passphrases=[PASSPHRASE])
        shown = done.out + done.err
    return shown


def _second_root(deployment: Deployment, *signers: str) -> Path:
    """A root of epoch 1 in which dave replaces bob as a custodian."""
    deployment.custody("custodian", "keygen", "--person", "dave", "--out", "dave.key", passphrases=[PASSPHRASE])
    (deployment.directory / "prod/dave.json").write_text(deployment.custody("custodian", "export", "dave.key").out)
    ceremony = deployment.directory / "prod/ceremony.toml"
    text = ceremony.read_text().replace(
        'members = ["alice", "bob", "carol"]\n[[sealer]]', "members = MEMBERS\n[[sealer]]"
    )
    text = text.replace("MEMBERS", '["alice", "dave", "carol"]')
    ceremony.write_text(text + '[[person]]\nid = "dave"\nname = "Dave"\nkeys = ["dave.json"]\n')
    words = ["root", "create", "--dir", "prod", "--previous", "prod/keys/root.json", "--out", "one.json"]
    deployment.custody(*words)
    _sign(deployment, "one.json", *signers)
    return deployment.directory / "one.json"


def test_the_ceremony_file_as_written_by_init_says_what_to_do(tmp_path: Path) -> None:
    custody = Custody(tmp_path, tmp_path / "home")
    custody("init", "prod", "--deployment", DEPLOYMENT)
    done = custody("root", "create", "--dir", "prod", "--out", "draft.json", code=10)
    assert "hint: write persons and rosters into the ceremony file first" in done.err


def test_who_signs_sees_all_of_it_and_confirms(deployment: Deployment) -> None:
    deployment.custody("root", "create", "--dir", "prod", "--out", "draft.json")
    words = ["root", "sign", "draft.json", "--key", "alice.key"]
    shown = deployment.custody.at_terminal(*words, typed=[("Sign it? [y/N]", "n")], code=130)
    assert "not confirmed: nothing was done" in shown
    assert not (deployment.directory / "draft.json").read_text().startswith('{"payload"')
    typed = [("Sign it? [y/N]", "y"), ("Passphrase of alice.key", PASSPHRASE)]
    shown = deployment.custody.at_terminal(*words, typed=typed)
    for text in ("as alice (laptop)", "2 of alice, bob, carol", "may seal demo/*", "witness-1", "digest", "bob, carol"):
        assert text in shown
    assert PASSPHRASE not in shown


def test_copies_signed_apart_are_put_together(deployment: Deployment) -> None:
    deployment.custody("root", "create", "--dir", "prod", "--out", "draft.json")
    for person in PERSONS:
        words = ["root", "sign", "draft.json", "--key", f"{person}.key", "--yes", "--out", f"{person}-signed.json"]
        deployment.custody(*words, passphrases=[PASSPHRASE])
    copies = [f"{person}-signed.json" for person in PERSONS]
    done = deployment.custody("root", "combine", *copies, "--out", "whole.json", "--output", "json")
    result = json.loads(done.out)
    assert (result["complete"], result["signed"], result["missing"]) == (True, list(PERSONS), [])
    done = deployment.custody("root", "combine", copies[0], "prod/keys/root.json", "--out", "x.json", code=11)
    assert done.message == "these are different roots: their digests differ"


def test_a_key_of_a_stranger_cannot_sign(deployment: Deployment) -> None:
    deployment.custody("custodian", "keygen", "--person", "mallory", "--out", "m.key", passphrases=[PASSPHRASE])
    deployment.custody("root", "create", "--dir", "prod", "--out", "draft.json")
    words = ["root", "sign", "draft.json", "--key", "m.key", "--yes"]
    done = deployment.custody(*words, passphrases=[PASSPHRASE], code=12)
    assert "is not a device of anybody whom the root names" in done.message


def test_without_a_pin_the_digest_is_shown_and_nobody_vouches(deployment: Deployment, tmp_path: Path) -> None:
    done = deployment.custody("root", "verify", "prod/keys", "--home", tmp_path / "new")
    digest = _digest(deployment)
    assert " ".join(digest[place : place + 4] for place in range(0, 64, 4)) in done.out
    assert "no genesis is pinned" in done.err
    assert not (tmp_path / "new").exists()


def test_pinning_asks_unless_the_digest_was_given(deployment: Deployment, tmp_path: Path) -> None:
    words = ["root", "verify", "prod/keys", "--pin", "--home", tmp_path / "new"]
    assert deployment.custody(*words, code=16).message == "there is no terminal to ask at"
    assert deployment.custody(*words, "--genesis", "0" * 64, code=11).message.startswith("genesis has digest")
    assert not (tmp_path / "new/custody.toml").exists()
    deployment.custody(*words, "--genesis", _digest(deployment))
    assert f'genesis = "{_digest(deployment)}"' in (tmp_path / "new/custody.toml").read_text()


def test_a_foreign_genesis_is_refused_for_ever(deployment: Deployment, tmp_path: Path) -> None:
    deployment.custody("root", "create", "--dir", "prod", "--out", "draft.json")
    _sign(deployment, "draft.json", *PERSONS)
    done = deployment.custody("root", "verify", "draft.json", "--home", deployment.directory / "home", code=11)
    assert "different trust root of epoch 0" in done.message or "is pinned" in done.message
    done = deployment.custody("root", "verify", "draft.json", "--pin", "--yes", code=11)
    assert "pins another genesis trust root" in done.message


def test_a_genesis_that_not_all_have_signed_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    deployment.custody("root", "create", "--dir", "prod", "--out", "draft.json")
    _sign(deployment, "draft.json", "alice", "bob")
    done = deployment.custody("root", "verify", "draft.json", "--pin", "--yes", "--home", tmp_path / "new", code=11)
    assert done.message == "trust root of epoch 0 is not signed by carol"


def test_a_root_that_was_altered_after_signing(deployment: Deployment, tmp_path: Path) -> None:
    path = deployment.directory / "prod/keys/root.json"
    envelope = json.loads(path.read_bytes())
    payload = base64.b64decode(envelope["payload"]).replace(b'"threshold":2', b'"threshold":1')
    envelope["payload"] = base64.b64encode(payload).decode()
    path.write_text(json.dumps(envelope, sort_keys=True, separators=(",", ":")))
    done = deployment.custody("root", "verify", "prod/keys", "--pin", "--yes", "--home", tmp_path / "new", code=11)
    assert done.message == "Ed25519 signature does not verify"


def test_the_next_root_shows_what_changes_and_needs_the_old_quorum_and_the_new_person(deployment: Deployment) -> None:
    path = _second_root(deployment)
    shown = _sign(deployment, "one.json", "dave")
    assert "- roster governance: 2 of alice, bob, carol (founders)" in shown
    assert "+ roster governance: 2 of alice, dave, carol (founders)" in shown
    assert "+ person dave: Dave" in shown
    assert "governance  2 more of alice, bob, carol" in shown
    done = deployment.custody("root", "verify", "prod/keys", "one.json", code=11)
    assert done.message == "trust root of epoch 1 lacks the governance quorum of epoch 0"
    shown = _sign(deployment, "one.json", "alice", "bob")
    assert "complete" in shown
    shutil.copy(path, deployment.directory / "prod/keys/root-1.json")
    assert "epoch 1" in deployment.custody("root", "verify", "prod/keys").out


def test_a_new_person_must_sign_for_themselves(deployment: Deployment) -> None:
    _second_root(deployment, "alice", "bob")
    done = deployment.custody("root", "verify", "prod/keys", "one.json", code=11)
    assert done.message == "trust root of epoch 1: dave did not sign with the new device laptop"


def test_after_a_newer_root_the_older_alone_is_not_believed(deployment: Deployment) -> None:
    """The home keeps the roots it has verified; even with them gone, it knows that there was a newer one."""
    path = _second_root(deployment, "alice", "bob", "dave")
    deployment.custody("root", "verify", "prod/keys", path)
    assert "epoch 1" in deployment.custody("root", "verify", "prod/keys").out
    shutil.rmtree(deployment.directory / "home/roots")
    done = deployment.custody("root", "verify", "prod/keys", code=11)
    assert done.message == "rollback: a trust root of epoch 0, but epoch 1 was seen here"
    words = ["seal", "model", "demo/other@1", "--store", "file:store", "--key", "alice.key", "--root", "prod/keys"]
    assert deployment.custody(*words, code=11).message.startswith("rollback")


def test_seen_json_that_was_damaged_is_not_forgotten_silently(deployment: Deployment) -> None:
    (deployment.directory / "home/seen.json").write_text("{}")
    assert "it guards against rollback" in deployment.custody("root", "verify", "prod/keys", code=11).message


def test_a_root_of_another_deployment_has_no_place_in_this_home(deployment: Deployment) -> None:
    custody = Custody(deployment.directory, deployment.directory / "other-home")
    custody("init", "staging", "--deployment", "custody.example.org/staging")
    for person in PERSONS:
        shutil.copy(deployment.directory / f"prod/{person}.json", deployment.directory / "staging")
    ceremony = deployment.directory / "staging/ceremony.toml"
    people = "".join(f'[[person]]\nid = "{person}"\nname = "P"\nkeys = ["{person}.json"]\n' for person in PERSONS)
    ceremony.write_text(ceremony.read_text() + people + CEREMONY)
    custody("root", "create", "--dir", "staging", "--out", "staging.json")
    _sign(deployment, "staging.json", *PERSONS)
    done = deployment.custody("root", "verify", "staging.json", "--pin", "--yes", code=16)
    assert done.message.endswith(f"belongs to deployment {DEPLOYMENT}, not to custody.example.org/staging")


def test_a_typo_in_the_ceremony_file_is_named(deployment: Deployment) -> None:
    path = deployment.directory / "prod/ceremony.toml"
    path.write_text(path.read_text().replace("threshold = 2", "treshold = 2"))
    done = deployment.custody("root", "create", "--dir", "prod", "--out", "draft.json", code=16)
    assert "treshold" in done.message


def test_a_ceremony_that_contradicts_itself_is_refused(deployment: Deployment) -> None:
    path = deployment.directory / "prod/ceremony.toml"
    path.write_text(path.read_text().replace('persons = ["carol"]', 'persons = ["zoe"]'))
    done = deployment.custody("root", "create", "--dir", "prod", "--out", "draft.json", code=10)
    assert "zoe is not among the persons" in done.message


def test_a_draft_is_never_overwritten(deployment: Deployment) -> None:
    (deployment.directory / "draft.json").write_text("mine")
    done = deployment.custody("root", "create", "--dir", "prod", "--out", "draft.json", code=14)
    assert done.message == "draft.json: file exists"


def test_something_else_than_a_root_is_refused(deployment: Deployment) -> None:
    done = deployment.custody("root", "show", "prod/keys/ca.pem", code=10)
    assert done.message.startswith("prod/keys/ca.pem: root: ")


def test_a_root_that_names_another_log_says_where_the_one_before_ended(deployment: Deployment) -> None:
    prod = deployment.directory / "prod"
    log, witness = (NoteSigner.parse((prod / path).read_text().strip()) for path in ("broker/log.key", WITNESS_KEY))
    key = NoteSigner(f"{DEPLOYMENT}-2", ED25519, bytes(range(32)))
    vkey, policy = prod / "keys/log.vkey", prod / "keys/witness.policy"
    policy.write_text(policy.read_text().replace(vkey.read_text().strip(), key.vkey.encode()))
    vkey.write_text(key.vkey.encode())
    create = ["root", "create", "--dir", "prod", "--previous", "prod/keys/root.json", "--out", "one.json"]
    done = deployment.custody(*create, code=11)
    assert done.message == f"trust root of epoch 1 names another log, and not where {DEPLOYMENT} ended"
    text = Checkpoint(DEPLOYMENT, 7, b"r" * 32).encode()
    ceremony = prod / "ceremony.toml"
    ceremony.write_text(ceremony.read_text().replace("[log]\n", '[log]\npredecessor = "final.checkpoint"\n'))
    (prod / "final.checkpoint").write_bytes(text + b"\n" + log.sign(text))
    assert "the final checkpoint of" in deployment.custody(*create, code=11).message
    (prod / "final.checkpoint").write_bytes(text + b"\n" + log.sign(text) + witness.sign(text, 1_700_000_000))
    deployment.custody(*create)
    assert "+ log before it ends with" in _sign(deployment, "one.json", "alice")
