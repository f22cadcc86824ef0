"""Ledgers of other versions: as an earlier one left them, and revisions that a later one may add."""

import contextlib
import pathlib
import sqlite3
import textwrap
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from archiver.ledger.databases.file import APPLICATION_ID
from archiver.ledger.migrations import revisions
from tests.harness.repository import SAMPLES

RELEASED = ("0001", "0002")


def url_of(engine: sa.Engine) -> str:
    """As KLING_LEDGER_URL has it."""
    return engine.url.set(drivername=engine.dialect.name).render_as_string(hide_password=False)


def lay_old_ledger(engine: sa.Engine, revision: str) -> None:
    """A ledger of a released revision, with the rows of the sample."""
    sample = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    with engine.begin() as connection, sample.begin() as rows:
        revisions.run(connection, revision)
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
        driver = rows.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.executescript((SAMPLES / "ledger_0002.sql").read_text())
        tables = sa.MetaData()
        tables.reflect(connection)
        for table in tables.sorted_tables:
            if table.name == "alembic_version":
                continue
            found = rows.exec_driver_sql(f"SELECT * FROM {table.name}").mappings()  # noqa: S608 -- our tables
            is_bool = {column.name for column in table.columns if isinstance(column.type, sa.Boolean)}
            for row in found:
                connection.execute(
                    sa.insert(table),
                    {name: bool(value) if name in is_bool else value for name, value in row.items()},
                )
            if connection.dialect.name == "postgresql" and "id" in table.columns and table.name != "daemons":
                connection.exec_driver_sql(
                    f"SELECT setval('{table.name}_id_seq', coalesce(max(id), 1)) FROM {table.name}"  # noqa: S608 -- our tables
                )
    sample.dispose()


@contextlib.contextmanager
def added_revisions(folder: pathlib.Path, *bodies: str) -> Iterator[list[str]]:
    """The program of a later version: one more revision for each of `bodies`, which are modules without their names.
    Theirs are returned."""
    last = revisions.newest()
    names = [str(int(last) + 1 + number).rjust(4, "0") for number in range(len(bodies))]
    for name, before, body in zip(names, [last, *names], bodies, strict=False):
        head = f"import sqlalchemy as sa\nfrom alembic import op\n\nrevision, down_revision = {name!r}, {before!r}\n"
        (folder / f"{name}_later.py").write_text(head + textwrap.dedent(body))
    plain = revisions.alembic_config

    def with_added() -> object:
        config = plain()
        ours = pathlib.Path(revisions.__file__).parent / "versions"
        config.set_main_option("path_separator", "newline")
        config.set_main_option("version_locations", f"{ours}\n{folder}")
        return config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(revisions, "alembic_config", with_added)
        revisions._all.cache_clear()  # noqa: SLF001 -- read once a process
        yield names
    revisions._all.cache_clear()  # noqa: SLF001 -- as above
