"""What has to happen from time to time: deadlines, pruning, missed callbacks, gauges, the daemon's sign of life."""

import dataclasses
import datetime
import itertools
import math
from collections.abc import Callable

from archiver import log
from archiver.kling import KlingClient
from archiver.ledger import Expired, Ledger
from archiver.metrics import Metrics
from archiver.model import State

SKEW_MOST_MS = 5 * 60 * 1000
"""While the local clock and the API's differ by more, nobody's deadline is decided."""

HEARD_MOST_MS = 15 * 60 * 1000
"""How old the API's last answer may be, or two sweep intervals, for our clock to be believed."""

PRUNINGS_MOST = 20
"""Batches dropped a round: faster than callbacks can bring new ids, and soon enough back to the other duties."""

_SET_CLOCK = "Set this machine's clock by NTP; until then no deadline is decided."


@dataclasses.dataclass
class Tender:
    """Tends one account's ledger. `now` gives Unix ms."""

    account: str
    client: KlingClient
    ledger: Ledger
    metrics: Metrics
    sweep_interval_ms: int
    daemon_id: str
    version: str
    started_at: int
    now: Callable[[], int]
    _skew_said: bool = False

    def tend(self) -> None:
        """One round. Every part is a transaction of its own; a crash between two loses nothing."""
        self._heed_clock()
        self.ledger.beat(self.daemon_id, version=self.version, started_at=self.started_at)
        is_sound = self._clock_is_sound()
        if is_sound:
            for verdict in self.ledger.expire():
                self._say(verdict)
        batches = (self.ledger.prune(by_age=is_sound) for _ in range(PRUNINGS_MOST))
        dropped = sum(itertools.takewhile(bool, batches))
        if dropped:
            log.get().info("ids.dropped", account=self.account, count=dropped)
        for (_, family), count in self.ledger.count_missed(patience_ms=self.sweep_interval_ms).items():
            self.metrics.missed_callbacks_total.labels(family=family).inc(count)
            log.get().warning("callbacks.missed", account=self.account, family=family, count=count)

    def _heed_clock(self) -> None:
        """A clock that ran ahead, if only for a minute before it was set right, has told tasks to wait for times that
        are hours or years away: they wait no longer. Before the beat, which forgets what the clock has said, so that
        after a crash in between the next round does it."""
        behind_ms = self.ledger.clock_set_back_ms()
        if behind_ms <= SKEW_MOST_MS:
            return
        batches = iter(self.ledger.wait_no_longer, 0)
        log.get().warning(
            "clock.set_back", account=self.account, seconds=behind_ms / 1000, count=sum(batches)
        )

    def refresh_gauges(self) -> None:
        """Bring the gauges that mirror the ledger up to date; called for each scrape."""
        status = self.ledger.status()
        for state, count in status["states"].items():
            self.metrics.tasks.labels(state=state).set(count)
        self.metrics.earliest_deadline_timestamp_seconds.set(_seconds(status["earliest_deadline"]))
        self.metrics.last_callback_timestamp_seconds.set(_seconds(status["last_callback_at"]))
        for family, swept in status["last_sweep"].items():
            self.metrics.last_sweep_success_timestamp_seconds.labels(family=family).set(_seconds(swept))

    def degraded(self) -> list[object]:
        """What does not work at the moment, for `/readyz`: holds, and a clock that is off."""
        found: list[object] = list(self.ledger.holds())
        if self.client.skew_ms is not None and abs(self.client.skew_ms) > SKEW_MOST_MS:
            found.append({"stage": "clock", "reason": "clock_skewed", "what_to_do": _SET_CLOCK})
        return found

    def _clock_is_sound(self) -> bool:
        """Whether a deadline may be decided: the API has answered a while ago, and by a clock like ours. A clock that
        somebody has set since makes that while absurd."""
        skew, measured_at = self.client.skew_ms, self.client.skew_measured_at
        if skew is None or measured_at is None:
            return False
        if not 0 <= self.now() - measured_at * 1000 <= max(HEARD_MOST_MS, 2 * self.sweep_interval_ms):
            return False
        if abs(skew) <= SKEW_MOST_MS:
            self._skew_said = False
            return True
        if not self._skew_said:
            log.get().error(
                "clock.skewed",
                account=self.account,
                seconds=skew / 1000,
                what_to_do=_SET_CLOCK,
            )
            self._skew_said = True
        return False

    def _say(self, verdict: Expired) -> None:
        fields = {"task_id": verdict.task_id, "family": verdict.family, "reason": verdict.reason}
        if verdict.verdict is State.LOST:
            self.metrics.tasks_lost_total.inc()
            log.get().critical("task.lost", account=verdict.account, **fields)
        elif verdict.verdict is State.FAILED:
            log.get().warning("task.failed", account=verdict.account, **fields)


def _seconds(moment: str | None) -> float:
    """Unix seconds of a time as the ledger tells it; NaN, which no alert compares with, where there is none."""
    return math.nan if moment is None else datetime.datetime.fromisoformat(moment).timestamp()
