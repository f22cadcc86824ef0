"""What `/readyz` and `/metrics` say of the engine."""

import dataclasses
import math

from archiver.engine.api_clocks import WHAT_TO_DO, WHAT_TO_DO_UNCHECKED, ApiClocks
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
        status = self.ledger.views.status(accounts=self.clocks.clients)
        for state, count in status.states.items():
            self.metrics.tasks.labels(state=state).set(count)
        self.metrics.earliest_deadline_timestamp_seconds.set(_seconds(status.earliest_deadline))
        self.metrics.last_callback_timestamp_seconds.set(_seconds(status.last_callback_at))
        for family, swept in status.last_sweep.items():
            self.metrics.last_sweep_success_timestamp_seconds.labels(family=family).set(_seconds(swept))

    def degraded(self) -> list[object]:
        """What does not work at the moment: holds, a clock that is off or unchecked, and what keeps the ledger's log
        from being shortened."""
        found: list[object] = [hold.as_json() for hold in self.ledger.holds.all()]
        for account, skew_ms in self.clocks.skewed():
            clock = {"stage": "clock", "reason": "clock_skewed", "seconds": skew_ms / 1000}
            found.append({"account": account, **clock, "what_to_do": WHAT_TO_DO})
        found += [
            {
                "account": account,
                "stage": "clock",
                "reason": "clock_unchecked",
                "what_to_do": WHAT_TO_DO_UNCHECKED,
            }
            for account in self.clocks.clients
            if self.clocks.is_unchecked(account)
        ]
        if obstacle := self.ledger.database.obstacle():
            found.append({"stage": "ledger", **dataclasses.asdict(obstacle)})
        return found


def _seconds(moment: int | None) -> float:
    """Unix ms as seconds; NaN, which no alert compares with, for None."""
    return math.nan if moment is None else moment / 1000
