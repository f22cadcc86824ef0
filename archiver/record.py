"""Records what the API says of tasks in the ledger, counts it and logs it: the one way for every stage."""

import dataclasses
from collections.abc import Callable, Sequence

from archiver import log
from archiver.failures import LedgerUnavailable, Stopped
from archiver.ledger import Ledger, RecordedTask, RecordOutcome
from archiver.metrics import Metrics
from archiver.model import DiscoveredBy, State, Task

ROWS_MAX = 500
"""In one transaction, for which callbacks wait."""


@dataclasses.dataclass(frozen=True)
class Recorder:
    """`random` gives numbers in [0, 1)."""

    account: str
    ledger: Ledger
    metrics: Metrics
    random: Callable[[], float]

    def record(
        self,
        tasks: Sequence[Task],
        *,
        discovered_by: DiscoveredBy,
        asked_as: str | None = None,
        behind_ms: int = 0,
    ) -> list[RecordedTask]:
        """Record at most `ROWS_MAX` tasks.

        `asked_as` is the id that one task was asked for by; `behind_ms`, how far the API's clock is behind ours.
        """
        recorded = self._write(tasks, discovered_by, asked_as=asked_as, behind_ms=behind_ms)
        self._log(tasks, recorded)
        return recorded

    def record_page(self, tasks: Sequence[Task], *, behind_ms: int = 0) -> list[RecordedTask]:
        """Record a list page of any size. Tasks that the ledger cannot take are logged and left out; where it can take
        none, the error is raised. After a crash between two transactions, the page's next reader records the rest.
        """
        recorded: list[RecordedTask] = []
        for start in range(0, len(tasks), ROWS_MAX):
            taken, refused = self._write_all_possible(tasks[start : start + ROWS_MAX], behind_ms=behind_ms)
            if refused and not taken:
                raise refused[0][1]  # the ledger is at fault, not one row
            for task, error in refused:
                log.get().error("task.unrecorded", task_id=task.task_id, family=task.family, exc_info=error)
            recorded += taken
        self._log(tasks, recorded)
        return recorded

    def _write(
        self,
        tasks: Sequence[Task],
        discovered_by: DiscoveredBy,
        *,
        asked_as: str | None = None,
        behind_ms: int,
    ) -> list[RecordedTask]:
        return self.ledger.records.record(
            tasks,
            account=self.account,
            discovered_by=discovered_by,
            rand=self.random(),
            asked_as=asked_as,
            behind_ms=behind_ms,
        )

    def _write_all_possible(
        self, tasks: Sequence[Task], *, behind_ms: int
    ) -> tuple[list[RecordedTask], list[tuple[Task, Exception]]]:
        """Where the transaction fails, record each half: one bad row would fail its page in every sweep, and hide all
        that lies behind it."""
        try:
            return self._write(tasks, DiscoveredBy.SWEEP, behind_ms=behind_ms), []
        except (LedgerUnavailable, Stopped):
            raise
        except Exception as error:  # noqa: BLE001 -- any defect a row can trigger; the caller logs it with its row
            if len(tasks) == 1:
                return [], [(tasks[0], error)]
        middle = len(tasks) // 2
        first, second = (
            self._write_all_possible(half, behind_ms=behind_ms) for half in (tasks[:middle], tasks[middle:])
        )
        return [*first[0], *second[0]], [*first[1], *second[1]]

    def _log(self, tasks: Sequence[Task], recorded: Sequence[RecordedTask]) -> None:
        by_id = {task.task_id: task for task in tasks}
        for result in recorded:
            task = by_id[result.task_id]
            if task.is_unread:
                continue  # the caller that reads the page logs its rows
            if result.outcome in (RecordOutcome.NEW, RecordOutcome.MOVED):
                self._log_change(task, result.state)
            if result.family_contradicted is not None:
                log.get().warning(
                    "family.contradicted",
                    task_id=task.task_id,
                    family=task.family,
                    said=result.family_contradicted,
                )

    def _log_change(self, task: Task, state: State | None) -> None:
        self.metrics.verifications_total.labels(result=task.status).inc()
        log.get().info(
            "task.verified", task_id=task.task_id, family=task.family, state=state, assets=len(task.assets)
        )
        if task.unknown_fields:
            log.get().warning(
                "field.unknown",
                task_id=task.task_id,
                family=task.family,
                count=len(task.unknown_fields),
                fields=list(task.unknown_fields),
            )
        if state is State.BURIED:
            log.get().error("task.buried", task_id=task.task_id, family=task.family, reason="results_missing")
