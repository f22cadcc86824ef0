"""Ids that the API has not confirmed: their number, and which are dropped when they are too many or too old.

The deletion checks each chosen row again. A row that the API has confirmed meanwhile, that a worker queries, or that a
callback has named again, stays.
"""

import threading

import sqlalchemy as sa

from archiver.ledger.tables import schema
from archiver.ledger.tables.counts import KIND_COLUMNS, Tally, kind_of, task_counts

DENIED_REST_MS = 10 * 60 * 1000
"""A denied id that was named again is queried once more. Until then it may be dropped like any other."""

_TASKS = schema.tasks
_FREE = sa.and_(_TASKS.c.confirmed_at.is_(None), _TASKS.c.lease_token.is_(None))
_DENIED = _TASKS.c.not_found_since.is_not(None)


class DropCount:
    """How many ids this process has dropped to make room, for its log. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def add(self, count: int) -> None:
        """Count more dropped ids."""
        with self._lock:
            self._count += count

    def take(self) -> int:
        """The number since the last call."""
        with self._lock:
            count, self._count = self._count, 0
            return count


def unconfirmed_counts(connection: sa.Connection) -> dict[str, int]:
    """Account → how many ids the API has not confirmed."""
    counts: dict[str, int] = {}
    for kind, count in task_counts(connection).items():
        if not kind.is_confirmed:
            counts[kind.account] = counts.get(kind.account, 0) + count
    return counts


def has_aged(connection: sa.Connection, *, account: str, named_before: int) -> bool:
    """Whether `drop_aged` would find any."""
    aged = _longest_unnamed(account, rows_max=1).where(_DENIED, _TASKS.c.named_at <= named_before)
    return connection.execute(aged).first() is not None


def drop_aged(connection: sa.Connection, *, account: str, named_before: int, rows_max: int) -> int:
    """Drop ids that the API has denied and that no callback has named since `named_before` (Unix ms); returns how many.
    An id that it has not denied may be genuine: it came while the clock was a year behind."""
    aged = _longest_unnamed(account, rows_max=rows_max).where(_DENIED, _TASKS.c.named_at <= named_before)
    return _drop(connection, aged)


def drop_surplus(connection: sa.Connection, *, account: str, rows_max: int, now: int) -> int:
    """Drop `rows_max` ids of the account: first those that the API has denied, then those that were named longest ago;
    returns how many. An id that a client of the gateway has created is never dropped: it is genuine, and only its row
    knows which client gets its forwards."""
    rested = _TASKS.c.named_at <= now - DENIED_REST_MS
    unowned = _TASKS.c.client_callback_url.is_(None)
    dropped = _drop(connection, _longest_unnamed(account, rows_max=rows_max).where(_DENIED, rested, unowned))
    if dropped < rows_max:
        dropped += _drop(connection, _longest_unnamed(account, rows_max=rows_max - dropped).where(unowned))
    return dropped


def _longest_unnamed(account: str, *, rows_max: int) -> sa.Select[int, int]:
    return (
        sa.select(_TASKS.c.id, _TASKS.c.named_at)
        .where(_FREE, _TASKS.c.account == account)
        .order_by(_TASKS.c.named_at)
        .limit(rows_max)
    )


def _drop(connection: sa.Connection, chosen: sa.Select[int, int]) -> int:
    rows = connection.execute(chosen).all()
    if not rows:
        return 0
    latest = max(row.named_at for row in rows)
    still = (_TASKS.c.id.in_(sorted(row.id for row in rows)), _FREE, _TASKS.c.named_at <= latest)
    deletion = sa.delete(_TASKS).where(*still).returning(*KIND_COLUMNS)
    tally = Tally()
    dropped = [kind_of(row) for row in connection.execute(deletion).mappings()]
    tally.remove(dropped)
    tally.write(connection)
    return len(dropped)
