"""SQL for a whole ledger at once: `move-ledger` reads, fills and sets aside every table."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from archiver.ledger.databases.dialect import take_turn
from archiver.ledger.databases.limits import limits_of
from archiver.ledger.tables import schema

_WAIT_SECONDS = 60
"""How long to wait for locks of others: a killed process's transaction ends a little after the process."""

TABLES = tuple(table for table in schema.metadata.sorted_tables if table is not schema.schema_uses)
"""The tables whose rows are moved; a table comes after the tables that it refers to."""


def make_unhurried(connection: sa.Connection) -> None:
    """This transaction may take hours and rest for minutes. It alone may migrate or move the ledger."""
    if connection.dialect.name == "postgresql":
        limits = limits_of(connection, limit="0") | {"lock_timeout": f"{_WAIT_SECONDS}s"}
        connection.execute(sa.select(*(sa.func.set_config(*limit, True) for limit in limits.items())))
    else:
        driver: Any = connection.connection.driver_connection
        driver.text_factory = _text
    take_turn(connection)


def _text(stored: bytes) -> str:
    """SQLite keeps any bytes as text."""
    return stored.decode(errors="replace")


def lock_tables(connection: sa.Connection, names: Collection[str] = tuple(schema.metadata.tables)) -> None:
    """Lock the tables until this transaction ends: no other transaction reads or writes them. SQLite's writer has
    locked them all against writing."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"LOCK TABLE {', '.join(names)} IN ACCESS EXCLUSIVE MODE")


def rows_of(
    connection: sa.Connection, table: sa.Table, *, batch_rows: int
) -> Iterator[list[tuple[Any, ...]]]:
    """All rows in the order of their keys, in batches: no more than one is in memory."""
    query = sa.select(table).order_by(*table.primary_key.columns)
    with connection.execute(query, execution_options={"yield_per": batch_rows}) as found:
        for batch in found.partitions():
            yield [tuple(row) for row in batch]


def insert_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows as `rows_of` gives them."""
    names = ", ".join(connection.dialect.identifier_preparer.quote(column.name) for column in table.columns)
    if connection.dialect.name != "postgresql":
        marks = ", ".join("?" * len(table.columns))
        connection.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", list(rows))  # noqa: S608 -- names of our schema
        return
    driver: Any = connection.connection.driver_connection
    try:
        # A third of the time that INSERT takes.
        with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    except connection.dialect.loaded_dbapi.Error as error:
        raise exc.DBAPIError.instance(
            f"COPY {table.name}",
            None,
            error,
            connection.dialect.loaded_dbapi.Error,
            dialect=connection.dialect,
        ) from error


def number_on(connection: sa.Connection) -> None:
    """Set each table's sequence above the largest id. SQLite finds the largest id by itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in TABLES:
        if table.autoincrement_column is not None:
            largest = sa.select(sa.func.max(table.c.id)).scalar_subquery()
            sequence = sa.func.pg_get_serial_sequence(table.name, "id")
            is_used = largest.is_not(None)
            connection.execute(sa.select(sa.func.setval(sequence, sa.func.coalesce(largest, 1), is_used)))


def analyze(connection: sa.Connection) -> None:
    """Give PostgreSQL's planner statistics about the rows; by itself it would have them only a minute later."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"ANALYZE {', '.join(schema.metadata.tables)}")


def drop_tables(connection: sa.Connection) -> None:
    """Drop the ledger's tables, whatever revision they are of."""
    for name in [*reversed([table.name for table in schema.metadata.sorted_tables]), "alembic_version"]:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")


def set_tables_aside(connection: sa.Connection, *, suffix: str) -> None:
    """Rename the ledger's tables and free the names of their indexes, so that a ledger can be made beside them."""
    is_postgres = connection.dialect.name == "postgresql"
    if is_postgres:
        names = {"tables": list(schema.metadata.tables)}
        for kind, name in list(connection.execute(_WITH_NAMES, names)):
            connection.exec_driver_sql(f'ALTER {kind} "{name}" RENAME TO "{name}{suffix}"')
    for table in schema.metadata.sorted_tables:
        if not is_postgres:
            for index in table.indexes:  # which SQLite cannot rename
                index.drop(connection)
        connection.exec_driver_sql(f"ALTER TABLE {table.name} RENAME TO {table.name}{suffix}")


_WITH_NAMES = sa.text(
    "SELECT CASE other.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'INDEX' END, other.relname FROM pg_class AS other"
    " JOIN pg_class AS owner ON owner.relnamespace = current_schema()::regnamespace AND owner.relname = ANY (:tables)"
    " WHERE other.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = owner.oid"
    " UNION SELECT objid FROM pg_depend WHERE refobjid = owner.oid AND classid = 'pg_class'::regclass"
    " AND deptype IN ('a', 'i')) AND other.relkind IN ('i', 'S')"
)
"""Indexes and sequences of the ledger's tables."""
