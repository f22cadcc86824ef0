"""The elements that all tables are declared with."""

import sqlalchemy as sa

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""SQLite numbers rows by itself only in a column of type INTEGER, which has 8 bytes too."""

metadata = sa.MetaData()


def partial_index(name: str, *columns: sa.ColumnElement[object], where: sa.ColumnElement[bool]) -> sa.Index:
    """An index of the rows that `where` names. Only a query with the same words in its WHERE uses it."""
    return sa.Index(name, *columns, sqlite_where=where, postgresql_where=where)
