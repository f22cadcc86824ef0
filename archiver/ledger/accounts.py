"""Whose tasks a ledger has: the names of its accounts, and how one of them is renamed.

An account's name is a part of every task's identity, so settings that call the account otherwise would begin a second
history of the same tasks beside the first, and nobody would work on the first. `rename` moves it over.
"""

from collections.abc import Collection

import sqlalchemy as sa

from archiver.ledger import schema
from archiver.model import State


def names(connection: sa.Connection) -> list[str]:
    """The accounts that have tasks or sweeps here: one step along an index for each, however many tasks there are."""
    found: set[str] = set()
    for table in (schema.tasks, schema.sweeps):
        name = connection.execute(sa.select(sa.func.min(table.c.account))).scalar()
        while name is not None:
            found.add(name)
            following = sa.select(sa.func.min(table.c.account)).where(table.c.account > name)
            name = connection.execute(following).scalar()
    return sorted(found)


def stranded(connection: sa.Connection, *, known: Collection[str]) -> dict[str, int]:
    """Accounts that are not among `known`, and how many tasks of theirs still have to be brought into the bucket."""
    table = schema.tasks
    query = sa.select(sa.func.count()).where(
        table.c.state.in_([State.REPORTED, State.RUNNING, State.SUCCEEDED, State.BURIED, State.LOST])
    )
    return {
        name: connection.execute(query.where(table.c.account == name)).scalar_one()
        for name in names(connection)
        if name not in known
    }


def rename(connection: sa.Connection, old: str, new: str) -> int:
    """Give everything of the account `old` to the name `new`, which nobody has yet; how many tasks that were.

    One transaction, however many rows it has: half a history under each name would be the mistake it is there to mend.
    Holds go: whatever is still wrong is found out again by the next task.
    """
    connection.execute(sa.delete(schema.holds).where(schema.holds.c.account.in_([old, new])))
    moved = 0
    for table in (schema.sweeps, schema.tasks):
        change = sa.update(table).where(table.c.account == old).values(account=new)
        moved = connection.execute(change).rowcount
    return moved


def forget_holds(connection: sa.Connection, *, known: Collection[str]) -> None:
    """Drop the holds of accounts that nobody works for any more: nothing could ever lift them."""
    connection.execute(sa.delete(schema.holds).where(schema.holds.c.account.not_in(known)))
