"""What `/readyz` and `/metrics` say of the engine."""

import collections
import dataclasses
import itertools

from archiver.engine.api_clocks import ApiClocks
from archiver.ledger import HoldView, Ledger, StatusView
from archiver.metrics import Metrics
from archiver.model import RETENTION_MS, Problem, State
from archiver.problems import Expected, find_problems, look


@dataclasses.dataclass(frozen=True)
class Health:
    """Reads the ledger and the clocks; changes nothing."""

    ledger: Ledger
    metrics: Metrics
    clocks: ApiClocks
    expected: Expected

    def refresh_gauges(self) -> None:
        """Bring the gauges that mirror the ledger up to date; called for each scrape.

        If the ledger cannot be read, only the gauge of that problem changes; the others keep their last values.
        """
        metrics = self.metrics
        view, problems = look(self.ledger, self.expected)
        metrics.problems.show(
            collections.Counter((problem.account or "", problem.code) for problem in problems)
        )
        if view is None:
            return
        begun_at = view.first_started_at or view.now
        for account, state in itertools.product(sorted({*self.clocks.clients, *view.accounts}), State):
            metrics.tasks.labels(account=account, state=state).set(view.counts.get((account, state), 0))
        for forward_state, count in view.forward_counts.items():
            metrics.forwards.labels(state=forward_state).set(count)
        # A hold of one process counts once for each process that has it.
        holds: list[HoldView | Problem] = [*view.holds, *view.process_holds]
        metrics.holds.show(
            collections.Counter((hold.account or "", hold.stage or "", hold.reason or "") for hold in holds)
        )
        deadline = view.earliest_deadline or view.now + RETENTION_MS
        metrics.earliest_deadline_timestamp_seconds.set(deadline / 1000)
        metrics.last_callback_timestamp_seconds.set((view.last_callback_at or begun_at) / 1000)
        oldest = min((task.at for task in view.oldest_succeeded), default=view.now)
        metrics.oldest_unarchived_age_seconds.set(max(0, view.now - oldest) / 1000)
        self._refresh_sweeps(view, begun_at=begun_at)
        skews = {account: self.clocks.skew_ms(account) for account in self.clocks.clients}
        metrics.clock_skew_seconds.show(
            {(account,): skew_ms / 1000 for account, skew_ms in skews.items() if skew_ms is not None}
        )

    def _refresh_sweeps(self, view: StatusView, *, begun_at: int) -> None:
        """Show only families that the settings name and that the API has ever listed: an alert about another family
        would never end."""
        last = {(sweep.account, sweep.family): sweep.last_success_at for sweep in view.sweeps}
        for account, families in self.expected.families.items():
            for family in families:
                success_at = last.get((account, family))
                if success_at is not None or (account, family) not in view.unavailable:
                    gauge = self.metrics.last_sweep_success_timestamp_seconds
                    gauge.labels(account=account, family=family).set((success_at or begun_at) / 1000)

    def degraded(self) -> list[object]:
        """Every problem."""
        view = self.ledger.views.status()
        return [problem.as_degraded() for problem in find_problems(view, self.expected)]
