"""Whose tasks a filter may mean: the accounts that have any in its states, as the ledger has counted them, and their
families, found by a step along an index for each."""

import dataclasses
import enum
from collections.abc import Iterator

import sqlalchemy as sa

from archiver.ledger.tables import schema
from archiver.ledger.tables.counts import task_counts
from archiver.ledger.views.filters import TaskFilter
from archiver.model import State

FAMILIES_MAX = 60
"""Of an account: callers of the callback URL may invent any number of them."""


class OwnerKind(enum.Enum):
    """Of tasks that share an owner."""

    CONFIRMED = enum.auto()
    """By the API, which has named their family."""
    HINTED = enum.auto()
    """Not confirmed; the callback or the registration has named a family."""
    UNHINTED = enum.auto()
    """Not confirmed, and nothing has named a family."""
    UNCONFIRMED = enum.auto()
    """Not confirmed, all families together: for an account for which callers have invented too many families."""


@dataclasses.dataclass(frozen=True, slots=True)
class Owner:
    """Whose tasks these are."""

    kind: OwnerKind
    account: str
    family: str | None = None
    """Only of CONFIRMED and HINTED."""


def owners_of(connection: sa.Connection, chosen: TaskFilter) -> Iterator[tuple[Owner, list[State]]]:
    """Those that have the tasks of a filter by account or family, and in which states."""
    states: dict[tuple[str, bool], list[State]] = {}
    for kind, count in task_counts(connection).items():
        is_meant = chosen.account in (None, kind.account) and chosen.state in (None, kind.state)
        if count > 0 and is_meant:
            states.setdefault((kind.account, kind.is_confirmed), []).append(State(kind.state))
    for (account, is_confirmed), of_account in sorted(states.items()):
        for owner in _of_account(connection, account, chosen.family, is_confirmed=is_confirmed):
            yield owner, sorted(of_account)


def _of_account(
    connection: sa.Connection, account: str, family: str | None, *, is_confirmed: bool
) -> list[Owner]:
    kind = OwnerKind.CONFIRMED if is_confirmed else OwnerKind.HINTED
    if family is not None:
        return [Owner(kind, account, family)]
    families = connection.execute(_FAMILIES[kind], {"first": "", "account": account}).scalars().all()
    if is_confirmed:
        return [Owner(kind, account, name) for name in families]
    if len(families) > FAMILIES_MAX:
        return [Owner(OwnerKind.UNCONFIRMED, account)]
    hinted = [Owner(kind, account, name) for name in families]
    return [*hinted, Owner(OwnerKind.UNHINTED, account)]


def is_owned_by(
    kind: OwnerKind, *, account: sa.ColumnElement[str], family: sa.ColumnElement[str]
) -> list[sa.ColumnElement[bool]]:
    """In the words of the index of this kind."""
    columns = schema.tasks.c
    if kind is OwnerKind.UNCONFIRMED:
        # By none that has the account: it would have to sort all rows of a flood.
        return [columns.family.is_(None), (columns.account + "") == account]
    is_of_account = columns.account == account
    if kind is OwnerKind.CONFIRMED:
        return [columns.family.is_not(None), is_of_account, columns.family == family]
    is_of_family = (
        columns.family_hint.is_(None) if kind is OwnerKind.UNHINTED else columns.family_hint == family
    )
    return [columns.confirmed_at.is_(None), is_of_account, is_of_family]


def _families(kind: OwnerKind) -> sa.Select[str]:
    """The different families of an account: one more than FAMILIES_MAX at most, unless the API has named them."""
    names = sa.select(_first_family(kind, sa.bindparam("first")).label("name"), _ONE.label("number")).cte(
        "names", recursive=True
    )
    following = sa.select(_first_family(kind, names.c.name), names.c.number + _ONE).where(
        names.c.name.is_not(None)
    )
    if kind is OwnerKind.HINTED:
        following = following.where(names.c.number <= sa.literal_column(str(FAMILIES_MAX)))
    found = names.union_all(following)
    return sa.select(found.c.name).where(found.c.name.is_not(None))


def _first_family(kind: OwnerKind, above: sa.ColumnElement[str]) -> sa.ScalarSelect[str]:
    table = schema.tasks.alias()
    is_confirmed = kind is OwnerKind.CONFIRMED
    column = table.c.family if is_confirmed else table.c.family_hint
    is_owned = table.c.family.is_not(None) if is_confirmed else table.c.confirmed_at.is_(None)
    query = sa.select(column).where(is_owned, table.c.account == sa.bindparam("account"), column > above)
    return query.order_by(column).limit(1).scalar_subquery()


_ONE: sa.ColumnElement[int] = sa.literal_column("1")
_FAMILIES = {kind: _families(kind) for kind in (OwnerKind.CONFIRMED, OwnerKind.HINTED)}
