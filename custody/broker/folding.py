"""Folding the journal: its entries in pages, with their documents, judged one after the other.

Signatures of the pages that come next are verified meanwhile, where there is somebody who does that (``Prover``).
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from custody.documents.dsse import Envelope
from custody.documents.glance import read_envelope
from custody.entries.entry import Entry
from custody.entries.glance import read_entry
from custody.ports import Journal
from custody.rules.ahead import Claims, Proof, believe, claims_of
from custody.rules.state import State
from custody.rules.step import step
from custody.tlog.merkle import leaf_hash

__all__ = ["Prover", "fold", "nobody"]

_PAGE: Final = 512  # entries

Prover = Callable[[Iterator[Claims]], Iterator[Sequence[Proof]]]
"""Yields for each claims, in order, those that are true, or some of them. Takes claims ahead."""


@dataclass(frozen=True, slots=True)
class _Page:
    """Entries with their leaf hashes (hex), and the envelopes that they name, by digest."""

    entries: Sequence[tuple[Entry, str]]
    envelopes: dict[str, Envelope]
    claims: Claims


def nobody(claims: Iterator[Claims]) -> Iterator[Sequence[Proof]]:
    """Verify nothing ahead: the rules do it."""
    for _ in claims:
        yield ()


def fold(journal: Journal, state: State, prover: Prover = nobody) -> Iterator[tuple[int, Entry]]:
    """Apply every entry to ``state`` and yield it with its index. Raises what the rules raise."""
    pages: deque[_Page] = deque()

    def claims() -> Iterator[Claims]:
        for page in _pages(journal, state):
            pages.append(page)
            yield page.claims

    for proofs in prover(claims()):
        page = pages.popleft()
        believe(page.claims, proofs, page.envelopes)
        for entry, leaf in page.entries:
            step(state, entry, page.envelopes, leaf=leaf)
            yield state.size - 1, entry


def _pages(journal: Journal, state: State) -> Iterator[_Page]:
    start = 0
    while rows := journal.rows(start, _PAGE):
        start += len(rows)
        entries = [read_entry(row.entry) for row in rows]
        named = {item.envelope: row.index for row, entry in zip(rows, entries, strict=True) for item in entry.documents}
        stored = journal.documents(named)
        if lost := named.keys() - stored.keys():
            journal.document(min(lost), named[min(lost)])  # says that it is not there
        envelopes = {digest: read_envelope(data) for digest, data in stored.items()}
        leaves = [leaf_hash(row.entry).hex() for row in rows]
        claims = claims_of(entries, envelopes, state.root if state.roots else None)
        yield _Page(list(zip(entries, leaves, strict=True)), envelopes, claims)
