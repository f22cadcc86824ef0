"""The names of the accounts, read from the rows themselves and not from counts."""

import sqlalchemy as sa

from archiver.ledger.tables import schema


def account_names(connection: sa.Connection) -> list[str]:
    """Those that have tasks or sweeps: one step along an index for each account, however many tasks there are."""
    names: set[str] = set()
    for table in (schema.tasks, schema.sweeps):
        name = connection.execute(sa.select(sa.func.min(table.c.account))).scalar()
        while name is not None:
            names.add(name)
            following = sa.select(sa.func.min(table.c.account)).where(table.c.account > name)
            name = connection.execute(following).scalar()
    return sorted(names)
