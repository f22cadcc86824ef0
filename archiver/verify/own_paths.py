"""Decides which families' own paths to query about a task that `/tasks` shows.

`/tasks` shows the tasks of both standards alike. A legacy task must be read by its own path, which tells its family. A
task of the new standard has no such path (Kling 4.0 makes images this way): every configured family would have to deny
it, which costs four queries for each image. So the account's recent tasks decide, for each kind of result:

1. The family that answered last is queried first.
2. A path that has denied a task is not queried for it again.
3. After `DENIED_IN_A_ROW` tasks that every path has denied, the answer of `/tasks` counts at once, unless the task may
   be a legacy one that no list could show yet. One task in `ASK_ANYWAY_EVERY` is still looked for, because the account
   may create both kinds.

In memory only: after a restart, `DENIED_IN_A_ROW` tasks cost their queries again.
"""

import collections
import threading
from collections.abc import Sequence

from archiver.families import OUTPUTS
from archiver.ledger import Ledger
from archiver.model import Lease, Role, Task
from archiver.verify.availability import Availability

DENIED_IN_A_ROW = 5
ASK_ANYWAY_EVERY = 20
TASKS_MAX = 10_000
"""Tasks whose denials are remembered: those that wait for a path that has not answered."""

_Kind = frozenset[Role]


class OwnPaths:
    """The paths of one account. Thread-safe."""

    def __init__(self, *, account: str, ledger: Ledger, availability: Availability) -> None:
        self._account = account
        self._ledger = ledger
        self._availability = availability
        self._lock = threading.Lock()
        self._answered: dict[_Kind, list[str]] = {}
        """The families that had a task, the latest first."""
        self._denied_in_a_row: collections.Counter[_Kind] = collections.Counter()
        self._passed_by: collections.Counter[_Kind] = collections.Counter()
        """How many tasks in a row were not looked for."""
        self._denied_by: collections.OrderedDict[str, set[str]] = collections.OrderedDict()

    def to_ask(self, lease: Lease, task: Task, families: Sequence[str], kind: _Kind) -> list[str]:
        """The families among `families` to ask about `task`, in order; none if the answer of `/tasks` counts."""
        if lease.family_hint is None and self._is_of_new_standard(lease, task, families, kind):
            return []
        with self._lock:
            denied = self._denied_by.get(lease.task_id, set())
            recent = self._answered.get(kind, [])
        last = len(recent)
        left = [family for family in families if family not in denied]
        return sorted(
            left,
            key=lambda family: (
                family != lease.family_hint,
                recent.index(family) if family in recent else last,
            ),
        )

    def denied(self, lease: Lease, family: str) -> None:
        """The path of `family` does not know the task."""
        with self._lock:
            self._denied_by.setdefault(lease.task_id, set()).add(family)
            self._denied_by.move_to_end(lease.task_id)
            if len(self._denied_by) > TASKS_MAX:
                self._denied_by.popitem(last=False)

    def found(self, lease: Lease, family: str, kind: _Kind) -> None:
        """The path of `family` has the task."""
        with self._lock:
            self._denied_by.pop(lease.task_id, None)
            self._denied_in_a_row[kind] = 0
            others = [other for other in self._answered.get(kind, []) if other != family]
            self._answered[kind] = [family, *others]

    def denied_by_all(self, lease: Lease, kind: _Kind) -> None:
        """Every path that was worth a question has denied the task."""
        with self._lock:
            self._denied_by.pop(lease.task_id, None)
            self._denied_in_a_row[kind] += 1

    def _is_of_new_standard(self, lease: Lease, task: Task, families: Sequence[str], kind: _Kind) -> bool:
        with self._lock:
            if self._denied_in_a_row[kind] < DENIED_IN_A_ROW:
                return False
        if tuple(lease.result_arrays) != (OUTPUTS,) and not self._lists_could_show(task, families):
            return False
        with self._lock:
            self._passed_by[kind] += 1
            return self._passed_by[kind] % ASK_ANYWAY_EVERY != 0

    def _lists_could_show(self, task: Task, families: Sequence[str]) -> bool:
        """Whether the sweeps have read these families' lists since the task was created: what they showed is known by
        its family already. A list that was never swept, or is not offered, says nothing."""
        for family in families:
            swept_at = self._ledger.sweeps.memory(account=self._account, family=family).last_success_at
            is_behind = swept_at is not None and (task.created_at is None or swept_at <= task.created_at)
            if is_behind and not self._availability.is_unavailable(family):
                return False
        return True
