"""One statement in place of many that differ in a value, such as one for each account: with 20 accounts `status` took
92 statements, each of which costs a round trip to a server and 0.2 ms of processor here.

Only for queries that take a few steps along an index: a plan has a branch for each of them.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import sqlalchemy as sa

VALUES_MAX = 50
"""A statement: SQLite takes 500 at most, and both plan each of them."""

Query = Callable[[Callable[[str], sa.BindParameter[str]]], sa.Select[*tuple[object, ...]]]
"""Given a function that names the values of one execution, builds the query."""


class ForEach:
    """A query with an order and a limit of its own for each set of values."""

    def __init__(self, query: Query) -> None:
        self._query = query
        # Built once for each number of sets: building one anew takes ten times as long as executing it.
        self._union = functools.lru_cache(maxsize=VALUES_MAX)(self._built)

    def rows(self, connection: sa.Connection, values: Sequence[Mapping[str, str]]) -> Iterator[sa.RowMapping]:
        """The rows of all sets of values, in no order: a server may read several sets at a time."""
        for first in range(0, len(values), VALUES_MAX):
            some = values[first : first + VALUES_MAX]
            numbered = {
                f"{name}{number}": value for number, of in enumerate(some) for name, value in of.items()
            }
            yield from connection.execute(self._union(len(some)), numbered).mappings()

    def _built(self, count: int) -> sa.CompoundSelect[*tuple[object, ...]]:
        return sa.union_all(*(sa.select(self._numbered(number).subquery()) for number in range(count)))

    def _numbered(self, number: int) -> sa.Select[*tuple[object, ...]]:
        return self._query(lambda name: sa.bindparam(f"{name}{number}", type_=sa.Text))
