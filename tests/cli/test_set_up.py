"""``custody init``, ``custody ca`` and ``custody custodian``: what people begin with."""

import json
import stat
import time
from pathlib import Path

import cedarpy
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from custody.app.ca import load_authority
from custody.app.deployment import read_bundle
from custody.crypto.serverkey import ServerKey
from custody.crypto.svid import check_chain, validity
from custody.custodian.keys import ExportedKey
from custody.errors import IntegrityError
from custody.rules.bundle import bundle_digest
from custody.tlog.note import NoteSigner
from custody.tlog.policy import Policy
from tests.cli.conftest import DEPLOYMENT, Deployment
from tests.doubles.command import PASSPHRASE, Custody

_DER = Encoding.DER


@pytest.fixture
def custody(tmp_path: Path) -> Custody:
    return Custody(tmp_path, tmp_path / "home")


def test_init_makes_every_file_and_opens_no_secret_to_others(custody: Custody) -> None:
    done = custody("init", "prod", "--deployment", DEPLOYMENT, "--output", "json")
    prod = custody.directory / "prod"
    secret = {"ca/ca.key", "broker/broker.key", "broker/row.key", "broker/log.key", "witness/witness.key"}
    public = {"ca/ca.crt", "ceremony.toml", "broker/policy/policy.cedar", "broker/policy/schema.cedarschema"}
    public |= {f"keys/{name}" for name in ("ca.pem", "log.vkey", "witness.vkey", "witness.policy")}
    modes = {
        str(path.relative_to(prod)): stat.S_IMODE(path.stat().st_mode) for path in prod.rglob("*") if path.is_file()
    }
    assert set(modes) == secret | public
    assert {name for name, mode in modes.items() if mode == 0o600} == secret
    assert {stat.S_IMODE((prod / name).stat().st_mode) for name in ("", "ca", "broker", "witness")} == {0o700}
    result = json.loads(done.out)
    assert result["policy"] == bundle_digest(read_bundle(prod / "broker/policy"))
    assert "keep it off the broker's host" in done.err
    assert (custody.home / "custody.toml").read_text() == f'deployment = "{DEPLOYMENT}"\n'


def test_what_init_makes_fits_together(custody: Custody) -> None:
    custody("init", "prod", "--deployment", DEPLOYMENT)
    prod = custody.directory / "prod"
    log = NoteSigner.parse((prod / "broker/log.key").read_text().strip())
    witness = NoteSigner.parse((prod / "witness/witness.key").read_text().strip())
    policy = Policy.parse((prod / "keys/witness.policy").read_bytes())
    assert [item.vkey for item in policy.logs] == [log.vkey]
    assert [item.vkey for item in policy.witnesses] == [witness.vkey]
    assert log.vkey.name == DEPLOYMENT
    assert (prod / "keys/log.vkey").read_text().strip() == log.vkey.encode()
    with ServerKey.load(prod / "broker/broker.key") as key:
        import base64

        assert base64.b64encode(key.public).decode() in (prod / "ceremony.toml").read_text()
    assert (prod / "keys/ca.pem").read_bytes() == (prod / "ca/ca.crt").read_bytes()


def test_the_default_policy_fits_its_schema_and_says_no_to_direct_mode() -> None:
    folder = Path(__file__).resolve().parents[2] / "custody/app/policy_default"
    policy, schema = ((folder / name).read_text() for name in ("policy.cedar", "schema.cedarschema"))
    assert cedarpy.validate_policies(policy, schema).validation_passed
    facts = {"beneficiary": "x", "purpose": "training", "mode": "stream", "duration": 86400, "bytes": 1}
    facts |= {"sessions": 1, "hour": 3, "approvers": []}

    def allowed(action: str, principal: str, **changes: object) -> bool:
        request = {
            "principal": principal,
            "action": f'Action::"{action}"',
            "resource": 'Version::"a@1"',
            "context": facts | changes,
        }
        return bool(cedarpy.is_authorized(request, policy, [], schema).decision.value == "Allow")

    job = 'Workload::"spiffe://example.org/job/x"'
    assert allowed("request", 'Person::"alice"')
    assert allowed("grant", job, approvers=["alice", "bob"])
    assert not allowed("request", job, mode="direct")
    assert not allowed("grant", job, mode="direct")
    assert not allowed("request", job, duration=86401)
    assert not allowed("request", job, purpose="resale")
    for mode, wanted in (("stream", True), ("direct", False)):
        context = {"purpose": "serving", "mode": mode, "bytes": 1}
        request = {"principal": job, "action": 'Action::"session"', "resource": 'Version::"a@1"', "context": context}
        assert (cedarpy.is_authorized(request, policy, [], schema).decision.value == "Allow") is wanted


def test_init_overwrites_nothing(custody: Custody) -> None:
    (custody.directory / "prod").mkdir()
    (custody.directory / "prod/mine").write_text("mine")
    assert custody("init", "prod", "--deployment", DEPLOYMENT, code=14).message == "prod: not empty"
    custody("init", "new", "--deployment", DEPLOYMENT)
    done = custody("init", "third", "--deployment", DEPLOYMENT, "--ca-dir", "new/ca", code=14)
    assert done.message == "new/ca/ca.key: file exists"


def test_one_home_serves_one_deployment(custody: Custody) -> None:
    custody("init", "prod", "--deployment", DEPLOYMENT)
    done = custody("init", "staging", "--deployment", "custody.example.org/staging", code=16)
    assert done.message.endswith(f"belongs to deployment {DEPLOYMENT}, not to custody.example.org/staging")
    assert not (custody.directory / "staging").exists()


@pytest.mark.parametrize("name", ["Custody", "https://x", "a//b", "../x", "a b"])
def test_init_refuses_what_is_no_deployment_id(custody: Custody, name: str) -> None:
    assert custody("init", "prod", "--deployment", name, code=10).message == f"{name!a} is not a deployment id"
    assert not (custody.directory / "prod").exists()


def test_an_issued_certificate_is_an_svid(deployment: Deployment) -> None:
    identity = "spiffe://custody.example.org/job/training"
    deployment.custody("ca", "issue", identity, "--ca", "prod/ca", "--out", "job", "--dns", "localhost", "--dns", "::1")
    job = deployment.directory / "job"
    leaf = x509.load_pem_x509_certificate((job / "tls.crt").read_bytes())
    roots = [x509.load_pem_x509_certificate((job / "ca.pem").read_bytes()).public_bytes(_DER)]
    now = int(time.time())
    assert check_chain([leaf.public_bytes(_DER)], roots, "custody.example.org", now) == identity
    begin, end = validity(leaf.public_bytes(_DER))
    assert begin <= now - 50
    assert 3500 < end - now <= 3600
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [identity]
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert len(list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)) == 2
    key = load_pem_private_key((job / "tls.key").read_bytes(), None)
    assert key.public_key() == leaf.public_key()
    assert stat.S_IMODE((job / "tls.key").stat().st_mode) == 0o600
    with pytest.raises(IntegrityError, match="expired"):
        check_chain([leaf.public_bytes(_DER)], roots, "custody.example.org", end + 1)


def test_issuing_again_replaces_the_files(deployment: Deployment) -> None:
    words = ["ca", "issue", "spiffe://custody.example.org/job/training", "--ca", "prod/ca", "--out", "job"]
    deployment.custody(*words)
    before = (deployment.directory / "job/tls.crt").read_bytes()
    deployment.custody(*words)
    assert (deployment.directory / "job/tls.crt").read_bytes() != before
    assert sorted(path.name for path in (deployment.directory / "job").iterdir()) == ["ca.pem", "tls.crt", "tls.key"]


@pytest.mark.parametrize(
    ("identity", "more", "message"),
    [
        ("spiffe://evil.example/job/x", (), "SPIFFE ID spiffe://evil.example/job/x is outside this CA's trust domain"),
        ("https://custody.example.org/x", (), "'https://custody.example.org/x' is not a SPIFFE ID"),
        ("spiffe://custody.example.org", (), "'spiffe://custody.example.org' is not a SPIFFE ID"),
        ("spiffe://custody.example.org/a/../b", (), "'spiffe://custody.example.org/a/../b' is not a SPIFFE ID"),
        ("spiffe://custody.example.org/x", ("--dns", "a b"), "'a b' is not a DNS name"),
    ],
)
def test_ca_issues_nothing_else(deployment: Deployment, identity: str, more: tuple[str, ...], message: str) -> None:
    done = deployment.custody("ca", "issue", identity, "--ca", "prod/ca", "--out", "job", *more, code=10)
    assert done.message == message
    assert not (deployment.directory / "job").exists()


def test_a_ca_of_its_own_host(custody: Custody) -> None:
    custody("ca", "init", "ca", "--trust-domain", "example.org")
    assert load_authority(custody.directory / "ca").trust_domain == "example.org"
    (custody.directory / "ca/ca.key").chmod(0o640)
    done = custody("ca", "issue", "spiffe://example.org/x", "--ca", "ca", "--out", "x", code=16)
    assert done.message == "ca/ca.key: others may use this key file (mode 0640)"


def test_a_key_file_is_private_and_never_overwritten(deployment: Deployment) -> None:
    path = deployment.directory / "alice.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    done = deployment.custody(
        "custodian", "keygen", "--person", "alice", "--out", "alice.key", passphrases=[PASSPHRASE], code=14
    )
    assert done.message == "alice.key: exists already"
    assert path.read_bytes() == before


def test_an_exported_key_holds_no_secret_and_proves_its_id(deployment: Deployment) -> None:
    done = deployment.custody("custodian", "export", "alice.key")
    exported = ExportedKey.parse(done.out.encode(), "alice.json")
    assert (exported.person, exported.device) == ("alice", "laptop")
    assert set(json.loads(done.out)) == {"device", "ed25519", "format", "key_id", "person", "xwing"}
    with pytest.raises(IntegrityError, match="key_id is not the id"):
        ExportedKey.parse(done.out.replace(exported.key_id, "0" * 64).encode(), "alice.json")


@pytest.mark.parametrize(
    ("typed", "code", "message"),
    [
        (["short"], 12, "the passphrase has fewer than 12 characters"),
        (["äöüäöüäöüäö"], 12, "the passphrase has fewer than 12 characters"),
        ([""], 12, "no passphrase was given"),
        (["x" * 1025], 10, "the passphrase is longer than 1024 bytes"),
    ],
)
def test_a_passphrase_that_will_not_do(custody: Custody, typed: list[str], code: int, message: str) -> None:
    words = ["custodian", "keygen", "--person", "alice", "--out", "alice.key"]
    assert custody(*words, passphrases=typed, code=code).message == message
    assert not (custody.directory / "alice.key").exists()


def test_at_a_terminal_a_new_passphrase_is_typed_twice_and_never_shown(custody: Custody) -> None:
    words = ["custodian", "keygen", "--person", "alice", "--out", "alice.key"]
    differ = [("New passphrase", PASSPHRASE), ("The same again", PASSPHRASE + "!")]
    shown = custody.at_terminal(*words, typed=differ, code=12)
    assert "custody: the two passphrases differ" in shown
    assert not (custody.directory / "alice.key").exists()
    shown = custody.at_terminal(*words, typed=[("New passphrase", PASSPHRASE), ("The same again", PASSPHRASE)])
    assert PASSPHRASE not in shown
    assert (custody.directory / "alice.key").exists()


def test_without_a_terminal_and_without_a_descriptor_nobody_can_be_asked(custody: Custody) -> None:
    done = custody("custodian", "keygen", "--person", "alice", "--out", "alice.key", code=16)
    assert done.message == "there is no terminal to ask at"
    assert "hint: --passphrase-fd N" in done.err
    done = custody("custodian", "keygen", "--person", "alice", "--out", "alice.key", "--passphrase-fd", "77", code=16)
    assert done.message == "--passphrase-fd 77: bad file descriptor"


def test_a_person_or_device_that_is_no_name(custody: Custody) -> None:
    for option, value in (("--person", "Alice!"), ("--device", "../x")):
        words = ["custodian", "keygen", "--person", "alice", option, value, "--out", "alice.key"]
        assert f"{value!a} is not a" in custody(*words, passphrases=[PASSPHRASE], code=10).message
