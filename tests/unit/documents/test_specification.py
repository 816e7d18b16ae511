"""The tables of ``proto/spec`` have the members that the code has: no more, no fewer."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from custody.documents.content import Content, File
from custody.documents.decision import Decision
from custody.documents.dsse import Document, Envelope
from custody.documents.hello import Hello
from custody.documents.manifest import Manifest
from custody.documents.release import Release, ReleaseKey
from custody.documents.request import Request
from custody.documents.root import BrokerKey, Log, NamedPerson, Owner, Root, Roster, Sealer
from custody.documents.session import OpenSession
from custody.documents.sharing import Sharing
from custody.documents.stop import Stop
from custody.documents.terms import Terms
from custody.entries.entry import FIELDS, Entry, EntryType

# page, heading of the section, first word of the table's head, what it describes
TABLES: list[tuple[str, str, str, type[msgspec.Struct]]] = [
    ("documents", "Envelope", "member", Envelope),
    ("documents", "request", "member", Request),
    ("documents", "terms", "member", Terms),
    ("documents", "release-key", "member", ReleaseKey),
    ("documents", "decision", "member", Decision),
    ("documents", "release", "member", Release),
    ("documents", "open", "member", OpenSession),
    ("documents", "stop", "member", Stop),
    ("documents", "hello", "member", Hello),
    ("root", "The trust root", "member", Root),
    ("root", "The trust root", "person", NamedPerson),
    ("root", "The trust root", "roster", Roster),
    ("root", "The trust root", "broker", BrokerKey),
    ("root", "The trust root", "log", Log),
    ("root", "The trust root", "sealer", Sealer),
    ("root", "The trust root", "owner", Owner),
    ("manifest", "content", "member", Content),
    ("manifest", "content", "file", File),
    ("manifest", "sharing", "member", Sharing),
    ("manifest", "Manifest", "member", Manifest),
]


def rows(page: str, heading: str, head: str) -> Iterator[list[str]]:
    """The cells of the table with this head in this section."""
    text = (Path(__file__).resolve().parents[3] / f"proto/spec/{page}.md").read_text()
    section = re.split(rf"^#+ {re.escape(heading)}$", text, flags=re.MULTILINE)[1]
    lines = iter(re.split(r"^#+ ", section, flags=re.MULTILINE)[0].splitlines())
    for line in lines:
        if line.startswith((f"| {head} | type", f"| {head} | has")):
            next(lines)
            break
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line[1:-1].split("|")]


def members(cells: Iterator[list[str]]) -> list[str]:
    return [name.strip() for cell in cells for name in cell[0].split(",")]


@pytest.mark.parametrize(
    ("page", "heading", "head", "struct"), TABLES, ids=[f"{row[0]}-{row[1]}-{row[2]}" for row in TABLES]
)
def test_a_table_has_the_members_of_its_record(page: str, heading: str, head: str, struct: Any) -> None:
    listed = members(rows(page, heading, head))
    assert len(set(listed)) == len(listed)
    assert set(listed) == set(struct.__struct_fields__)


def test_every_kind_of_document_has_a_table() -> None:
    assert set(Document.__subclasses__()) <= {struct for *_, struct in TABLES}


def test_the_tables_of_entries_have_its_fields() -> None:
    always = members(rows("entries", "Fields", "member"))
    assert set(always) == set(Entry.__struct_fields__[: Entry.__struct_fields__.index("actor")])
    text = (Path(__file__).resolve().parents[3] / "proto/spec/entries.md").read_text()
    by_type = text.split("and, by type, these.")[1].split("| type | has |")[0]
    names = re.findall(r"^\| ([a-z_, ]+) \|", by_type, flags=re.MULTILINE)
    listed = [name.strip() for row in names if row != "member" for name in row.split(",")]
    assert sorted(listed) == sorted(Entry.__struct_fields__[Entry.__struct_fields__.index("actor") :])


def test_the_table_of_types_is_that_of_the_code() -> None:
    found = {}
    for kind, required, optional, _ in rows("entries", "Fields", "type"):
        may = re.sub(r"\(.*\)", "", optional)
        found[kind] = (frozenset(required.split()), frozenset(may.split()))
    assert found == FIELDS
    assert set(found) == set(get_args(EntryType))


def test_the_pages_are_those_that_the_index_names() -> None:
    folder = Path(__file__).resolve().parents[3] / "proto/spec"
    index = (folder / "README.md").read_text()
    linked = set(re.findall(r"\(([a-z-]+\.md)\)", index))
    assert linked == {path.name for path in folder.glob("*.md")} - {"README.md"}


def test_links_between_pages_lead_somewhere() -> None:
    folder = Path(__file__).resolve().parents[3] / "proto/spec"
    for path in folder.glob("*.md"):
        for target in re.findall(r"\]\(([^):#]+)\)", path.read_text()):
            assert (folder / target).exists(), f"{path.name}: {target}"
