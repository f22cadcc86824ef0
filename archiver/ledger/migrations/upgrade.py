"""Brings a ledger file to this version's schema (Alembic), or says in a sentence why it cannot be done.

Runs at every start, within one transaction: a crash in the middle leaves the old schema.
"""

import functools
import pathlib

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from archiver.ledger.databases.sqlite import APPLICATION_ID, LedgerUnusable

_FOLDER = pathlib.Path(__file__).parent


def migrate(connection: sa.Connection, *, name: str) -> str | None:
    """Upgrade to the newest revision; the revision it came from, or None where nothing had to be done.

    Raises LedgerUnusable for a file that a newer version has written; whose it is, `open_file` has looked at.
    """
    scripts = _scripts()
    current = MigrationContext.configure(connection).get_current_revision()
    if current == scripts.get_current_head():
        return None
    if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
        raise LedgerUnusable(
            f"the ledger {name} was written by a newer version (schema {current}): run that version, or a newer one"
        )
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID:d}")
    return current or "nothing"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config


@functools.cache
def _scripts() -> ScriptDirectory:
    """Read once a process: Alembic imports every revision to find the newest."""
    return ScriptDirectory.from_config(_config())
