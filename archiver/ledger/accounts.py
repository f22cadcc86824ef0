"""The names of the ledger's accounts, and how one is renamed.

An account's name is part of every task's identity. Under a new name in the settings a second history of the same tasks
would begin, and no daemon would work on the first.
"""

import dataclasses
import json
import math
from collections.abc import Collection

import sqlalchemy as sa

from archiver.ledger.databases.dialect import upsert
from archiver.ledger.duties.duties import wanted_accounts
from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema
from archiver.ledger.tables.account_names import account_names
from archiver.ledger.tables.counts import task_counts
from archiver.ledger.tables.named_values import forget_named_value
from archiver.model import State

_RENAMED = "renamed:"
"""Prefix of an old name, in `named_values`. The value is JSON."""
_UNARCHIVED = frozenset({State.REPORTED, State.RUNNING, State.SUCCEEDED, State.BURIED, State.LOST})


@dataclasses.dataclass(frozen=True, slots=True)
class Renaming:
    """A rename of an account that is done."""

    new: str
    tasks: int
    """How many tasks moved."""
    at: int
    """Unix ms."""


class Accounts(Part):
    """The accounts whose tasks the ledger has."""

    def names(self) -> list[str]:
        """The accounts that have tasks or sweeps."""
        with self._database.read() as connection:
            return account_names(connection)

    def stranded(self, *, known: Collection[str]) -> dict[str, int]:
        """Accounts that are neither among `known` nor another living process's: how many of their tasks are not in the
        bucket yet."""
        with self._database.read() as connection:
            served = {*known, *wanted_accounts(connection, now=self._now())}
            unarchived = dict.fromkeys(set(account_names(connection)) - served, 0)
            for kind, count in task_counts(connection).items():
                if kind.account in unarchived and kind.state in _UNARCHIVED:
                    unarchived[kind.account] += count
            return dict(sorted(unarchived.items()))

    @retried
    def rename(self, old: str, new: str) -> int | None:
        """Rename an account; how many tasks moved. None when there is no `old`, or a `new` already: two accounts never
        become one. Call it only in a process that holds the daemon's lock.

        Drops holds (the next task sets a hold again if its cause lasts), duties and leases. Notes the rename for
        `last_renaming`: a process that ends right after the commit has told no one.
        """
        with self._database.write(seconds_max=math.inf) as connection:
            names = account_names(connection)
            if old not in names or new in names:
                return None
            for table in (
                schema.holds,
                schema.doubts,
                schema.passed_over,
                schema.duties,
                schema.sweep_requests,
            ):
                connection.execute(sa.delete(table).where(table.c.account.in_([old, new])))
            with_accounts = (
                schema.second_looks,
                schema.missing_objects,
                schema.forwards,
                schema.gateway_creates,
                schema.sweeps,
                schema.task_counts,
                schema.forgotten,
            )
            for table in with_accounts:
                connection.execute(sa.update(table).where(table.c.account == old).values(account=new))
            tasks = schema.tasks
            # A paused process that comes back loses its leases: it would count under the old name.
            freed = {"account": new, "lease_token": None, "lease_until": None}
            moved = connection.execute(sa.update(tasks).where(tasks.c.account == old).values(freed)).rowcount
            _note_renaming(connection, old, Renaming(new, moved, self._now()))
            return moved

    def last_renaming(self, old: str) -> Renaming | None:
        """What the account `old` was last renamed to, or None."""
        table = schema.named_values
        query = sa.select(table.c.value).where(table.c.name == _RENAMED + old)
        with self._database.read() as connection:
            value = connection.execute(query).scalar()
        return None if value is None else Renaming(**json.loads(value))

    @retried
    def forget_holds(self, *, known: Collection[str]) -> None:
        """Drop the holds of all accounts except `known` and those of other living processes: nothing would ever lift
        them."""
        with self._database.write() as connection:
            served = {*known, *wanted_accounts(connection, now=self._now())}
            connection.execute(sa.delete(schema.holds).where(schema.holds.c.account.not_in(served)))


def _note_renaming(connection: sa.Connection, old: str, renaming: Renaming) -> None:
    """Forget the renames that no longer say where an account is: that of the new name, and those to the old one."""
    table = schema.named_values
    notes = sa.select(table.c.name, table.c.value).where(table.c.name.startswith(_RENAMED, autoescape=True))
    for name, value in connection.execute(notes).all():
        if name == _RENAMED + renaming.new or json.loads(value)["new"] == old:
            forget_named_value(connection, name)
    row = {"name": _RENAMED + old, "value": json.dumps(dataclasses.asdict(renaming))}
    upsert(connection, table, row, update=["value"])
