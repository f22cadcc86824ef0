"""What happens every five seconds: deadlines, pruning, missed callbacks, the daemon's sign of life."""

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterable, Sequence

from archiver import log
from archiver.engine.api_clocks import WHAT_TO_DO, WHAT_TO_DO_UNCHECKED, ApiClocks
from archiver.failures import AmendmentDropped
from archiver.ledger import DoubtedCreates, DroppedAmendment, Expiry, Joined, Ledger, Service
from archiver.metrics import CreateResult, Metrics
from archiver.model import Problem, Stage, State

UPKEEP_SECONDS = 5.0
MATCH_MS = 20_000
"""Between two looks at creates whose answers were lost. A look reads the tasks of the days of these creates."""
ALL_ACCOUNTS_MS = 60 * 60 * 1000
"""Between two looks for late work in all accounts, also in those for which no task is counted. Each account costs five
queries."""
RECOUNT_MS = 60 * 60 * 1000
"""Between two counts of all tasks."""
BATCHES_MAX = 20
"""Batches brought forward or pruned a round: quick enough that the other duties do not wait. New ids make their own
room (`callbacks`)."""


@dataclasses.dataclass
class Upkeep:
    """Keeps the ledger of one process in order, for all of its accounts. Times are Unix ms."""

    ledger: Ledger
    metrics: Metrics
    clocks: ApiClocks
    daemon_name: str
    version: str
    started_at: int
    serves: Sequence[Service] = (Service.DOOR, Service.WORK)
    leases: Callable[[], int] = lambda: 0
    """The number of leases on tasks that the process holds."""
    kept: Ledger | None = None
    """The ledger for the one process that does the upkeep, which refuses another one's writes."""
    keeps_up: Callable[[], bool] = lambda: True
    """Whether this process does the upkeep."""
    asks_for: Callable[[], Sequence[str]] | None = None
    """The accounts that the process asks for; if None, all that it has clients of."""
    warnings: Sequence[Callable[[], Iterable[Problem]]] = ()
    """Where the process's warnings come from. Each is asked at every round and must not wait for anything."""
    _warned: list[Problem] = dataclasses.field(default_factory=list)
    _logged_skews: set[str] = dataclasses.field(default_factory=set)
    _logged_unchecked: set[str] = dataclasses.field(default_factory=set)
    _has_logged_obstacle: bool = False
    _matched_at: int = -MATCH_MS
    _looked_everywhere_at: int = -ALL_ACCOUNTS_MS
    _recounted_at: int = -RECOUNT_MS

    def run_once(self) -> None:
        """One round. Each step is one or more transactions of its own; a crash between two loses nothing. A process
        without the upkeep only gives its sign of life."""
        self.beat()
        if Service.WORK not in self.serves:
            return
        self._log_clocks()
        self._log_dropped_ids(self.ledger.dropped.take())
        if not self.keeps_up():
            return
        self._join_creates()
        self._bring_forward()
        unsound = self._unsound()
        self._decide_deadlines(unsound)
        self._prune(by_age=not unsound)
        self._drop_idle_holds()
        self._count_missed_callbacks()
        self._ledger.deadlines.fold_counts()
        self._ledger.trends.note_hour()
        self._keep_forwards()
        self._slim_archived()
        self._keep_ledger_bounded()
        self._join_creates_by_time()
        self._mend_counts()

    def beat(self) -> None:
        """Give a sign of life, and say what the process warns of."""
        self.ledger.daemons.beat(
            self.daemon_name,
            version=self.version,
            started_at=self.started_at,
            serves=self.serves,
            accounts=self._asked(),
            leases=self.leases(),
            clock_skew_ms=self.clocks.widest_skew_ms(),
        )
        self._warn()

    @property
    def _ledger(self) -> Ledger:
        return self.kept or self.ledger

    def _asked(self) -> Sequence[str]:
        return list(self.clocks.clients) if self.asks_for is None else self.asks_for()

    def _unsound(self) -> list[str]:
        """Accounts whose deadlines no clock may decide now. Only the asker of an account hears its API's clock."""
        asked = self._asked()
        sound = {account for account in asked if self.clocks.may_decide(account)}
        if others := self.clocks.clients.keys() - set(asked):
            sound |= {
                view.duty.account
                for view in self._ledger.duties.all()
                if view.duty.account in others and self.clocks.is_lately(view.clock_sound_at)
            }
        return [account for account in self.clocks.clients if account not in sound]

    def _warn(self) -> None:
        """Write what the process warns of, if that has changed. Each warning keeps the time when it was first said."""
        said = {warning.key: warning.since for warning in self._warned}
        sources = (self.clocks.problems, *self.warnings)
        warnings = [
            dataclasses.replace(warning, since=warning.since or said.get(warning.key) or self.clocks.now())
            for source in sources
            for warning in source()
        ]
        if warnings != self._warned:
            self.ledger.daemons.warn(self.daemon_name, warnings)
            self._warned = warnings

    def _join_creates(self) -> None:
        """Creates of the gateway's clients whose answers were lost, by what proves their tasks."""
        self._log_joined(self._ledger.gateway_creates.match())
        for given_up in self._ledger.gateway_creates.prune():
            log.get().warning(
                "create.given_up",
                **dataclasses.asdict(given_up),
                message="the tasks of these creates, if any exist, were not found by callback, external id or time",
                what_to_do="Look for them in Kling's console. If they exist, give the results to the clients yourself.",
            )

    def _join_creates_by_time(self) -> None:
        """The last duty of a round: if it fails, the round has done everything else."""
        now = self.clocks.now()
        if 0 <= now - self._matched_at < MATCH_MS:
            return
        self._matched_at = now
        joined, doubted = self._ledger.gateway_creates.match_by_time()
        self._log_joined(joined)
        self._log_doubted(doubted)

    def _log_joined(self, joined: Iterable[Joined]) -> None:
        for task in joined:
            self._count_creates(CreateResult.JOINED)
            log.get().info("task.joined", **dataclasses.asdict(task))

    def _log_doubted(self, doubted: Iterable[DoubtedCreates]) -> None:
        for creates in doubted:
            self._count_creates(CreateResult.DOUBTED, creates.count)
            log.get().warning(
                "create.doubted",
                **dataclasses.asdict(creates),
                message="answers to creates of clients were lost, and these tasks may be theirs",
                what_to_do="See the problem forwards_dead in status.",
            )

    def _count_creates(self, result: CreateResult, count: int = 1) -> None:
        self.metrics.gateway_creates_total.labels(result=result).inc(count)

    def _bring_forward(self) -> None:
        now, count = self.clocks.now(), 0
        is_everywhere = not 0 <= now - self._looked_everywhere_at < ALL_ACCOUNTS_MS
        for _ in range(BATCHES_MAX):
            batch = self._ledger.deadlines.bring_forward(of_all_accounts=is_everywhere)
            count += batch
            if not batch:  # all is found; if not, the next round looks everywhere again
                if is_everywhere:
                    self._looked_everywhere_at = now
                break
        if count:
            log.get().warning("clock.set_back", count=count)

    def _mend_counts(self) -> None:
        now = self.clocks.now()
        if 0 <= now - self._recounted_at < RECOUNT_MS:
            return
        self._recounted_at = now  # also if it fails: it reads every task
        if count := self._ledger.recounts.mend():
            log.get().warning("counts.mended", count=count)

    def _decide_deadlines(self, unsound: list[str]) -> None:
        """Decide no deadline of an account whose clock is unsound; one such API does not stop the other accounts.

        Accounts that left the settings have no API: their deadlines pass as soon as any account's clock is sound.
        """
        if len(unsound) < len(self.clocks.clients):
            batches = (self._ledger.deadlines.expire(except_accounts=unsound) for _ in range(BATCHES_MAX))
            for expiry in itertools.chain.from_iterable(itertools.takewhile(bool, batches)):
                self._log_expiry(expiry)
            for dropped in self._ledger.folder_work.expire(except_accounts=unsound):
                self._log_dropped(dropped)

    def _prune(self, *, by_age: bool) -> None:
        batches = (self._ledger.deadlines.prune(by_age=by_age) for _ in range(BATCHES_MAX))
        self._log_dropped_ids(sum(itertools.takewhile(bool, batches)))

    def _log_dropped_ids(self, count: int) -> None:
        if count:
            log.get().info("ids.dropped", count=count)

    def _keep_forwards(self) -> None:
        forwards = self._ledger.forward_upkeep
        if count := forwards.expire():
            log.get().error("forwards.dropped", count=count)
        for _ in itertools.takewhile(bool, (forwards.prune() for _ in range(BATCHES_MAX))):
            continue
        forwards.fold_counts()

    def _drop_idle_holds(self) -> None:
        for hold in self._ledger.holds.drop_idle():
            log.get().info(
                "hold.released",
                account=hold.account,
                stage=hold.stage,
                family=hold.family,
                host=hold.host,
                reason=hold.reason,
                message="no task is left for it",
            )

    def _count_missed_callbacks(self) -> None:
        missed = self._ledger.deadlines.count_missed(patience_ms=self.clocks.sweep_interval_ms)
        for (account, family), count in missed.items():
            self.metrics.missed_callbacks_total.labels(account=account, family=family).inc(count)
            log.get().warning("callbacks.missed", account=account, family=family, count=count)

    def _log_clocks(self) -> None:
        """Once for each account whose API's clock differs from ours, or cannot be compared with it."""
        skews = dict(self.clocks.skewed())
        for account in skews.keys() - self._logged_skews:
            seconds = skews[account] / 1000
            log.get().error("clock.skewed", account=account, seconds=seconds, what_to_do=WHAT_TO_DO)
        self._logged_skews = set(skews)
        unchecked = {account for account in self.clocks.clients if self.clocks.is_unchecked(account)}
        for account in unchecked - self._logged_unchecked:
            log.get().warning("clock.unchecked", account=account, what_to_do=WHAT_TO_DO_UNCHECKED)
        self._logged_unchecked = unchecked

    def _slim_archived(self) -> None:
        batches = (self._ledger.deadlines.slim_archived() for _ in range(BATCHES_MAX))
        for _ in itertools.takewhile(bool, batches):
            pass

    def _keep_ledger_bounded(self) -> None:
        """Keep the ledger's files small; log an obstacle once."""
        self._ledger.database.keep_bounded()
        obstacle = self._ledger.database.obstacle()
        if obstacle is not None and not self._has_logged_obstacle:
            log.get().warning(
                "ledger.overgrown",
                reason=obstacle.reason,
                message=obstacle.message,
                what_to_do=obstacle.what_to_do,
            )
        self._has_logged_obstacle = obstacle is not None

    def _log_dropped(self, dropped: DroppedAmendment) -> None:
        self.metrics.failures_total.labels(
            account=dropped.account, stage=Stage.ARCHIVE, reason=AmendmentDropped.reason
        ).inc()
        log.get().error(
            "amendment.dropped",
            account=dropped.account,
            task_id=dropped.task_id,
            family=dropped.family,
            reason=dropped.reason,
        )

    def _log_expiry(self, expiry: Expiry) -> None:
        fields = {"task_id": expiry.task_id, "family": expiry.family, "reason": expiry.reason}
        if expiry.verdict is State.LOST:
            self.metrics.tasks_lost_total.inc()
            log.get().critical("task.lost", account=expiry.account, **fields)
        elif expiry.verdict is State.FAILED:
            log.get().warning("task.failed", account=expiry.account, **fields)
        else:
            log.get().warning("task.not_found", account=expiry.account, **fields)


class UpkeepLoop:
    """Runs the upkeep of a process. `step` belongs to one thread."""

    name = "upkeep-loop"

    def __init__(self, upkeep: Upkeep, *, stop: threading.Event) -> None:
        self._upkeep = upkeep
        self._stop = stop

    def step(self) -> None:
        """One round, then a pause."""
        self._upkeep.run_once()
        self._stop.wait(UPKEEP_SECONDS)
