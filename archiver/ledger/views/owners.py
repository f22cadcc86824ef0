"""Whose tasks a filter may mean: the accounts and families that have any, found by a step along an index for each."""

import dataclasses
import enum
from collections.abc import Iterator

import sqlalchemy as sa

from archiver.ledger.tables import schema
from archiver.ledger.views.filters import TaskFilter
from archiver.model import State

OWNERS_MAX = 60
"""Of each kind: callers of the callback URL may invent any number of families."""


class OwnerKind(enum.Enum):
    """Of tasks that share an owner."""

    CONFIRMED = enum.auto()
    """By the API, which has named their family."""
    HINTED = enum.auto()
    """Not confirmed; the callback or the registration has named a family."""
    UNHINTED = enum.auto()
    """Not confirmed, and nothing has named a family."""

    @property
    def states(self) -> frozenset[State]:
        """Those in which such a task may be."""
        return _CONFIRMED if self is OwnerKind.CONFIRMED else _UNCONFIRMED


_UNCONFIRMED = frozenset({State.REPORTED, State.UNKNOWN, State.BURIED})
_CONFIRMED = frozenset(State) - {State.REPORTED, State.UNKNOWN}


@dataclasses.dataclass(frozen=True, slots=True)
class Owner:
    """Whose tasks these are."""

    kind: OwnerKind
    account: str
    family: str | None
    """None only for UNHINTED."""


def owners_of(connection: sa.Connection, chosen: TaskFilter) -> list[Owner] | None:
    """Those that have the tasks of a filter by account or family; None: they are too many."""
    owners: list[Owner] = []
    for kind in (OwnerKind.CONFIRMED, OwnerKind.HINTED):
        found = list(_of_kind(connection, kind, chosen))
        if len(found) > OWNERS_MAX:
            return None
        owners += found
    if chosen.family is None and chosen.account is not None:
        owners.append(Owner(OwnerKind.UNHINTED, chosen.account, None))
    return owners


def _of_kind(connection: sa.Connection, kind: OwnerKind, chosen: TaskFilter) -> Iterator[Owner]:
    if chosen.account is None:
        for account in connection.execute(_ACCOUNTS[kind], {"first": ""}).scalars():
            yield Owner(kind, account, chosen.family)
    elif chosen.family is None:
        for family in connection.execute(_FAMILIES[kind], {"first": "", "account": chosen.account}).scalars():
            yield Owner(kind, chosen.account, family)
    else:
        yield Owner(kind, chosen.account, chosen.family)


def is_owned(kind: OwnerKind, table: sa.FromClause) -> sa.ColumnElement[bool]:
    """In the words of the index of this kind."""
    return table.c.family.is_not(None) if kind is OwnerKind.CONFIRMED else table.c.confirmed_at.is_(None)


def family_column(kind: OwnerKind, table: sa.FromClause) -> sa.ColumnElement[str | None]:
    """Where the family of this kind stands."""
    return table.c.family if kind is OwnerKind.CONFIRMED else table.c.family_hint


def _names(kind: OwnerKind, *, is_of_account: bool) -> sa.Select[str]:
    """The different accounts, or families of one account: OWNERS_MAX at most, and one more where there are more."""
    first, following = schema.tasks.alias(), schema.tasks.alias()
    names = sa.select(
        _first_name(kind, first, sa.bindparam("first"), is_of_account=is_of_account).label("name"),
        sa.literal_column("1").label("number"),
    ).cte("names", recursive=True)
    next_name = _first_name(kind, following, names.c.name, is_of_account=is_of_account)
    found = names.union_all(
        sa.select(next_name, names.c.number + sa.literal_column("1")).where(
            names.c.name.is_not(None), names.c.number <= sa.literal_column(str(OWNERS_MAX))
        )
    )
    return sa.select(found.c.name).where(found.c.name.is_not(None))


def _first_name(
    kind: OwnerKind, table: sa.FromClause, above: sa.ColumnElement[str], *, is_of_account: bool
) -> sa.ScalarSelect[str]:
    column = family_column(kind, table) if is_of_account else table.c.account
    query = sa.select(column).where(is_owned(kind, table), column > above)
    if is_of_account:
        query = query.where(table.c.account == sa.bindparam("account"))
    return query.order_by(column).limit(1).scalar_subquery()


_ACCOUNTS = {kind: _names(kind, is_of_account=False) for kind in (OwnerKind.CONFIRMED, OwnerKind.HINTED)}
_FAMILIES = {kind: _names(kind, is_of_account=True) for kind in (OwnerKind.CONFIRMED, OwnerKind.HINTED)}
