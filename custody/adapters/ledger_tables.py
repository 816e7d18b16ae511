"""The five tables of the ledger. They hold a journal and nothing that is not in it, but for wrapped shares.

::

    entries            idx bigint primary key | entry blob, leaf bytes | mac blob, 32 bytes
    documents          digest text primary key, 64 hex digits | envelope blob
    shares             request text, slot text: primary key | wrapped blob
    signed_checkpoint  id = 1 | checkpoint blob, a signed note
    pruned             id = 1 | size bigint | root blob, 32 bytes | mac blob, 32 bytes

``mac`` is HMAC-SHA-256(row key, lp(deployment) || u64 idx || entry); that of ``pruned`` stands for the index 2^64-1,
which no entry has, and the entry u64 size || root. See ``proto/spec/log.md``. SQLite tables are
STRICT, so that a column holds what it says; what is read is checked all the same.
"""

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, LargeBinary, MetaData, Table, Text

__all__ = ["DOCUMENTS", "ENTRIES", "METADATA", "PRUNED", "SHARES", "SIGNED_CHECKPOINT"]

METADATA: Final = MetaData()

ENTRIES: Final = Table(
    "entries",
    METADATA,
    # On SQLite an INTEGER primary key is the row's own number: no second index.
    Column("idx", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("entry", LargeBinary, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    sqlite_strict=True,
)

DOCUMENTS: Final = Table(
    "documents",
    METADATA,
    Column("digest", Text, primary_key=True),
    Column("envelope", LargeBinary, nullable=False),
    sqlite_strict=True,
)

SHARES: Final = Table(
    "shares",
    METADATA,
    Column("request", Text, primary_key=True),
    Column("slot", Text, primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
    sqlite_strict=True,
)

SIGNED_CHECKPOINT: Final = Table(
    "signed_checkpoint",
    METADATA,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("checkpoint", LargeBinary, nullable=False),
    sqlite_strict=True,
)

PRUNED: Final = Table(
    "pruned",
    METADATA,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("size", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    sqlite_strict=True,
)
