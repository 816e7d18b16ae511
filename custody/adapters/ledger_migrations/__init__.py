"""The ledger's schema, version by version (alembic). An older ledger is migrated when opened (``ledger_schema``)."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from custody.errors import ConfigError

__all__ = ["VERSION_TABLE", "upgrade"]

VERSION_TABLE = "ledger_version"


def upgrade(connection: Connection) -> None:
    """Bring the schema up to date within the open write transaction.

    Raises ``ConfigError`` for a schema that this program does not know: writing to it could destroy what a newer one
    keeps there.
    """
    config = Config()
    # The separator is no part of any path here; alembic wants to be told so.
    config.set_main_option("path_separator", "os")
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    present = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_heads()
    known = {revision.revision for revision in script.walk_revisions()}
    if unknown := sorted(set(present) - known):
        raise ConfigError(
            f"the ledger has schema {unknown[0]}, which this program does not know",
            hint="it was made by a newer version of custody: install that one",
        )
    if set(present) != set(script.get_heads()):
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
