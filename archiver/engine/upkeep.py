"""What has to happen from time to time: deadlines, pruning, missed callbacks, gauges, the daemon's sign of life."""

import dataclasses
import datetime
import itertools
import math
from collections.abc import Callable, Mapping

from archiver import log
from archiver.kling.client import KlingClient
from archiver.ledger import Expiry, Ledger
from archiver.metrics import Metrics
from archiver.model import State

SKEW_MS_MAX = 5 * 60 * 1000
"""While the local clock and the API's differ by more, nobody's deadline is decided."""

HEARD_MS_MAX = 15 * 60 * 1000
"""How old the API's last answer may be, or two sweep intervals, for our clock to be believed."""

BATCHES_MAX = 20
"""Batches brought forward or dropped a round: faster than callbacks can bring new ids, and soon enough back to the
other duties."""

_SET_CLOCK = "Set this machine's clock by NTP; until then no deadline is decided."


@dataclasses.dataclass
class Upkeep:
    """Tends the ledger of one process, for all of its accounts. `now` gives Unix ms."""

    clients: Mapping[str, KlingClient]
    """By account: whose clock decides about its deadlines."""
    ledger: Ledger
    metrics: Metrics
    sweep_interval_ms: int
    daemon_id: str
    version: str
    started_at: int
    now: Callable[[], int]
    _skews_said: set[str] = dataclasses.field(default_factory=set)

    def run_once(self) -> None:
        """One round. Every part is a transaction of its own; a crash between two loses nothing."""
        self.ledger.beat(
            self.daemon_id, version=self.version, started_at=self.started_at, clock_skew_ms=self._skew_ms()
        )
        batches = (self.ledger.bring_forward() for _ in range(BATCHES_MAX))
        brought = sum(itertools.takewhile(bool, batches))
        if brought:
            log.get().warning("clock.set_back", count=brought)
        unsound = [account for account in self.clients if not self._clock_is_sound(account)]
        if len(unsound) < len(self.clients):
            # One API with a clock of its own stops no verdict on the others' tasks. Accounts that nobody works for any
            # more have no API: theirs are lost as soon as anybody's clock agrees with ours.
            for verdict in self.ledger.expire(but=unsound):
                self._say(verdict)
        batches = (self.ledger.prune(by_age=not unsound) for _ in range(BATCHES_MAX))
        dropped = sum(itertools.takewhile(bool, batches))
        if dropped:
            log.get().info("ids.dropped", count=dropped)
        for (account, family), count in self.ledger.count_missed(patience_ms=self.sweep_interval_ms).items():
            self.metrics.missed_callbacks_total.labels(family=family).inc(count)
            log.get().warning("callbacks.missed", account=account, family=family, count=count)

    def refresh_gauges(self) -> None:
        """Bring the gauges that mirror the ledger up to date; called for each scrape."""
        status = self.ledger.status(accounts=self.clients)
        for state, count in status["states"].items():
            self.metrics.tasks.labels(state=state).set(count)
        self.metrics.earliest_deadline_timestamp_seconds.set(_seconds(status["earliest_deadline"]))
        self.metrics.last_callback_timestamp_seconds.set(_seconds(status["last_callback_at"]))
        for family, swept in status["last_sweep"].items():
            self.metrics.last_sweep_success_timestamp_seconds.labels(family=family).set(_seconds(swept))

    def degraded(self) -> list[object]:
        """What does not work at the moment, for `/readyz`: holds, and a clock that is off."""
        found: list[object] = list(self.ledger.holds())
        for account, client in self.clients.items():
            skew = client.skew_ms
            if skew is not None and abs(skew) > SKEW_MS_MAX:
                clock = {"stage": "clock", "reason": "clock_skewed", "seconds": skew / 1000}
                found.append({"account": account, **clock, "what_to_do": _SET_CLOCK})
        return found

    def _skew_ms(self) -> int | None:
        """How far ahead the API's clock is that differs the most from ours; None before any has answered."""
        heard = [client.skew_ms for client in self.clients.values() if client.skew_ms is not None]
        return max(heard, key=abs, default=None)

    def _clock_is_sound(self, account: str) -> bool:
        """Whether a deadline of the account may be decided: its API has answered a while ago, and by a clock like ours.
        A clock that somebody has set since makes that while absurd."""
        client = self.clients[account]
        skew, measured_at = client.skew_ms, client.skew_measured_at
        if skew is None or measured_at is None:
            return False
        if not 0 <= self.now() - measured_at * 1000 <= max(HEARD_MS_MAX, 2 * self.sweep_interval_ms):
            return False
        if abs(skew) <= SKEW_MS_MAX:
            self._skews_said.discard(account)
            return True
        if account not in self._skews_said:
            log.get().error("clock.skewed", account=account, seconds=skew / 1000, what_to_do=_SET_CLOCK)
            self._skews_said.add(account)
        return False

    def _say(self, verdict: Expiry) -> None:
        fields = {"task_id": verdict.task_id, "family": verdict.family, "reason": verdict.reason}
        if verdict.verdict is State.LOST:
            self.metrics.tasks_lost_total.inc()
            log.get().critical("task.lost", account=verdict.account, **fields)
        elif verdict.verdict is State.FAILED:
            log.get().warning("task.failed", account=verdict.account, **fields)


def _seconds(moment: str | None) -> float:
    """Unix seconds of a time as the ledger tells it; NaN, which no alert compares with, where there is none."""
    return math.nan if moment is None else datetime.datetime.fromisoformat(moment).timestamp()
