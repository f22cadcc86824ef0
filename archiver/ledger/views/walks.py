"""The newest tasks of a filter, as SQL: each walk follows an index from its newest end, and the walks are merged.

The order of all tasks is that of their deadlines, which is that of their creation: 30 days lie between the two, and
ids that the API has not confirmed have a deadline too. A walk along the tasks of an owner passes no others.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import sqlalchemy as sa

from archiver.ledger.databases.dialect import hidden
from archiver.ledger.tables import schema
from archiver.ledger.views.filters import Position, TaskFilter
from archiver.ledger.views.owners import Owner, OwnerKind, is_owned_by, owners_of
from archiver.model import RETENTION_MS, State

_TASKS = schema.tasks.c
WALKS_MAX = 200
"""SQLite merges 500 at most."""


class Walk(NamedTuple):
    """Along the tasks of a state; of one owner, or of all."""

    state: State
    owner: Owner | None = None

    @property
    def kind(self) -> OwnerKind | None:
        """Of the owner."""
        return None if self.owner is None else self.owner.kind


def walks_of(connection: sa.Connection, chosen: TaskFilter) -> tuple[Walk, ...]:
    """Those that together find the tasks of a filter: exactly these, unless its owners are too many. Then no walk has
    one. None at all: there are no such tasks."""
    if chosen.account is not None or chosen.family is not None:
        owners = owners_of(connection, chosen)
        walks = tuple(Walk(state, owner) for owner, states in owners for state in states)
        if len(walks) <= WALKS_MAX:
            return walks
    return tuple(Walk(state) for state in (State if chosen.state is None else (chosen.state,)))


def merged(walks: tuple[Walk, ...], chosen: TaskFilter, after: Position | None) -> sa.Subquery:
    """The first rows behind `after`: `id`, `deadline_at`, and their `position` from 1 on. Its values are those of
    `values_of`."""
    bounds = (chosen.since is not None, chosen.until is not None, after is not None)
    return _merged(tuple(walk.kind for walk in walks), *bounds)


def values_of(
    walks: tuple[Walk, ...], chosen: TaskFilter, after: Position | None, *, rows: int
) -> Mapping[str, object]:
    """For `rows` rows of `merged`."""
    values: dict[str, object] = {"rows": rows}
    for number, walk in enumerate(walks):
        values |= {f"state{number}": walk.state}
        if walk.owner is not None:
            values |= {f"account{number}": walk.owner.account, f"family{number}": walk.owner.family}
    if chosen.since is not None:
        values["since"] = chosen.since + RETENTION_MS
    if chosen.until is not None:
        values["until"] = chosen.until + RETENTION_MS
    if after is not None:
        values |= {"after_deadline": after.deadline_at, "after_id": after.row_id}
    return values


def is_meant(walks: tuple[Walk, ...], chosen: TaskFilter) -> sa.ColumnElement[bool] | None:
    """What the rows of `merged` must fulfil besides; None: nothing."""
    if any(walk.owner is not None for walk in walks):
        return None
    meant: list[sa.ColumnElement[bool]] = []
    if chosen.account is not None:
        meant.append(_TASKS.account == chosen.account)
    if chosen.family is not None:
        meant.append(sa.func.coalesce(_TASKS.family, _TASKS.family_hint) == chosen.family)
    return sa.and_(*meant) if meant else None


@functools.lru_cache(maxsize=64)
def _merged(
    kinds: tuple[OwnerKind | None, ...], has_since: bool, has_until: bool, has_after: bool
) -> sa.Subquery:
    """Built once for each form: building one anew takes ten times as long as executing it."""
    bounds: list[sa.ColumnElement[bool]] = []
    if has_since:
        bounds.append(_TASKS.deadline_at >= sa.bindparam("since"))
    if has_until:
        bounds.append(_TASKS.deadline_at < sa.bindparam("until"))
    if has_after:
        deadline_at: sa.BindParameter[int] = sa.bindparam("after_deadline")
        row_id: sa.BindParameter[int] = sa.bindparam("after_id")
        bounds += [
            _TASKS.deadline_at <= deadline_at,
            sa.or_(_TASKS.deadline_at < deadline_at, _TASKS.id < row_id),
        ]
    walks = [sa.select(_walk(number, kind, bounds).subquery()) for number, kind in enumerate(kinds)]
    found = sa.union_all(*walks).subquery()
    order = (found.c.deadline_at.desc(), found.c.id.desc())
    position = sa.func.row_number().over(order_by=order).label("position")
    return sa.select(found, position).order_by(*order).limit(_ROWS).subquery()


def _walk(number: int, kind: OwnerKind | None, bounds: list[sa.ColumnElement[bool]]) -> sa.Select[int, int]:
    walk = sa.select(_TASKS.id, _TASKS.deadline_at).where(_TASKS.state == _value("state", number), *bounds)
    order = [_TASKS.deadline_at.desc(), _TASKS.id.desc()]
    if kind is not None:
        walk = walk.where(
            *is_owned_by(kind, account=_value("account", number), family=_value("family", number))
        )
    if kind is OwnerKind.UNHINTED:
        # PostgreSQL does not see that a column that is NULL has one value, and would sort all rows by the others.
        order.insert(0, _TASKS.family_hint.desc())
    return walk.order_by(*order).limit(_ROWS)


def _value(name: str, number: int) -> sa.ScalarSelect[str]:
    return hidden(sa.bindparam(f"{name}{number}", type_=sa.Text))


_ROWS = sa.bindparam("rows", type_=sa.Integer)
