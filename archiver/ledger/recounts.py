"""Counts all tasks anew, and mends the counts that are wrong."""

import collections

import sqlalchemy as sa

from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema
from archiver.ledger.tables.counts import Kind, add_counts, task_counts

_TASKS = schema.tasks.c
# Along `tasks_by_family` and `tasks_by_hint`, in their order: no row of a confirmed task is read, and its document is
# long. The answer that confirms a task also names its family.
_CONFIRMED = (
    sa.select(_TASKS.account, _TASKS.state, sa.func.count())
    .where(_TASKS.family.is_not(None))
    .group_by(_TASKS.account, _TASKS.family, _TASKS.state)
)
_UNCONFIRMED = (
    sa.select(_TASKS.account, _TASKS.state, sa.func.count())
    .where(_TASKS.confirmed_at.is_(None))
    .group_by(_TASKS.account, _TASKS.family_hint, _TASKS.state)
)


class Recounts(Part):
    """Compares counts with tasks."""

    @retried
    def mend(self) -> int:
        """Mend the counts; how many were wrong.

        Tasks and counts are read in one snapshot, so what transactions commit meanwhile changes no difference. Of two
        processes that mend at once, each adds the difference; the next look takes one back.
        """
        with self._database.read() as connection:
            wrong = collections.Counter(_counted(connection))
            wrong.subtract(task_counts(connection))
        differences = {kind: count for kind, count in wrong.items() if count}
        if differences:
            with self._database.write() as connection:
                add_counts(connection, differences)
        return len(differences)


def _counted(connection: sa.Connection) -> collections.Counter[Kind]:
    counted: collections.Counter[Kind] = collections.Counter()
    for query, is_confirmed in ((_CONFIRMED, True), (_UNCONFIRMED, False)):
        for account, state, count in connection.execute(query):
            counted[Kind(account, state, is_confirmed)] += count
    return counted
