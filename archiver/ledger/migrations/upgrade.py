"""Brings a ledger to this version's schema (Alembic), or says in a sentence why it cannot be done.

Only a daemon migrates, at its start and within one transaction: a crash in the middle leaves the old schema. A command
may be newer than the daemon beside it, which would then write to a schema that it does not know.
"""

import functools
import pathlib

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from archiver.ledger.databases.dialect import take_turns
from archiver.ledger.databases.errors import LedgerMissing, LedgerUnusable
from archiver.ledger.databases.file import APPLICATION_ID, missing
from archiver.ledger.tables.schema import metadata

_FOLDER = pathlib.Path(__file__).parent


def migrate(connection: sa.Connection, *, name: str) -> str | None:
    """Upgrade to the newest revision; the revision it came from, or None where nothing had to be done.

    Raises LedgerUnusable for a ledger that a newer version has written; whose it is, `open_file` has looked at.
    """
    scripts = _scripts()
    take_turns(connection)
    current = _current(connection)
    if current == scripts.get_current_head():
        return None
    _refuse_newer(current, scripts, name=name)
    config = alembic_config()
    config.attributes["connection"] = connection
    if current is None and connection.dialect.name == "postgresql":
        metadata.create_all(connection)
        command.stamp(config, "head")
    else:
        command.upgrade(config, "head")
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID:d}")
    return current or "nothing"


def require_current(connection: sa.Connection, *, name: str) -> None:
    """Change nothing. Raises LedgerUnusable unless the ledger has exactly this version's schema, LedgerMissing if it
    has none: a daemon has made the file and not got further.
    """
    scripts = _scripts()
    current = _current(connection)
    if current == scripts.get_current_head():
        return
    if current is None:
        raise LedgerMissing(missing(name))
    _refuse_newer(current, scripts, name=name)
    raise LedgerUnusable(
        f"the ledger {name} was written by an older version (schema {current}) and was left as it is: start this "
        "version's kling-receiver, which migrates it, or use the kling-archiver of the version that runs"
    )


def alembic_config() -> Config:
    """Of the revisions; it wants a connection in its attributes."""
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config


@functools.cache
def _scripts() -> ScriptDirectory:
    """Read once a process: Alembic imports every revision to find the newest."""
    return ScriptDirectory.from_config(alembic_config())


def _current(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_newer(current: str | None, scripts: ScriptDirectory, *, name: str) -> None:
    if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
        raise LedgerUnusable(
            f"the ledger {name} was written by a newer version (schema {current}): run that version, or a newer one"
        )
