"""What alembic runs: the migrations, on the connection and in the transaction that ``upgrade`` has opened."""

from alembic import context

from custody.adapters.ledger_migrations import VERSION_TABLE
from custody.adapters.ledger_tables import METADATA

__all__: list[str] = []

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite alters tables by copying them
)
with context.begin_transaction():
    context.run_migrations()
