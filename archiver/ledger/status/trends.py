"""What the charts of the console show: when tasks were archived, and when the deadlines are. Both cost the same on ten
tasks and on ten million."""

import dataclasses
from collections.abc import Sequence

import sqlalchemy as sa

from archiver.ledger.databases.dialect import in_index_order, insert_missing
from archiver.ledger.part import Part, retried
from archiver.ledger.status.tasks import in_state
from archiver.ledger.tables import schema
from archiver.model import DAY_MS, State

HOUR_MS = 3_600_000
KEPT_MS = 8 * DAY_MS
"""How long the counts of an hour are kept."""
HOURS = 24
DEADLINES_MAX = 500

_HOURLY, _TASKS = schema.hourly_counts.c, schema.tasks.c
_ARCHIVED = sa.select(
    sa.cast(sa.func.coalesce(sa.func.sum(schema.task_counts.c.tasks), 0), sa.BigInteger)
).where(schema.task_counts.c.state == State.ARCHIVED)


@dataclasses.dataclass(frozen=True, slots=True)
class HourView:
    """The tasks archived in the hour that begins at `hour_at` (Unix ms)."""

    hour_at: int
    archived: int


@dataclasses.dataclass(frozen=True, slots=True)
class Charts:
    """What is drawn."""

    hours: Sequence[HourView]
    """The last 24, the present one last; fewer where the ledger has not counted for so long."""
    deadlines: Sequence[int]
    """Of confirmed tasks that are not in the bucket, nearest first (Unix ms): DEADLINES_MAX at most."""


class Trends(Part):
    """Counts by time. They cost no walk over the tasks: once an hour, the present total is written down."""

    @retried
    def note_hour(self) -> None:
        """At the first call in an hour, write down how many tasks are archived, and drop what is too old. Rows of the
        future are from a clock that was set back since."""
        with self._database.read() as connection:
            known = sa.select(_HOURLY.hour_at).where(_HOURLY.hour_at == _hour_of(self._now()))
            if connection.execute(known).first() is not None:
                return
        with self._database.write() as connection:
            hour_at = _hour_of(self._now())
            archived = connection.execute(_ARCHIVED).scalar_one()
            values = {"hour_at": hour_at, "archived": archived}
            connection.execute(insert_missing(connection, schema.hourly_counts), values)
            is_useless = sa.or_(_HOURLY.hour_at < hour_at - KEPT_MS, _HOURLY.hour_at > hour_at)
            connection.execute(sa.delete(schema.hourly_counts).where(is_useless))

    def charts(self) -> Charts:
        """What both charts show, by one snapshot."""
        with self._database.read() as connection:
            return Charts(_last_day(connection, now=self._now()), _nearest(connection))


def _last_day(connection: sa.Connection, *, now: int) -> list[HourView]:
    now_hour = _hour_of(now)
    counted = sa.select(_HOURLY.hour_at, _HOURLY.archived).where(_HOURLY.hour_at <= now_hour)
    rows = connection.execute(counted.order_by(_HOURLY.hour_at)).all()
    if not rows:
        return []
    total = connection.execute(_ARCHIVED).scalar_one()
    begun = [row.hour_at for row in rows]
    ended = [row.archived for row in rows[1:]] + [total]
    # If no daemon ran for hours, tasks archived before count for the hour of the last look.
    archived = {row.hour_at: max(0, end - row.archived) for row, end in zip(rows, ended, strict=True)}
    first = max(begun[0], now_hour - (HOURS - 1) * HOUR_MS)
    return [HourView(hour, archived.get(hour, 0)) for hour in range(first, now_hour + 1, HOUR_MS)]


def _nearest(connection: sa.Connection) -> list[int]:
    with in_index_order(connection):
        return sorted(connection.execute(_DEADLINES).scalars())[:DEADLINES_MAX]


def _deadlines(state: State) -> sa.Select[int]:
    query = sa.select(_TASKS.deadline_at).where(in_state(state), _TASKS.confirmed_at.is_not(None))
    return sa.select(query.order_by(_TASKS.deadline_at).limit(DEADLINES_MAX).subquery())


_DEADLINES = sa.union_all(*map(_deadlines, (State.RUNNING, State.SUCCEEDED, State.BURIED)))


def _hour_of(milliseconds: int) -> int:
    return milliseconds // HOUR_MS * HOUR_MS
