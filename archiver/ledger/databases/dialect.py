"""SQL that differs between databases, and SQL that one database needs and the others must tolerate."""

import contextlib
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar, TypeVarTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from archiver.ledger.databases.limits import limits_of

_TURN = 0x6B6C696E67
"""("kling"). The number of an advisory lock, which all programs on the database share."""


_NAMED = "named"

_SORT_OFF = sa.select(sa.func.set_config("enable_sort", "off", True))
_SORT_ON = sa.select(sa.func.set_config("enable_sort", "on", True))

_Columns = TypeVarTuple("_Columns")
_Value = TypeVar("_Value")


def insert_missing(connection: sa.Connection, table: sa.Table) -> sa.Insert:
    """An INSERT that leaves rows alone which another process has inserted first. Its `rowcount` tells how many."""
    return _insert_missing(connection.dialect.name, table)


@functools.cache
def _insert_missing(dialect: str, table: sa.Table) -> sa.Insert:
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


@contextlib.contextmanager
def overwriting_what_is_deleted(connection: sa.Connection) -> Iterator[None]:
    """SQLite leaves the bytes of deleted rows in the file until it needs the room; within the block it overwrites them.
    PostgreSQL's vacuum does so when it comes by."""
    if connection.dialect.name == "postgresql":
        yield
        return
    before = connection.exec_driver_sql("PRAGMA secure_delete").scalar_one()
    connection.exec_driver_sql("PRAGMA secure_delete=ON")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"PRAGMA secure_delete={before:d}")


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


def upsert_unless_locked(
    connection: sa.Connection, table: sa.Table, values: Mapping[str, Any], *, update: Sequence[str]
) -> None:
    """The same, but a row that another transaction is writing is left to that one."""
    if connection.dialect.name != "postgresql":
        upsert(connection, table, values, update=update)
        return
    (key,) = table.primary_key.columns
    free = skipping_locked(sa.select(key).where(key == values[key.name]), table).scalar_subquery()
    changed = sa.update(table).where(is_one_of(key, free))
    if connection.execute(changed.values({name: values[name] for name in update})).rowcount:
        return
    # ON CONFLICT alone would wait for the transaction that is writing the row.
    if connection.execute(sa.select(key).where(key == values[key.name])).first() is None:
        connection.execute(insert_missing(connection, table), values)


def try_to_take_turn(connection: sa.Connection) -> bool:
    """Whether no other process is in a transaction that has had its turn: until its end, this one has it. SQLite has
    one writer anyway. A process must not wait for its turn inside a transaction: the process that has the turn may wait
    for that transaction to end.
    """
    if connection.dialect.name != "postgresql":
        return True
    # The work of this turn may take long, and this connection may rest while another one works.
    limits = limits_of(connection, limit="0")
    connection.execute(sa.select(*(sa.func.set_config(*limit, True) for limit in limits.items())))
    return bool(connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(_TURN))).scalar_one())


def take_turn(connection: sa.Connection) -> None:
    """Wait until no other process has its turn, at most as long as the transaction waits for locks."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_TURN)))


def is_named(column: sa.Column[str], *, several: bool) -> sa.ColumnElement[bool]:
    """The column is one of `naming`'s names. For one name the statement stays as it was compiled; an IN is written anew
    for each execution, which takes a third of the time of a small query."""
    if several:
        return column.in_(sa.bindparam(_NAMED, expanding=True))
    return column == sa.bindparam(_NAMED)


def naming(names: Collection[str]) -> dict[str, Any]:
    """The parameter of `is_named`, which has to be built with `several=len(names) != 1`."""
    return {_NAMED: next(iter(names)) if len(names) == 1 else sorted(names)}


def locking(connection: sa.Connection, query: sa.Select[*_Columns], table: sa.Table) -> sa.Select[*_Columns]:
    """`query` of rows of `table` that this transaction is going to write: it waits for other writers of them, and they
    for it. In the order of their ids, so that no two wait for each other.

    SQLite's writer has locked everything already.
    """
    return locking_on(connection.dialect.name, query, table)


def locking_on(dialect: str, query: sa.Select[*_Columns], table: sa.Table) -> sa.Select[*_Columns]:
    """The same, for a query that is built once for each dialect."""
    if dialect == "postgresql":
        # NO KEY UPDATE: lines of history and assets may be added to a row at the same time. By an expression: with the
        # plain column, PostgreSQL may walk along the index of all ids.
        return query.order_by(table.c.id + 0).with_for_update(key_share=True, of=table)
    return query


def lock_row(connection: sa.Connection, table: sa.Table, row_id: int) -> None:
    """Lock one row without reading it."""
    if connection.dialect.name == "postgresql":
        connection.execute(locking(connection, sa.select(table.c.id).where(table.c.id == row_id), table))


def skipping_locked(query: sa.Select[*_Columns], table: sa.FromClause) -> sa.Select[*_Columns]:
    """`query` without the rows of `table` that other transactions are writing; the others are locked. So processes that
    claim at once get different rows, and none waits.

    SQLite knows no such words and needs none: SQLAlchemy leaves them out.
    """
    return query.with_for_update(key_share=True, skip_locked=True, of=table)


def first_unlocked(
    connection: sa.Connection, found: sa.Select[Any], table: sa.Table, *, limit: sa.BindParameter[int]
) -> sa.Select[int]:
    """The ids of the first rows that `found` selects from a subquery, in the order of its columns `due_at` and `id`.
    Only those are locked, not all that the subquery has looked at."""
    if connection.dialect.name != "postgresql":
        return found.with_only_columns(found.selected_columns.id).limit(limit)
    columns, row = found.subquery().c, table.alias()
    first = sa.select(row.c.id).where(row.c.id == columns.id, row.c.due_at == columns.due_at)
    return skipping_locked(first.order_by(columns.due_at, columns.id).limit(limit), row)


@contextlib.contextmanager
def in_index_order(connection: sa.Connection) -> Iterator[None]:
    """For statements that take the first row of an index. PostgreSQL would read and sort all of a queue that was
    shorter when it was last analyzed: a claim among 60,000 rows took 47 ms instead of 3.

    Other statements must not use it: to find a few rows sorted by their ids, PostgreSQL would walk along all ids.
    """
    if connection.dialect.name != "postgresql":
        yield
        return
    connection.execute(_SORT_OFF)
    yield
    connection.execute(_SORT_ON)


def hidden(value: sa.BindParameter[_Value]) -> sa.ScalarSelect[_Value]:
    """A value that PostgreSQL does not see when it plans. If it sees one that no row had when it last counted, it takes
    any index, and may pass 100,000 rows of a flood on the way to one row."""
    return sa.select(value).scalar_subquery()


class unindexed(FunctionElement[str]):  # noqa: N801 -- used as a function
    """`unindexed(column)`: of rows that another condition finds, such as their ids. PostgreSQL may look for them along
    an index of the column instead, if there was no row with the value when it last counted: so each update passed
    100,000 rows of a flood, in 75 ms."""

    type = sa.Text()
    inherit_cache = True


@compiles(unindexed)
def _column(element: unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(*element.clauses, **options)


@compiles(unindexed, "postgresql")
def _expression(element: unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return f"({compiler.process(*element.clauses, **options)} || '')"


class is_one_of(FunctionElement[Any]):  # noqa: N801 -- used as a function
    """`is_one_of(column, chosen)`: the column is among the rows of a subquery that is evaluated once.

    PostgreSQL may evaluate `IN (SELECT …)` for every row; with `unlocked` and LIMIT that takes more rows than the
    limit.
    """

    # Of a Boolean, SQLAlchemy makes `… = 1` for SQLite, which then uses no index.
    type = sa.types.NULLTYPE
    inherit_cache = True


@compiles(is_one_of)
def _in(element: is_one_of, compiler: SQLCompiler, **options: Any) -> str:
    column, chosen = element.clauses
    return f"{compiler.process(column, **options)} IN {compiler.process(chosen, **options)}"


@compiles(is_one_of, "postgresql")
def _any(element: is_one_of, compiler: SQLCompiler, **options: Any) -> str:
    column, chosen = element.clauses
    return f"{compiler.process(column, **options)} = ANY (ARRAY{compiler.process(chosen, **options)})"
