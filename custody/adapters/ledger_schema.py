"""Brings a ledger's tables to the schema that this program knows, whenever a ledger is opened.

The migrations (alembic, ``ledger_migrations``) say what the schema is and how an older one becomes it. Most starts need
none of that: the version table names the newest schema already, or the database is empty and ``METADATA`` is made as it
stands, which a test compares with what the migrations make. Only an older ledger, or a strange one, needs alembic,
whose import alone would be a good part of a broker's start.
"""

from typing import Final

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, insert, inspect, select

from custody.adapters.ledger_tables import METADATA

__all__ = ["NEWEST", "bring_up_to_date"]

NEWEST: Final = "0002"
"""The last of the migrations, which make ``METADATA``."""

# As alembic makes and reads it; its name is that in ``ledger_migrations``.
_VERSION: Final = Table(
    "ledger_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="ledger_version_pkc"),
)


def bring_up_to_date(connection: Connection) -> None:
    """Make or change the tables within the open write transaction. Raises ``ConfigError`` as ``upgrade`` does."""
    tables = set(inspect(connection).get_table_names())
    if _VERSION.name in tables:
        if connection.scalars(select(_VERSION.c.version_num)).all() == [NEWEST]:
            return
    elif tables.isdisjoint(METADATA.tables):
        METADATA.create_all(connection, checkfirst=False)
        _VERSION.create(connection)
        connection.execute(insert(_VERSION).values(version_num=NEWEST))
        return
    from custody.adapters.ledger_migrations import upgrade

    upgrade(connection)
