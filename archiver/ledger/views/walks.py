"""The newest tasks of a filter, as SQL: each walk follows an index from its newest end, and the walks are merged.

The order of all tasks is that of their deadlines, which is that of their creation: 30 days lie between the two, and
ids that the API has not confirmed have a deadline too. A walk along the tasks of an owner (an account and a family)
passes no others. Ids that are not confirmed have no index by owner: a condition leaves out what is not meant.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from archiver.ledger.tables import schema
from archiver.ledger.views.filters import Position, TaskFilter
from archiver.model import RETENTION_MS, State

_TASKS = schema.tasks.c
_UNCONFIRMED = (State.REPORTED, State.UNKNOWN, State.BURIED)
"""States of ids that the API has not confirmed; of these, only a confirmed task may be `buried`."""
WALKS_MAX = 200
"""SQLite merges 500 at most."""


@dataclasses.dataclass(frozen=True, slots=True)
class Owner:
    """Who a task is of."""

    account: str
    family: str


@dataclasses.dataclass(frozen=True, slots=True)
class Walk:
    """Along the tasks of a state; of one owner, or of all."""

    state: State
    owner: Owner | None = None


def walks_of(connection: sa.Connection, chosen: TaskFilter) -> tuple[Walk, ...]:
    """Those that together find the tasks of a filter."""
    states = tuple(State) if chosen.state is None else (chosen.state,)
    if chosen.account is None and chosen.family is None:
        return tuple(Walk(state) for state in states)
    owned = [
        Walk(state, owner)
        for owner in _owners(connection, chosen)
        for state in states
        if state not in (State.REPORTED, State.UNKNOWN)
    ]
    if len(owned) > WALKS_MAX:
        return tuple(Walk(state) for state in states)
    return (*owned, *(Walk(state) for state in states if state in _UNCONFIRMED))


def merged(walks: tuple[Walk, ...], chosen: TaskFilter, after: Position | None) -> sa.Subquery:
    """The first rows behind `after`: `id`, `deadline_at`, and their `position` from 1 on. Its values are those of
    `values_of`."""
    bounds = (chosen.since is not None, chosen.until is not None, after is not None)
    return _merged(tuple(walk.owner is not None for walk in walks), *bounds)


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


def is_meant(
    walks: tuple[Walk, ...], chosen: TaskFilter, walked: sa.Subquery
) -> sa.ColumnElement[bool] | None:
    """What the rows of `merged` must fulfil besides; None: nothing."""
    meant: list[sa.ColumnElement[bool]] = []
    if chosen.account is not None:
        meant.append(_TASKS.account == chosen.account)
    if chosen.family is not None:
        meant.append(sa.func.coalesce(_TASKS.family, _TASKS.family_hint) == chosen.family)
    if not meant:
        return None
    if all(walk.owner is None for walk in walks):
        return sa.and_(*meant)
    return sa.or_(walked.c.is_owned == 1, sa.and_(_TASKS.confirmed_at.is_(None), *meant))


def _owners(connection: sa.Connection, chosen: TaskFilter) -> Iterator[Owner]:
    """Those that may be meant: a step along an index for each."""
    for account in _accounts(connection) if chosen.account is None else (chosen.account,):
        for family in _families(connection, account) if chosen.family is None else (chosen.family,):
            yield Owner(account, family)


def _accounts(connection: sa.Connection) -> Iterator[str]:
    account = connection.execute(_NEXT_ACCOUNT, {"account": ""}).scalar()
    while account is not None:
        yield account
        account = connection.execute(_NEXT_ACCOUNT, {"account": account}).scalar()


def _families(connection: sa.Connection, account: str) -> Iterator[str]:
    values = {"account": account, "family": ""}
    family = connection.execute(_NEXT_FAMILY, values).scalar()
    while family is not None:
        yield family
        family = connection.execute(_NEXT_FAMILY, {**values, "family": family}).scalar()


@functools.lru_cache(maxsize=64)
def _merged(are_owned: tuple[bool, ...], has_since: bool, has_until: bool, has_after: bool) -> sa.Subquery:
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
    walks = [
        sa.select(_walk(number, *bounds, is_owned=is_owned).subquery())
        for number, is_owned in enumerate(are_owned)
    ]
    found = sa.union_all(*walks).subquery()
    order = (found.c.deadline_at.desc(), found.c.id.desc())
    position = sa.func.row_number().over(order_by=order).label("position")
    return sa.select(found, position).order_by(*order).limit(_ROWS).subquery()


def _walk(number: int, *bounds: sa.ColumnElement[bool], is_owned: bool) -> sa.Select[Any]:
    mark: sa.ColumnElement[int] = sa.literal_column(str(int(is_owned)))
    walk = sa.select(_TASKS.id, _TASKS.deadline_at, mark.label("is_owned"))
    walk = walk.where(_TASKS.state == sa.bindparam(f"state{number}"), *bounds)
    if is_owned:
        walk = walk.where(
            _TASKS.account == sa.bindparam(f"account{number}"),
            _TASKS.family == sa.bindparam(f"family{number}"),
        )
    return walk.order_by(_TASKS.deadline_at.desc(), _TASKS.id.desc()).limit(_ROWS)


_ROWS = sa.bindparam("rows", type_=sa.Integer)
_NEXT_ACCOUNT = (
    sa.select(_TASKS.account)
    .where(_TASKS.family.is_not(None), _TASKS.account > sa.bindparam("account"))
    .order_by(_TASKS.account)
    .limit(1)
)
_NEXT_FAMILY = (
    sa.select(_TASKS.family)
    .where(_TASKS.account == sa.bindparam("account"), _TASKS.family > sa.bindparam("family"))
    .order_by(_TASKS.family)
    .limit(1)
)
