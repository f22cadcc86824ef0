"""Keeps the events of one task to one target in order: a forward waits for its turn while an earlier one is tried.

Its 7 days begin with its turn. Otherwise a forward that dies on its last try would leave no time to those behind it.
"""

from collections.abc import Collection

import sqlalchemy as sa

from archiver.ledger.tables import schema
from archiver.ledger.tables.forwards import ForwardState

_FORWARDS = schema.forwards


def _earlier_waits() -> sa.Exists:
    earlier = _FORWARDS.alias("earlier")
    return sa.exists().where(
        earlier.c.task == _FORWARDS.c.task,
        earlier.c.target == _FORWARDS.c.target,
        earlier.c.id < _FORWARDS.c.id,
        earlier.c.state == ForwardState.WAITING,
    )


EARLIER_WAITS = _earlier_waits()

_GIVE_TURN = (
    sa.update(_FORWARDS)
    .where(_FORWARDS.c.task == sa.bindparam("of_task"), _FORWARDS.c.target == sa.bindparam("to_target"))
    .where(_FORWARDS.c.state == ForwardState.WAITING, _FORWARDS.c.attempts == 0)
    .values(queued_at=sa.bindparam("now"))
)


def give_turn(connection: sa.Connection, ended: Collection[tuple[int, str]], *, now: int) -> None:
    """Forwards of these tasks to these targets have ended: what waited behind them counts from now."""
    turns = [{"of_task": task, "to_target": target, "now": now} for task, target in sorted(set(ended))]
    if turns:
        connection.execute(_GIVE_TURN, turns)
