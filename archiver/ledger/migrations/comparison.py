"""The schema that a database has, compared with the one that this version works with.

A revision's number does not tell: a checkout that was never released has columns of its own under the same number, and
a person may have changed something by hand. Such a ledger would open, and each use of what it lacks would fail.

What it has beyond this version's schema is a newer program's, and is left alone, unless no row can be written without
it.
"""

import collections
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, DropIndex, ExecutableDDLElement

from archiver.ledger.databases.errors import LedgerAltered
from archiver.ledger.tables import schema

SAID_MAX = 8
_SQLITE_COLUMNS = """
    SELECT m.name, c.name, c."notnull" = 1 AND c.dflt_value IS NULL AND c.pk = 0
    FROM sqlite_master AS m JOIN pragma_table_xinfo(m.name) AS c
    WHERE m.type = 'table' AND m.name IN :names
"""
_SQLITE_INDEXES = """
    SELECT m.name, i.name, i."unique" = 1 AND i.partial = 0, c.name
    FROM sqlite_master AS m JOIN pragma_index_list(m.name) AS i JOIN pragma_index_info(i.name) AS c
    WHERE m.type = 'table' AND m.name IN :names ORDER BY m.name, i.name, c.seqno
"""
_POSTGRES_COLUMNS = """
    SELECT t.relname, c.attname, c.attnotnull AND NOT c.atthasdef AND c.attidentity = ''
    FROM pg_class AS t JOIN pg_attribute AS c ON c.attrelid = t.oid
    WHERE t.relkind IN ('r', 'p') AND pg_table_is_visible(t.oid) AND t.relname IN :names
    AND c.attnum > 0 AND NOT c.attisdropped
"""
_POSTGRES_INDEXES = """
    SELECT t.relname, n.relname, i.indisunique AND i.indpred IS NULL, c.attname
    FROM pg_class AS t JOIN pg_index AS i ON i.indrelid = t.oid JOIN pg_class AS n ON n.oid = i.indexrelid
    CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(number, place)
    LEFT JOIN pg_attribute AS c ON c.attrelid = t.oid AND c.attnum = k.number
    WHERE t.relkind IN ('r', 'p') AND pg_table_is_visible(t.oid) AND t.relname IN :names AND i.indisvalid
    ORDER BY t.relname, n.relname, k.place
"""
_QUERIES = {
    "sqlite": (_SQLITE_COLUMNS, _SQLITE_INDEXES),
    "postgresql": (_POSTGRES_COLUMNS, _POSTGRES_INDEXES),
}
"""Of both: table, column, whether a row cannot be written without it; table, index, whether it is unique for all rows,
column. Twelve times as fast as SQLAlchemy's inspector, which would cost every command 20 ms."""


def require_same(connection: sa.Connection, *, name: str) -> None:
    """Raises LedgerAltered for the ledger `name` where it lacks anything that this version uses."""
    found = list(differences(connection))
    if not found:
        return
    more = f"; and {len(found) - SAID_MAX} more" if len(found) > SAID_MAX else ""
    said = "; ".join(sentence for sentence, _ in found[:SAID_MAX]) + more
    can_be_made = all(remedies for _, remedies in found)
    statements = [statement for _, remedies in found for statement in remedies]
    raise LedgerAltered(name, said, remedies=statements if can_be_made else ())


def differences(connection: sa.Connection) -> Iterator[tuple[str, Sequence[str]]]:
    """Each in words, with the statements that end it where any do."""
    columns, indexes = (_rows(connection, query) for query in _QUERIES[connection.dialect.name])
    needed = collections.defaultdict[str, dict[str, bool]](dict)
    for table, column, is_needed in columns:
        needed[table][column] = bool(is_needed)
    of_index = collections.defaultdict[tuple[str, str], list[str | None]](list)
    unique = set[tuple[str, str]]()
    for table, index, is_unique, column in indexes:
        of_index[table, index].append(column)
        unique |= {(table, index)} if is_unique else set()
    for each in schema.metadata.sorted_tables:
        if each.name not in needed:
            yield f"it has no table {each.name}", ()
            continue
        yield from _of_columns(each, needed[each.name])
        of_table = {name: found for (table, name), found in of_index.items() if table == each.name}
        yield from _of_indexes(each, of_table, connection.dialect)
        yield from _of_constraints(each, [of_table[name] for table, name in unique if table == each.name])


def _of_columns(table: sa.Table, needed: Mapping[str, bool]) -> Iterator[tuple[str, Sequence[str]]]:
    nullable = {column.name: column.nullable for column in table.columns}
    for name in sorted(nullable.keys() - needed.keys()):
        yield f"{table.name} has no column {name}", ()
    for name, is_needed in needed.items():
        if is_needed and nullable.get(name, True):
            yield (
                f"{table.name}.{name} is NOT NULL without a default, and this version may write no value there",
                (),
            )


def _of_indexes(
    table: sa.Table, found: Mapping[str, list[str | None]], dialect: sa.Dialect
) -> Iterator[tuple[str, Sequence[str]]]:
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        columns = [column.name for column in index.columns]
        if str(index.name) not in found:
            # PostgreSQL keeps an invalid index whose making did not end, and refuses another of its name.
            anew = (DropIndex(index, if_exists=True), CreateIndex(index))
            yield (
                f"{table.name} has no index {index.name}",
                [_one_line(statement, dialect) for statement in anew],
            )
        elif found[str(index.name)] != columns:
            yield f"the index {index.name} of {table.name} is not on {', '.join(columns)}", ()


def _of_constraints(
    table: sa.Table, keys: Collection[list[str | None]]
) -> Iterator[tuple[str, Sequence[str]]]:
    for constraint in table.constraints:
        if isinstance(constraint, sa.UniqueConstraint):
            columns = [column.name for column in constraint.columns]
            if columns not in keys:
                yield f"{', '.join(columns)} of {table.name} need not be unique", ()


def _one_line(statement: ExecutableDDLElement, dialect: sa.Dialect) -> str:
    return " ".join(str(statement.compile(dialect=dialect)).split())


def _rows(connection: sa.Connection, query: str) -> Sequence[Any]:
    names: sa.BindParameter[Any] = sa.bindparam("names", list(schema.metadata.tables), expanding=True)
    return connection.execute(sa.text(query).bindparams(names)).all()
