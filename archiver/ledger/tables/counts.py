"""The number of tasks in each state, counted by the transactions that change them.

Each such transaction adds rows with its differences; the sum of all rows is the count. So no query walks the tasks to
count them, and no row makes all writers wait. `deadlines.fold_counts` keeps the rows few.

A transaction counts only rows that it holds locked, so no crash and no other process makes a count wrong. A change of
the database by other means does, and views then hide tasks: `recounts` mends that.
"""

import collections
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from archiver.ledger.tables import schema


class Kind(NamedTuple):
    """The properties that tasks are counted by."""

    account: str
    state: str
    is_confirmed: bool


KIND_COLUMNS = (schema.tasks.c.account, schema.tasks.c.state, schema.tasks.c.confirmed_at)
"""What `kind_of` needs of a row."""

_KIND = (schema.task_counts.c.account, schema.task_counts.c.state, schema.task_counts.c.is_confirmed)
_INSERT = sa.insert(schema.task_counts)
_SUM = sa.cast(sa.func.sum(schema.task_counts.c.tasks), sa.BigInteger)  # PostgreSQL's sum is a decimal number
_TOTALS = sa.select(*_KIND, _SUM).group_by(*_KIND)


class Tally:
    """The changes of one transaction. `write` them before it ends."""

    def __init__(self) -> None:
        self._changes: collections.Counter[Kind] = collections.Counter()

    def add(self, kinds: Iterable[Kind]) -> None:
        """Tasks of these kinds are new."""
        self._changes.update(kinds)

    def remove(self, kinds: Iterable[Kind]) -> None:
        """Tasks of these kinds are deleted."""
        self._changes.subtract(kinds)

    def move(self, before: Kind, after: Kind) -> None:
        """A task has another state, or is confirmed now."""
        self._changes[before] -= 1
        self._changes[after] += 1

    def change(self, row: Mapping[Any, Any], changes: Mapping[str, Any]) -> None:
        """A row that was read in this transaction takes these changes."""
        self.move(kind_of(row), kind_of({**row, **changes}))

    def write(self, connection: sa.Connection) -> None:
        """Write the total changes."""
        add_counts(connection, self._changes)


def kind_of(row: Mapping[Any, Any]) -> Kind:
    """The kind that a row of `tasks` counts as."""
    return Kind(row["account"], row["state"], row["confirmed_at"] is not None)


def add_counts(connection: sa.Connection, counts: Mapping[Kind, int]) -> None:
    """Add a row for each count that is not 0."""
    rows = [
        {"account": kind.account, "state": kind.state, "is_confirmed": kind.is_confirmed, "tasks": count}
        for kind, count in counts.items()
        if count
    ]
    if rows:
        connection.execute(_INSERT, rows)


def task_counts(connection: sa.Connection) -> dict[Kind, int]:
    """How many tasks there are of each kind."""
    return {Kind(*row[:3]): row[3] for row in connection.execute(_TOTALS)}
