"""Nothing private and nothing about anyone's machine is in the tree."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.house.tree import files, texts

# Each pattern is broken up, so that this file does not find itself.
PRIVATE = {
    "a PEM private key": re.compile(
        "-----BEGIN [A-Z0-9 ]*" + r"PRIVATE KEY(?: BLOCK)?-----[\s\\nr]{1,8}[A-Za-z0-9+/=]{16}"
    ),
    "a signed-note signer key": re.compile("PRIVATE" + r"\+KEY\+[^\s+]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]{43}"),
    "an age identity": re.compile("AGE-" + "SECRET-KEY-1[0-9A-Z]{40}"),
}
REGISTRY = re.compile(r"(?:py" + r"pi\.org|python" + r"hosted\.org|registry\.npm" + r"js|deb\.debian" + r"\.org)")
# After a word, a dot or a placeholder a slash is part of a longer path or of a URL, not the start of a machine's.
MACHINE = re.compile(r"(?<![\w.)}>*\]-])/(?:root|work|home|Users|tmp/w)" + r"/[\w.~]")

# Worked examples of the byte formats need a key to sign with; only for names under the domain reserved for examples.
_VECTOR_KEY = re.compile("PRIVATE" + r"\+KEY\+[a-z0-9.-]+\.example[/+]")

KEYS = re.compile(r"keys/(?:README\.md|root(?:-[1-9][0-9]*)?\.json|[\w-]+\.vkey|witness\.policy|[\w-]+\.pem)")
PUBLIC_BLOCKS = {"CERTIFICATE", "PUBLIC KEY"}


@pytest.mark.parametrize("kind", PRIVATE)
def test_no_private_key_is_in_the_tree(kind: str) -> None:
    found = [(path, match[0]) for path, text in texts() for match in PRIVATE[kind].finditer(text)]
    assert [str(path) for path, key in found if not (_VECTOR_KEY.match(key) and "vectors" in path.parts)] == []


def test_the_patterns_find_what_they_are_for() -> None:
    armour = "-----BEGIN EC PRIVATE KEY" + "-----\n"
    assert PRIVATE["a PEM private key"].search(armour + "A" * 64)
    assert PRIVATE["a PEM private key"].search(armour.replace("\n", r"\n") + "A" * 64)
    assert PRIVATE["a signed-note signer key"].search("PRIVATE" + "+KEY+log.example+0a1b2c3d+" + "A" * 44)
    assert REGISTRY.search("https://" + "py" + "pi.org/simple")
    assert MACHINE.search("see /" + "home/alice/notes")
    assert not MACHINE.search("{store}/" + "root/1.json")


def test_keys_holds_only_public_things() -> None:
    for path, text in texts():
        if path.parts[0] != "keys":
            continue
        assert KEYS.fullmatch(path.as_posix()), f"{path} has no place in keys/"
        assert set(re.findall(r"-----BEGIN ([A-Z0-9 ]+)-----", text)) <= PUBLIC_BLOCKS, path
        if path.suffix == ".json":
            assert not any(re.search("private|secret|seed", name) for name in _names(json.loads(text))), path


def test_no_registry_and_no_machine_is_named() -> None:
    found = [
        f"{path}:{number}: {line.strip()[:80]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if REGISTRY.search(line) or MACHINE.search(line)
    ]
    assert found == []


def test_no_file_is_named_like_a_key_file() -> None:
    assert [str(path) for path in files() if path.suffix in {".key", ".keyfile", ".seed", ".p12", ".pfx"}] == []


def _names(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name)
            yield from _names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _names(inner)


def test_locks_hold_hashes_and_no_place() -> None:
    locks = [(path, text) for path, text in texts() if path.parent == Path("ops/requirements")]
    names = ("bench", "bench-torch", "demo", "demo-s3", "dev", "run")
    assert {path.name for path, _ in locks} == {f"{name}.txt" for name in names}
    for path, text in locks:
        pins = re.findall(r"^[\w.-]+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})?", text, re.MULTILINE)
        assert pins, path
        assert all(pins), f"{path}: a pin without a hash"
        assert not re.search(r"://|--(?:index|extra-index|find-links|trusted)", text), path
