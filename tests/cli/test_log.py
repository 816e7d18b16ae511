"""``custody log``: what an auditor types, sees and passes on."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from custody.documents.dsse import Envelope, Signature
from tests.doubles.command import Custody
from tests.doubles.documents import change_document
from tests.doubles.site import DEPLOYMENT, JOB, Site, write_model


@dataclass(frozen=True)
class Auditor:
    """A home that pins genesis, the broker of a running deployment, and a copy of its log."""

    custody: Custody
    genesis: str
    keys: Path

    @property
    def log(self) -> Path:
        return self.custody.directory / "log"

    def index(self, kind: str) -> int:
        entries = json.loads(self.custody("log", "show", "--log", "log", "--output", "json").out)["entries"]
        return int(next(item["index"] for item in entries if item["entry"]["type"] == kind))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Path]]:
    folder = tmp_path_factory.mktemp("log")
    with Site(folder / "site") as site:
        sealed = site.seal(write_model(folder / "source", {"a.bin": 5000}))
        site.register(sealed)
        _, lease = site.granted(sealed)
        with site.calls("job") as job:
            opened = site.open(job, sealed, lease)
            site.read(job, opened.session)
            job.close_session(opened.session)
        shutil.copytree(site.directory / "log", folder / "log")
        tls = site.directory / "tls/alice"
        (folder / "home").mkdir(mode=0o700)
        (folder / "home/custody.toml").write_text(
            f'deployment = "{DEPLOYMENT}"\ngenesis = "{site.root_envelope.digest}"\n'
            f'[broker]\naddress = "{site.address}"\nserver_name = "broker-1.custody"\n'
            f'[tls]\ncertificate = "{tls}/tls.crt"\nkey = "{tls}/tls.key"\nca = "{tls}/ca.pem"\n'
        )
        Custody(folder, folder / "home")("root", "verify", site.directory / "keys")
        yield site, folder


@pytest.fixture
def auditor(made: tuple[Site, Path], tmp_path: Path) -> Auditor:
    site, folder = made
    for name in ("log", "home"):
        shutil.copytree(folder / name, tmp_path / name)
    return Auditor(Custody(tmp_path, tmp_path / "home"), site.root_envelope.digest, site.directory / "keys")


def test_an_honest_log_verifies_and_what_was_not_checked_is_said(auditor: Auditor) -> None:
    done = auditor.custody("log", "verify", "log")
    assert "OK: nothing found" in done.out
    assert "13 of 13 judged" in done.out
    assert "warning: freshness unverified" in done.err
    assert "warning: witness-1 is the only witness" in done.err


def test_the_result_is_one_line_of_json(auditor: Auditor) -> None:
    done = auditor.custody("log", "verify", "log", "--output", "json")
    report = json.loads(done.out)
    assert done.out.count("\n") == 1
    assert (report["ok"], report["findings"], report["audited"]) == (True, [], 13)


def test_a_tampered_log_ends_with_eleven_and_names_what_is_wrong(auditor: Auditor) -> None:
    index = auditor.index("decision")
    entry = json.loads(auditor.custody("log", "show", index, "--log", "log", "--output", "json").out)
    digest = entry["entry"]["documents"][0]["envelope"]
    place = change_document(auditor.log, digest, lambda data: data[:-1] + b"?")
    done = auditor.custody("log", "verify", "log", code=11)
    assert "FINDING document-altered" in done.out
    assert place in done.out
    assert digest in done.out
    assert "OK" not in done.out
    assert done.message.startswith("the log is not what it must be: ")
    report = json.loads(auditor.custody("log", "verify", "log", "--output", "json", code=11).out)
    assert report["ok"] is False
    assert report["findings"][0] == {
        "code": "document-altered",
        "documents": [digest],
        "entry": index,
        "follows": None,
        "place": place,
        "text": f"the decision document of entry {index} in {place} has other bytes",
    }
    assert {finding["follows"] for finding in report["findings"][1:]} == {index}


def test_the_structure_alone_says_that_nothing_was_judged(auditor: Auditor) -> None:
    done = auditor.custody("log", "verify", "log", "--structure")
    assert "13 of 13 hashed, none judged but trust roots" in done.out
    assert json.loads(auditor.custody("log", "verify", "log", "--structure", "--output", "json").out)["audited"] == 1


def test_a_second_run_with_a_state_judges_what_is_new_unless_told_otherwise(auditor: Auditor) -> None:
    run = ("log", "verify", "log", "--state", "second.state", "--output", "json")
    begun = [json.loads(auditor.custody(*run, *more).out)["begun"] for more in ((), (), ("--anew",))]
    assert begun == [0, 13, 0]
    assert "earlier runs judged those before entry 13" in auditor.custody(*run[:-2]).out


def test_the_state_of_an_earlier_run_refuses_a_rollback(auditor: Auditor) -> None:
    auditor.custody("log", "verify", "log", "--state", "audit.state")
    newest = auditor.log / "checkpoints/13"
    newest.unlink()
    sizes = sorted(int(path.name) for path in (auditor.log / "checkpoints").iterdir())
    shutil.copyfile(auditor.log / f"checkpoints/{sizes[-1]}", auditor.log / "checkpoint")
    auditor.custody("log", "verify", "log")
    done = auditor.custody("log", "verify", "log", "--state", "audit.state", code=11)
    assert "FINDING rollback" in done.out
    assert "an earlier run saw size 13 with root" in done.out
    (auditor.custody.directory / "audit.state").write_text("{}")
    assert "guards against rollback" in auditor.custody("log", "verify", "log", "--state", "audit.state", code=11).err


def test_the_broker_shows_its_log(auditor: Auditor) -> None:
    assert "OK: nothing found" in auditor.custody("log", "verify", "--broker").out
    assert "broker-start" in auditor.custody("log", "show").out
    assert JOB in auditor.custody("log", "who", "--version", "demo/model@1").out
    assert "page.html" in auditor.custody("log", "report", "--broker", "--html", "page.html").out


def test_what_is_pinned_counts(auditor: Auditor) -> None:
    assert "is not the genesis pinned" in auditor.custody("log", "verify", "log", "--genesis", "ab" * 32, code=11).err
    (auditor.custody.home / "custody.toml").unlink()
    assert "no genesis trust root is pinned" in auditor.custody("log", "verify", "log", code=16).err
    assert "FINDING rule-root" in auditor.custody("log", "verify", "log", "--genesis", "ab" * 32, code=11).out
    assert "OK" in auditor.custody("log", "verify", "log", "--genesis", auditor.genesis).out


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["verify"], 2, "give the directory of a log, or --broker"),
        (["verify", "log", "--broker"], 2, "give the directory of a log, or --broker"),
        (["verify", "nowhere"], 13, "nowhere: no such directory"),
        (["verify", "home"], 13, "there is no log here"),
        (["show", "99", "--log", "log"], 13, "there is no entry 99: the log has entries 0 to 12"),
        (["show", "--log", "nowhere"], 13, "no such directory"),
        (["prove", "99", "--out", "x", "--log", "log"], 13, "there is no entry 99"),
        (["check-receipt", "log/checkpoint"], 10, "log/checkpoint: receipt: "),
    ],
)
def test_mistakes_are_said_in_one_line(auditor: Auditor, words: list[str], code: int, text: str) -> None:
    assert text in auditor.custody("log", *words, code=code).message


def test_the_newest_entries_are_a_table(auditor: Auditor) -> None:
    lines = auditor.custody("log", "show", "--log", "log", "--last", "3").out.splitlines()
    assert lines[0].split() == ["ENTRY", "TIME", "TYPE", "WHO", "WHAT"]
    assert [line.split()[0] for line in lines[1:]] == ["10", "11", "12"]
    assert f"{JOB}  opens a session of demo/model@1: 1 file, at most 4.9 KiB (5000 bytes)" in lines[2]


def test_one_entry_is_shown_in_full_with_its_documents(auditor: Auditor) -> None:
    index = auditor.index("request")
    shown = auditor.custody("log", "show", index, "--log", "log").out
    for text in (f"Entry {index}: request", "Document: request", "Document: terms", "reason", "a test", "leaf hash"):
        assert text in shown
    data = json.loads(auditor.custody("log", "show", index, "--log", "log", "--output", "json").out)
    assert [item["kind"] for item in data["documents"]] == ["request", "terms", "release-key"]


def test_an_altered_entry_is_not_shown(auditor: Auditor) -> None:
    bundle = auditor.log / "tile/entries/000.p/13"
    bundle.write_bytes(bundle.read_bytes().replace(b'"type":"grant"', b'"type":"qrant"'))
    assert "not the one that the checkpoint covers" in auditor.custody("log", "show", "--log", "log", code=11).err


def test_a_receipt_is_passed_on_and_checked_without_the_log(auditor: Auditor) -> None:
    index = auditor.index("grant")
    auditor.custody("log", "prove", index, "--out", "grant.receipt", "--log", "log")
    assert "exist" in auditor.custody("log", "prove", index, "--out", "grant.receipt", "--log", "log", code=14).err
    shutil.rmtree(auditor.log)
    done = auditor.custody("log", "check-receipt", "grant.receipt")
    assert "The receipt is valid" in done.out
    assert f"grants demo/model@1 to {JOB}: approved by alice, bob" in done.out
    stranger = Custody(auditor.custody.directory, auditor.custody.directory / "other home")
    words = ["log", "check-receipt", "grant.receipt", "--root", auditor.keys, "--genesis", auditor.genesis]
    data = json.loads(stranger(*words, "--output", "json").out)
    assert (data["valid"], data["index"], data["entry"]["type"]) == (True, index, "grant")


def test_a_receipt_is_held_against_the_document_that_it_is_to_be_of(auditor: Auditor) -> None:
    custody = auditor.custody
    for kind, name in (("session-intent", "one"), ("session-outcome", "two"), ("grant", "three")):
        custody("log", "prove", auditor.index(kind), "--out", name, "--log", "log")
    index = auditor.index("session-intent")
    saved = ("log", "show", index, "--log", "log", "--save", "evidence")
    assert f"Written: evidence/{index}-open.json" in custody(*saved).err
    assert "exists" in custody(*saved, code=14).message
    document = custody.directory / f"evidence/{index}-open.json"
    for name in ("one", "two"):
        assert "The receipt is valid" in custody("log", "check-receipt", name, "--document", document).out
    assert "of another entry" in custody("log", "check-receipt", "three", "--document", document, code=11).message
    envelope = Envelope.parse(document.read_bytes())
    (signature,) = envelope.signatures
    again = Envelope(
        payload=envelope.payload,
        payloadType=envelope.payloadType,
        signatures=(Signature(keyid=signature.keyid, sig=signature.sig[::-1]),),
    )
    (custody.directory / "resigned.json").write_bytes(again.encode())
    assert "of another entry" in custody("log", "check-receipt", "one", "--document", "resigned.json", code=11).message


def test_a_receipt_that_was_edited_is_refused(auditor: Auditor) -> None:
    auditor.custody("log", "prove", 3, "--out", "one", "--log", "log")
    auditor.custody("log", "prove", 4, "--out", "two", "--log", "log")
    one, two = (json.loads((auditor.custody.directory / name).read_text()) for name in ("one", "two"))
    forged = json.dumps(one | {"proof": two["proof"]}, sort_keys=True, separators=(",", ":"))
    (auditor.custody.directory / "forged").write_text(forged)
    assert "inclusion proof" in auditor.custody("log", "check-receipt", "forged", code=11).message


def test_the_help_has_examples(auditor: Auditor) -> None:
    for words in (
        [],
        ["verify"],
        ["show"],
        ["prove"],
        ["check-receipt"],
        ["who"],
        ["what"],
        ["diff"],
        ["watch"],
        ["report"],
    ):
        shown = auditor.custody("log", *words, "--help").out
        assert "Example" in shown
        assert "custody log " in shown


def test_the_genesis_of_the_deployment_is_what_the_home_pins(auditor: Auditor) -> None:
    envelope = Envelope.parse((auditor.keys / "root.json").read_bytes())
    assert envelope.digest == auditor.genesis
