"""What an operator has seen: a lost or buried task that is acknowledged is no problem any more, nor is one with objects
that are missing in the bucket, with dead forwards, or that a create may have made whose answer was lost. It stays as it
is."""

import enum
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.databases.dialect import unindexed
from archiver.ledger.gateway_creates.doubts import acknowledge_reference, doubts_about
from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema
from archiver.ledger.tables.forwards import ForwardState
from archiver.ledger.tables.history import add_line, trim
from archiver.ledger.tables.rows import find
from archiver.ledger.tables.second_looks import MissingState
from archiver.model import State

ROWS_MAX = 500


class Acknowledged(enum.Enum):
    """What came of an id."""

    DONE = enum.auto()
    ALREADY = enum.auto()
    NO_PROBLEM = enum.auto()
    """It is neither lost nor buried, no object of it is missing, no forward is dead, and no create is in doubt."""
    UNKNOWN = enum.auto()


class Acknowledgements(Part):
    """Ends the problems of lost and buried tasks, of missing objects, of dead forwards and of doubted creates."""

    @retried
    def acknowledge(self, task_ids: Collection[str], *, account: str) -> dict[str, Acknowledged]:
        """Acknowledge these ids, external ids or references of creates, at most ROWS_MAX; the outcome of each."""
        with self._database.write() as connection:
            return {task_id: self._one(connection, account=account, task_id=task_id) for task_id in task_ids}

    @retried
    def acknowledge_lost(self, *, account: str) -> list[str]:
        """Acknowledge up to ROWS_MAX lost tasks; their ids. None are left when it is empty."""
        table = schema.tasks
        query = (
            sa.select(table.c.id, table.c.task_id)
            .where(table.c.account == account, table.c.state == State.LOST)
            .where(table.c.unseen_since.is_not(None))
            .order_by(table.c.deadline_at)
            .limit(ROWS_MAX)
        )
        with self._database.write() as connection:
            rows = connection.execute(query).all()
            return [row.task_id for row in sorted(rows) if self._mark(connection, row.id)]

    def _one(self, connection: sa.Connection, *, account: str, task_id: str) -> Acknowledged:
        row = find(connection, account=account, task_id=task_id)
        if row is None:
            is_new = acknowledge_reference(connection, account=account, reference=task_id)
            outcomes = {None: Acknowledged.UNKNOWN, True: Acknowledged.DONE, False: Acknowledged.ALREADY}
            return outcomes[is_new]
        if row["unseen_since"] is not None and self._mark(connection, row["id"]):
            return Acknowledged.DONE
        is_done = self._acknowledge_missing(connection, row["id"])
        is_done |= self._acknowledge_forwards(connection, row["id"])
        doubts = doubts_about(connection, account=account, task_id=row["task_id"])
        if self._acknowledge_doubts(connection, row["id"], doubts) or is_done:
            return Acknowledged.DONE
        is_known = row["state"] in _SET_ASIDE or _has_missing(connection, row["id"])
        is_known = is_known or bool(doubts) or _has_dead_forwards(connection, row["id"])
        return Acknowledged.ALREADY if is_known else Acknowledged.NO_PROBLEM

    def _acknowledge_missing(self, connection: sa.Connection, row_id: int) -> bool:
        table = schema.missing_objects
        unseen = (table.c.task == row_id, table.c.problem_since.is_not(None))
        if not connection.execute(sa.update(table).where(*unseen).values(problem_since=None)).rowcount:
            return False
        add_line(connection, row_id, at=self._now(), event="task.acknowledged", detail="missing objects")
        trim(connection, row_id)
        return True

    def _acknowledge_forwards(self, connection: sa.Connection, row_id: int) -> bool:
        table = schema.forwards
        unseen = (
            table.c.task == row_id,
            table.c.state == ForwardState.DEAD,
            table.c.unseen_since.is_not(None),
        )
        if not connection.execute(sa.update(table).where(*unseen).values(unseen_since=None)).rowcount:
            return False
        add_line(connection, row_id, at=self._now(), event="task.acknowledged", detail="dead forwards")
        trim(connection, row_id)
        return True

    def _acknowledge_doubts(
        self, connection: sa.Connection, row_id: int, creates: Sequence[Mapping[Any, Any]]
    ) -> bool:
        table = schema.gateway_creates
        unseen = sorted(create["reference"] for create in creates if create["unseen_since"] is not None)
        if not unseen:
            return False
        seen = sa.update(table).where(table.c.reference.in_(unseen), table.c.unseen_since.is_not(None))
        if not connection.execute(seen.values(unseen_since=None)).rowcount:
            return False
        add_line(connection, row_id, at=self._now(), event="task.acknowledged", detail="doubted creates")
        trim(connection, row_id)
        return True

    def _mark(self, connection: sa.Connection, row_id: int) -> bool:
        """False where another process has moved the task since."""
        table = schema.tasks
        unseen = (
            table.c.id == row_id,
            table.c.unseen_since.is_not(None),
            unindexed(table.c.state).in_(_UNSEEN),
        )
        if not connection.execute(sa.update(table).where(*unseen).values(unseen_since=None)).rowcount:
            return False
        add_line(connection, row_id, at=self._now(), event="task.acknowledged", detail="")
        trim(connection, row_id)
        return True


def _has_missing(connection: sa.Connection, row_id: int) -> bool:
    table = schema.missing_objects
    missing = sa.select(table.c.id).where(
        table.c.task == row_id, table.c.state.in_([MissingState.WANTED, MissingState.UNRECOVERABLE])
    )
    return connection.execute(missing.limit(1)).first() is not None


def _has_dead_forwards(connection: sa.Connection, row_id: int) -> bool:
    table = schema.forwards
    dead = sa.select(table.c.id).where(table.c.task == row_id, table.c.state == ForwardState.DEAD)
    return connection.execute(dead.limit(1)).first() is not None


_SET_ASIDE = (State.LOST, State.BURIED)
_UNSEEN = (*_SET_ASIDE, State.SUCCEEDED)
"""A buried task that is being tried again has succeeded upstream."""
