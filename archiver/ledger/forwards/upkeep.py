"""Keeps the table of forwards bounded: drops old forwards, and ends hopeless ones."""

import collections
from typing import Any

import sqlalchemy as sa

from archiver.ledger.forwards.turns import EARLIER_WAITS, give_turn
from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema
from archiver.ledger.tables.forwards import (
    PASSED_ON,
    ForwardState,
    ForwardTally,
    ForwardTarget,
)
from archiver.ledger.tables.named_values import FORWARDS_TO_OPERATOR, named_value
from archiver.model import DAY_MS

ROWS_MAX = 500
"""Rows of one transaction, for which callbacks wait."""
TRIED_MS = 7 * DAY_MS
"""How long a forward is tried, counted from when it was queued or its turn came."""
WAITED_MS_MAX = 2 * TRIED_MS
"""How long a forward may wait for its first try, behind many others to a consumer that hangs."""
DELIVERED_KEPT_MS = 30 * DAY_MS
DEAD_KEPT_MS = 90 * DAY_MS
COUNT_ROWS_MIN = 200
"""Fewer rows of counts than this are not folded."""

_FORWARDS = schema.forwards
_GIVEN_UP = (_FORWARDS.c.task, _FORWARDS.c.target, _FORWARDS.c.event)
_IS_COUNTED = _FORWARDS.c.event.not_in(PASSED_ON)


def _is(state: ForwardState) -> sa.ColumnElement[bool]:
    """As a literal: else SQLite cannot tell that the partial index has all the rows."""
    return _FORWARDS.c.state == sa.literal_column(f"'{state}'")


class ForwardUpkeep(Part):
    """Batches of work for the upkeep."""

    @retried
    def prune(self) -> int:
        """Drop up to ROWS_MAX forwards that ended long ago; how many."""
        with self._database.read() as connection:
            now = self._now()
            old = {state: self._old(state, now=now) for state in (ForwardState.DELIVERED, ForwardState.DEAD)}
            if all(connection.execute(query.limit(1)).first() is None for query in old.values()):
                return 0
        dropped = 0
        with self._database.write() as connection:
            for query in old.values():
                gone = sa.delete(_FORWARDS).where(_FORWARDS.c.id.in_(query.limit(ROWS_MAX).scalar_subquery()))
                dropped += _count_gone(connection, gone)
        return dropped

    def _old(self, state: ForwardState, *, now: int) -> sa.Select[int]:
        kept_ms = DELIVERED_KEPT_MS if state is ForwardState.DELIVERED else DEAD_KEPT_MS
        return sa.select(_FORWARDS.c.id).where(_is(state), _FORWARDS.c.ended_at < now - kept_ms)

    @retried
    def expire(self) -> int:
        """End up to ROWS_MAX forwards that have waited too long without a try, and drop forwards to the operator's
        application if it wants none any more; how many."""
        with self._database.read() as connection:
            now = self._now()
            is_told = named_value(connection, FORWARDS_TO_OPERATOR) is not None
            # A forward that kills the process at each try has an ended lease.
            is_free = sa.or_(_FORWARDS.c.lease_token.is_(None), _FORWARDS.c.lease_until < now)
            free = (_is(ForwardState.WAITING), is_free)
            waiting = sa.select(_FORWARDS.c.id).where(*free)
            stuck = waiting.where(_FORWARDS.c.queued_at < now - WAITED_MS_MAX, ~EARLIER_WAITS).limit(ROWS_MAX)
            unwanted = waiting.where(
                _FORWARDS.c.queued_at < now - TRIED_MS, _FORWARDS.c.target == ForwardTarget.OPERATOR
            ).limit(ROWS_MAX)
            stuck_ids = list(connection.execute(stuck).scalars())
            unwanted_ids = [] if is_told else list(connection.execute(unwanted).scalars())
        if not stuck_ids and not unwanted_ids:
            return 0
        with self._database.write() as connection:
            dropped = _count_gone(
                connection, sa.delete(_FORWARDS).where(_FORWARDS.c.id.in_(sorted(unwanted_ids)), *free)
            )
            given_up: dict[str, Any] = {"state": ForwardState.DEAD, "due_at": None, "ended_at": now}
            given_up |= {
                "lease_token": None,
                "lease_until": None,
                "reason": sa.func.coalesce(_FORWARDS.c.reason, "never_tried"),
                "unseen_since": sa.case((_IS_COUNTED, now), else_=None),
            }
            change = sa.update(_FORWARDS).where(_FORWARDS.c.id.in_(sorted(stuck_ids)), *free)
            ended = connection.execute(change.values(given_up).returning(*_GIVEN_UP)).all()
            give_turn(connection, [(row.task, row.target) for row in ended], now=now)
            tally = ForwardTally()
            for row in ended:
                tally.move(row.event, ForwardState.WAITING, ForwardState.DEAD)
            tally.write(connection)
        return dropped + len(ended)

    @retried
    def fold_counts(self) -> int:
        """Put rows of counts together, if there are many; how many there are fewer."""
        table = schema.forward_counts
        with self._database.read() as connection:
            query = sa.select(sa.func.count()).select_from(table)
            if connection.execute(query).scalar_one() <= COUNT_ROWS_MIN:
                return 0
        oldest = sa.select(table.c.id).order_by(table.c.id).limit(10_000)
        taken = sa.delete(table).where(table.c.id.in_(oldest.scalar_subquery())).returning(table)
        with self._database.write() as connection:
            sums: collections.Counter[str] = collections.Counter()
            rows = connection.execute(taken).all()
            for row in rows:
                sums[row.state] += row.forwards
            tally = ForwardTally()
            for state, count in sums.items():
                tally.add(state, count)
            tally.write(connection)
            return len(rows) - sum(1 for count in sums.values() if count)


def _count_gone(connection: sa.Connection, gone: sa.Delete) -> int:
    """Run a delete of forwards; how many are gone."""
    rows = connection.execute(gone.returning(_FORWARDS.c.state, _FORWARDS.c.event)).all()
    tally = ForwardTally()
    for row in rows:
        if row.event not in PASSED_ON:
            tally.add(row.state, -1)
    tally.write(connection)
    return len(rows)
