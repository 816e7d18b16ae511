"""The one row that says which entries are no longer in the database, and how they leave it.

Its MAC is that of a row whose index, 2^64-1, no entry can have: so whoever writes the database can neither claim that
more was pruned than was, nor name another tree for it. An older one of these rows put back does not fit the entries
that are there, which then lack some.
"""

import hmac
from collections.abc import Callable, Collection
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from custody.adapters.ledger_tables import DOCUMENTS, ENTRIES, PRUNED
from custody.crypto.encoding import u64
from custody.errors import ConflictError, IntegrityError
from custody.ports import Pruned

__all__ = ["Mac", "drop_rows", "read_pruned"]

Mac = Callable[[int, bytes], bytes]
"""The MAC of a row, from its index and bytes."""

_INDEX: Final = (1 << 64) - 1
_ROOT_SIZE: Final = 32
_AT_ONCE: Final = 500  # documents in one statement


def read_pruned(connection: Connection, mac: Mac) -> Pruned | None:
    """Return what was pruned, if anything was. Raises ``IntegrityError`` for a row that was not written by us."""
    found = connection.execute(select(PRUNED.c.size, PRUNED.c.root, PRUNED.c.mac)).one_or_none()
    if found is None:
        return None
    size, root, stated = found
    whole = isinstance(size, int) and isinstance(root, bytes) and isinstance(stated, bytes)
    if not whole or size <= 0 or len(root) != _ROOT_SIZE or not hmac.compare_digest(_mac(mac, size, root), stated):
        raise IntegrityError(
            "what the ledger says of pruned entries has a wrong MAC: it was edited",
            hint="put back the row key if it was changed by mistake; otherwise: custody ledger rebuild --help"
            " --from LOG",
        )
    return Pruned(size, root)


def drop_rows(connection: Connection, mac: Mac, to: Pruned, documents: Collection[str], size: int) -> None:
    """Delete within the open transaction; ``size`` is how many entries the ledger has. Raises ``ConflictError``."""
    before = read_pruned(connection, mac)
    if not (before.size if before else 0) < to.size < size:
        raise ConflictError(f"of {size} entries {before.size if before else 0} are pruned: {to.size} cannot be")
    connection.execute(delete(PRUNED))
    values = {"id": 1, "size": to.size, "root": to.root, "mac": _mac(mac, to.size, to.root)}
    connection.execute(insert(PRUNED).values(**values))
    connection.execute(delete(ENTRIES).where(ENTRIES.c.idx < to.size))
    digests = sorted(documents)
    for first in range(0, len(digests), _AT_ONCE):
        some = digests[first : first + _AT_ONCE]
        connection.execute(delete(DOCUMENTS).where(DOCUMENTS.c.digest.in_(some)))


def _mac(mac: Mac, size: int, root: bytes) -> bytes:
    return mac(_INDEX, u64(size) + root)
