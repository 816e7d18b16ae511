"""Names and texts that want to be paths, commands or screens: refused at the edge, in every field of every call."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from custody.app.sealing import Sealed
from custody.documents.codec import encode
from custody.documents.decision import Decision
from custody.documents.dsse import Envelope
from custody.documents.request import Request
from custody.documents.stop import Stop
from custody.errors import CustodyError, DeniedError, FormatError, NotFoundError
from custody.wire.calls import Calls
from tests.doubles import malice
from tests.doubles.site import Site

PATHS = {
    "up": "../../broker/row.key",
    "absolute": "/etc/passwd",
    "dots": "..",
    "empty": "",
    "double slash": "demo//model@1",
    "slash at the end": "demo/model@1/",
    "NUL": "demo/model@1\0",
    "newline": "demo/model@1\n",
    "percent": "demo%2fmodel@1",
    "backslash": "demo\\model@1",
    "division slash": "demo\u2215model@1",
    "fullwidth": "\uff44emo/model@1",
    "cyrillic": "dem\u043e/model@1",
    "one dot leader": "\u2024\u2024/model@1",
    "not UTF-8 normal": "de\u0301mo/model@1",
    "drive": "C:\\model@1",
    "template": "{{7*7}}$(id)`id`",
    "SQL": "demo/model@1' OR 1=1 --",
    "ten megabytes": "a" * (10 << 20),
}
SCREENS = {
    "ANSI": "\x1b[2J\x1b]0;approved\x07",
    "C1": "\x9b31m",
    "carriage return": "harmless\rAPPROVED",
    "line feed": "one\ntwo",
    "bidi": "\u202egnp.exe",
    "isolate": "\u2066x\u2069",
    "zero width": "pay\u200bload",
    "byte order mark": "\ufeffx",
    "soft hyphen": "pass\u00adword",
    "tag": "x\U000e0041",
    "filler": "\u3164",
    "line separator": "a\u2028b",
    "private use": "\ue000",
    "decomposed": "e\u0301",
    "no-break space": "a\u00a0b",
    "long": "x" * 10_000,
}


@pytest.fixture(autouse=True)
def unharmed(site: Site, sealed: Sealed) -> Iterator[None]:
    """Whatever was sent: nothing foreseen was left out, nothing was written outside, and the broker goes on."""
    before = files(site)
    yield
    assert "call failed" not in site.errors("broker")
    assert files(site) == before
    with site.calls("alice") as alice:
        assert alice.get_version(sealed.content.version).version == sealed.content.version


def files(site: Site) -> set[Path]:
    """What lies there, but for the log, tombstones of stops, and what tests themselves seal."""
    return {path for path in site.directory.rglob("*") if not {"log", "store", "state"} & set(path.parts)}


@pytest.mark.parametrize("name", PATHS)
def test_a_path_in_every_field_of_every_call(site: Site, name: str) -> None:
    evil = PATHS[name]
    refusals = (NotFoundError, FormatError, DeniedError)
    calls: list[Callable[[Calls], Any]] = [
        lambda broker: broker.get_log_object(evil),
        lambda broker: broker.get_log_object(f"documents/{evil}"),
        lambda broker: broker.get_log_object(f"tile/0/000/{evil}"),
        lambda broker: broker.get_log_object(f"checkpoints/{evil}"),
        lambda broker: broker.list_log_objects(evil),
        lambda broker: broker.get_log_objects([evil[:99]] * 257),
        lambda broker: broker.get_version(evil),
        lambda broker: broker.get_request(evil),
        lambda broker: list(broker.read(evil, 0)),
        lambda broker: broker.read_digests(evil, 0, 1 << 20),
        lambda broker: broker.close_session(evil),
        lambda broker: broker.register_version(evil.encode()),
    ]
    with site.calls("alice") as alice:
        assert alice.get_log_object("checkpoint").startswith(b"custody.example.org/test\n")
        for call in calls:
            with pytest.raises(refusals) as caught:
                call(alice)
            assert len(caught.value.message) < 600
        alice.list_versions(page_token=evil)
        alice.list_requests(page_token=evil)
        alice.list_log_objects("checkpoints/", evil)
        assert alice.get_log_objects([evil]) == [None]


LOG_PATHS = [
    "", "checkpoint/", "/checkpoint", "checkpoint\n", "checkpoint\0", "./checkpoint", "../checkpoint",
    "documents/", "documents/../checkpoint", "checkpoints/01", "checkpoints/-1", "checkpoints/\u0661", "tile/0/001/000",
    "tile/0/x001", "tile/99/000", "tile/0/000.p/0", "tile/0/000.p/256", "tile//000", "tile/entries/../0/000",
    "documents/" + "g" * 64,
]  # fmt: skip


def test_log_paths_that_are_none(site: Site) -> None:
    with site.calls("alice") as alice:
        for path in LOG_PATHS:
            with pytest.raises(NotFoundError):
                alice.get_log_object(path)
        for prefix in ("", "documents", "tile", "checkpoints/1", "../", "tile/../"):
            with pytest.raises(FormatError, match="are listed"):
                alice.list_log_objects(prefix)
        with pytest.raises(FormatError, match="0 paths"):
            alice.get_log_objects([])
        kept = alice.list_log_objects("checkpoints/")[-1]
        found = alice.get_log_objects([*LOG_PATHS, kept])
        assert found == [*[None] * len(LOG_PATHS), alice.get_log_object(kept)]
        assert alice.list_log_objects("checkpoints/", "checkpoints/9999") == []


@pytest.mark.parametrize("field", ["version", "beneficiary", "purpose", "content", "deployment", "nonce", "kind"])
def test_a_path_in_a_field_of_a_signed_request(site: Site, sealed: Sealed, field: str) -> None:
    honest = site.request(sealed)
    with site.calls("dave") as dave:
        for name, evil in PATHS.items():
            if name == "ten megabytes" and field != "version":
                continue
            envelope = malice.sign_json(honest.document(Request), site.signer("dave"), **{field: evil})
            with pytest.raises(FormatError):
                dave.submit_request(envelope)
        assert dave.submit_request(honest).phase == "requested"


def test_a_path_of_a_file_of_a_version(site: Site, draft: Sealed) -> None:
    """A job would write its files where the sealer says."""
    evil = [
        "../x",
        "/etc/passwd",
        "a//b",
        "a/./b",
        "..",
        "a/",
        "C:x",
        "a\\b",
        "a\u2215b",
        "\u2024\u2024/x",
        "a\0b",
        "\uff41",
    ]
    for path in [*evil, *SCREENS.values(), "x" * 256, "x/" * 600 + "y"]:
        files = [{**json.loads(encode(draft.content.files[0])), "path": path}]
        envelope = malice.sign_json(draft.content, site.signer("dave"), files=files)
        with site.calls("dave") as dave, pytest.raises(FormatError):
            dave.register_version(manifest(draft, envelope))
    site.register(draft)


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_in_every_text_that_a_person_is_shown(site: Site, sealed: Sealed, name: str) -> None:
    """Reason, ticket, note: refused when they come in, so no terminal, web page or report ever shows them."""
    evil = SCREENS[name]
    with site.calls("dave") as dave:
        request = site.request(sealed)
        for field in ("reason", "ticket"):
            with pytest.raises(FormatError, match=field):
                dave.submit_request(malice.sign_json(request.document(Request), site.signer("dave"), **{field: evil}))
        view = dave.submit_request(request)
        note = malice.sign_json(site.decide(view, "alice")[0].document(Decision), site.signer("alice"), note=evil)
        stop = site.stop_document("dave", "withdraw", view.request).document(Stop)
        with pytest.raises(FormatError, match="note"):
            dave.decide(note)
        with pytest.raises(FormatError, match="reason"):
            dave.stop(malice.sign_json(stop, site.signer("dave"), reason=evil))
        dave.stop(site.sign_as("dave", stop))


def test_markup_is_text(site: Site, sealed: Sealed) -> None:
    """HTML and chat markup are visible characters: they are logged as they are, and escaped by whoever shows them."""
    text = "<script>alert(1)</script> *bold* @channel [x](https://evil.example) `id` ${jndi:ldap://x}"
    with site.calls("dave") as dave:
        view = dave.submit_request(site.request(sealed, reason=text))
    assert any(text in envelope.payload.decode() for envelope in view.envelopes)


def test_error_messages_do_not_carry_the_terminal_either(site: Site) -> None:
    with site.calls("alice") as alice:
        for evil in SCREENS.values():
            with pytest.raises(CustodyError) as caught:
                alice.get_version(evil)
            assert caught.value.message.isprintable()


def manifest(sealed: Sealed, content: Envelope) -> bytes:
    """A manifest with another content, whatever it is."""
    return sealed.manifest.encode().replace(sealed.manifest.content.encode(), content.encode(), 1)
