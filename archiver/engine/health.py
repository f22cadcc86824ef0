"""What `/readyz` and `/metrics` say of the engine."""

import dataclasses
import math

from archiver.engine.api_clocks import ApiClocks
from archiver.ledger import Ledger
from archiver.metrics import Metrics
from archiver.problems import Expected, find_problems


@dataclasses.dataclass(frozen=True)
class Health:
    """Reads the ledger and the clocks; changes nothing."""

    ledger: Ledger
    metrics: Metrics
    clocks: ApiClocks
    expected: Expected

    def refresh_gauges(self) -> None:
        """Bring the gauges that mirror the ledger up to date; called for each scrape."""
        status = self.ledger.views.status(accounts=self.clocks.clients)
        for state, count in status.states.items():
            self.metrics.tasks.labels(state=state).set(count)
        self.metrics.earliest_deadline_timestamp_seconds.set(_seconds(status.earliest_deadline))
        self.metrics.last_callback_timestamp_seconds.set(_seconds(status.last_callback_at))
        for family, swept in status.last_sweep.items():
            self.metrics.last_sweep_success_timestamp_seconds.labels(family=family).set(_seconds(swept))

    def degraded(self) -> list[object]:
        """Every problem."""
        view = self.ledger.views.status()
        return [problem.as_degraded() for problem in find_problems(view, self.expected)]


def _seconds(moment: int | None) -> float:
    """Unix ms as seconds; NaN, which no alert compares with, for None."""
    return math.nan if moment is None else moment / 1000
