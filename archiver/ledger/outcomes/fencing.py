"""The writes that end a lease. Each is fenced: it names the row *and* the lease's token.

Where no row matches, `LeaseLost` undoes the transaction: a worker that was paused for an hour changes nothing.
"""

import functools
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from archiver.failures import LeaseLost
from archiver.ledger.databases.dialect import unindexed
from archiver.ledger.tables import schema
from archiver.ledger.tables.counts import Kind, Tally
from archiver.model import Lease

RELEASED: Mapping[str, Any] = {"lease_token": None, "lease_until": None}

NOT_WANTED: Mapping[str, Any] = {"fresh_wanted_at": None, "fresh_due_at": None}
"""No fresh URLs are wanted."""


@functools.cache
def _fenced(columns: frozenset[str]) -> sa.Update:
    """Write `columns` of a leased row from parameters `new_<column>`. Cached for the reason that `claims` gives: there
    are a dozen sets of columns."""
    table = schema.tasks
    return (
        sa.update(table)
        .where(table.c.id == sa.bindparam("task_row"), table.c.lease_token == sa.bindparam("token"))
        .where(unindexed(table.c.state) == sa.bindparam("leased_state"))
        .values({name: sa.bindparam(f"new_{name}") for name in columns})
    )


def write(
    connection: sa.Connection,
    lease: Lease,
    values: Mapping[str, Any],
    *,
    only_if: sa.ColumnElement[bool] | None = None,
) -> None:
    """Write columns of the leased row. Raises LeaseLost."""
    plain = {name: value for name, value in values.items() if not isinstance(value, sa.ColumnElement)}
    computed = {name: value for name, value in values.items() if name not in plain}
    statement = _fenced(frozenset(plain))
    if computed:
        statement = statement.values(computed)
    if only_if is not None:
        statement = statement.where(only_if)
    parameters = {f"new_{name}": value for name, value in plain.items()}
    parameters |= {"task_row": lease.row_id, "token": lease.token, "leased_state": lease.state}
    if connection.execute(statement, parameters).rowcount != 1:
        raise LeaseLost(f"task {lease.task_id} is no longer ours")
    if "state" in values:
        tally = Tally()
        is_confirmed = lease.confirmed or values.get("confirmed_at") is not None
        tally.move(_kind(lease), Kind(lease.account, values["state"], is_confirmed))
        tally.write(connection)


def delete(connection: sa.Connection, lease: Lease) -> None:
    """Delete the leased row. Raises LeaseLost."""
    table = schema.tasks
    fenced = sa.delete(table).where(table.c.id == lease.row_id, table.c.lease_token == lease.token)
    if connection.execute(fenced.where(unindexed(table.c.state) == lease.state)).rowcount != 1:
        raise LeaseLost(f"task {lease.task_id} is no longer ours")
    tally = Tally()
    tally.remove([_kind(lease)])
    tally.write(connection)


def _kind(lease: Lease) -> Kind:
    return Kind(lease.account, lease.state, lease.confirmed)
