"""SQL that one database needs and the others must tolerate."""

import sqlalchemy as sa


def without_index(column: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """`column + 0`: SQLite does not choose an index for an expression, so it takes the one that gives the order."""
    return column + 0
