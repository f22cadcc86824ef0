"""SQL that is not the same in every database, and SQL that one needs and the others must tolerate."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite


def without_index(column: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """`column + 0`: SQLite does not choose an index for an expression, so it takes the one that gives the order."""
    return column + 0


def insert_missing(connection: sa.Connection, table: sa.Table) -> sa.Insert:
    """An INSERT that leaves rows alone which another process has inserted first. Its `rowcount` tells how many."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def upsert(
    connection: sa.Connection, table: sa.Table, values: Mapping[str, Any], *, update: Sequence[str]
) -> None:
    """Insert a row, or set the columns `update` of the one with its primary key."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(values)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={name: statement.excluded[name] for name in update},
        )
    )
