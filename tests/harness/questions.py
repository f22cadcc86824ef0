"""A ledger, a simulated account and the real client between them, on one clock."""

import concurrent.futures
import pathlib
import ssl
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from archiver.archive.transfer import TransferLimits
from archiver.engine.stages import Account, Clock, build_stages
from archiver.failures import Failure
from archiver.fetch.fetcher import Fetcher
from archiver.fetch.spool import Spool
from archiver.fetch.urls import EgressPolicy
from archiver.kling.client import KlingClient
from archiver.kling.credentials import ApiKey, KeyPair
from archiver.kling.limiter import Priority, RateLimiter
from archiver.kling.new_standard import NewStandardTask
from archiver.kling.new_standard_calls import IDS_MAX
from archiver.metrics import Metrics
from archiver.model import Callback, Lease, Stage, State, Status
from archiver.verify.matching import MatchResult
from tests.harness.fake_store import FakeStore
from tests.harness.ledgers import ACCOUNT, FAMILY, RAND, Desk
from tests.simulator import KlingSimulator, Switches

MIB = 1024 * 1024
_SSL_CONTEXT = ssl.create_default_context()
"""Made once: reading the certificates takes longer than most of these tests."""
FAMILIES = (FAMILY, "images/editing/expand", "images/multi-image2image", "images/omni-image")


class ListeningLimiter(RateLimiter):
    """Never waits; remembers the priority of each question."""

    def __init__(self) -> None:
        super().__init__(100_000, wait=threading.Event().wait)
        self.heard: list[Priority] = []
        self.halved = 0

    def acquire(self, priority: Priority, *, timeout_seconds: float | None = None) -> bool:
        self.heard.append(priority)
        return super().acquire(priority, timeout_seconds=timeout_seconds)

    def halve(self) -> None:
        self.halved += 1


class Questions:
    """Use as a context. `desk` is the ledger, `sim` the account, `step` one round of the verify loop."""

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        api_key: bool = False,
        switches: Switches | None = None,
        families: tuple[str, ...] = FAMILIES,
        prefix: str = "",
    ) -> None:
        self.desk = Desk(folder)
        self.clock = self.desk.clock
        self.ahead_ms = 0
        """How far our clock is ahead of the API's."""
        self.sim = KlingSimulator(
            now=lambda: (self.clock() - self.ahead_ms) / 1000, switches=switches, prefix=prefix
        )
        self.limiter = ListeningLimiter()
        keys = KeyPair(self.sim.access_key, self.sim.secret_key)
        self.client = KlingClient(
            self.sim.base_url,
            ApiKey(self.sim.api_key) if api_key else keys,
            self.limiter,
            now=lambda: self.clock() / 1000,
        )
        self.metrics = Metrics()
        self._fetcher = Fetcher(
            policy=EgressPolicy.parse([self.sim.origin]),
            spool=Spool(folder / "spool"),
            ssl_context=_SSL_CONTEXT,
        )
        self._pool = concurrent.futures.ThreadPoolExecutor(1)
        stages = build_stages(
            Account(
                name=ACCOUNT,
                families=families,
                client=self.client,
                limits=TransferLimits(image_bytes_max=MIB, video_bytes_max=MIB),
            ),
            ledger=self.desk.ledger,
            store=FakeStore(),
            fetcher=self._fetcher,
            metrics=self.metrics,
            transfer_pool=self._pool,
            clock=Clock(self.clock, lambda: self.clock() / 1000, lambda: RAND),
        )
        self.list_matcher, self.verifier = stages.list_matcher, stages.verifier
        self.batch_query, self.sweeper = stages.batch_query, stages.sweeper
        self.failure_handler = stages.failure_handler
        self.availability = stages.batch_query.availability

    def __enter__(self) -> Self:
        self.sim.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown()
        self._fetcher.close()
        self.client.close()
        self.sim.__exit__(kind, error, traceback)
        self.desk.close()

    @property
    def calls(self) -> dict[str, int]:
        """How often the API was asked, by kind."""
        return {kind: count for kind, count in self.sim.requests.items() if count}

    def history(
        self, count: int, *, status: str = "succeed", age: int = 0, family: str = FAMILY
    ) -> list[str]:
        """Create tasks one a second, the last one `age` ms ago; their ids, oldest first."""
        newest = self.clock() - age
        return [
            self.sim.create_task(
                family=family, status=status, created_at=newest - (count - 1 - number) * 1000
            )
            for number in range(count)
        ]

    def tell(
        self, *task_ids: str, status: Status | None = Status.SUCCEEDED, family: str | None = FAMILY
    ) -> None:
        """One batch of callbacks."""
        self.desk.ledger.callbacks.record(
            [Callback(ACCOUNT, task_id, status, family) for task_id in task_ids]
        )

    def step(self, *, threads: int = 4) -> MatchResult:
        """One round of the verify loop: lists first, then individual queries. Failures are handled."""
        matched = self.list_matcher.match()
        many = self.batch_query.is_offered()
        if many:
            self.ask_batch(due_before=matched.began)
        leases = self.desk.ledger.claims.verify(
            count=threads, offset=0, due_before=matched.began, own_paths_only=many, account=ACCOUNT
        )
        for lease in leases:
            self.ask(lease)
        return matched

    def verify_all(self) -> None:
        """Rounds until nothing is due."""
        while self.desk.ledger.claims.any_due(Stage.VERIFY, account=ACCOUNT):
            self.step()

    def ask_batch(self, *, due_before: int | None = None) -> list[State | Exception]:
        """Ask for as many ids as one batch query answers."""
        batch = self.desk.ledger.claims.batch(count=IDS_MAX, offset=0, due_before=due_before, account=ACCOUNT)
        if not batch:
            return []
        answers: Mapping[str, NewStandardTask | Failure] | None = None
        try:
            answers = self.batch_query.ask(batch)
        except Failure as error:
            for lease in batch:
                self.failure_handler.handle(lease, error)
            return [error] * len(batch)
        return [self.ask(lease, answers) for lease in batch]

    def ask(
        self, lease: Lease, answers: Mapping[str, NewStandardTask | Failure] | None = None
    ) -> State | Exception:
        """Ask for one leased id, and handle what goes wrong."""
        try:
            return self.verifier.ask(lease, answers).state
        except Exception as error:  # noqa: BLE001 -- the worker's own catch, which these tests stand in for
            self.failure_handler.handle(lease, error)
            return error

    def ask_due(self) -> State | Exception:
        """Ask for the one id that is due."""
        return self.ask(self.desk.claim(Stage.VERIFY))

    def states(self, *task_ids: str) -> set[State]:
        found = self.desk.ledger.records.states(account=ACCOUNT, task_ids=list(task_ids))
        assert len(found) == len(task_ids)
        return set(found.values())

    def archive_all(self) -> None:
        """As far as the ledger knows, everything that succeeded is in the bucket."""
        while leases := self.desk.claim_all(Stage.ARCHIVE, count=500):
            for lease in leases:
                self.desk.ledger.outcomes.archived(
                    lease, manifest_key="m", archived_at=self.clock(), stored=[]
                )
