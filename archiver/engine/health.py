"""What `/readyz` and `/metrics` say of the engine."""

import dataclasses
import datetime
import math

from archiver.engine.api_clocks import WHAT_TO_DO, ApiClocks
from archiver.ledger import Ledger
from archiver.metrics import Metrics


@dataclasses.dataclass(frozen=True)
class Health:
    """Reads the ledger and the clocks; changes nothing."""

    ledger: Ledger
    metrics: Metrics
    clocks: ApiClocks

    def refresh_gauges(self) -> None:
        """Bring the gauges that mirror the ledger up to date; called for each scrape."""
        status = self.ledger.status(accounts=self.clocks.clients)
        for state, count in status["states"].items():
            self.metrics.tasks.labels(state=state).set(count)
        self.metrics.earliest_deadline_timestamp_seconds.set(_seconds(status["earliest_deadline"]))
        self.metrics.last_callback_timestamp_seconds.set(_seconds(status["last_callback_at"]))
        for family, swept in status["last_sweep"].items():
            self.metrics.last_sweep_success_timestamp_seconds.labels(family=family).set(_seconds(swept))

    def degraded(self) -> list[object]:
        """What does not work at the moment: holds, and a clock that is off."""
        found: list[object] = list(self.ledger.holds())
        for account, skew_ms in self.clocks.skewed():
            clock = {"stage": "clock", "reason": "clock_skewed", "seconds": skew_ms / 1000}
            found.append({"account": account, **clock, "what_to_do": WHAT_TO_DO})
        return found


def _seconds(moment: str | None) -> float:
    """Unix seconds of a time from the ledger; NaN, which no alert compares with, where there is none."""
    return math.nan if moment is None else datetime.datetime.fromisoformat(moment).timestamp()
