"""One account's daemon without its door and its threads, on a clock that only the test moves."""

import concurrent.futures
import logging
import math
import pathlib
import random
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import httpx2
import pytest
import structlog

from archiver.archive.transfer import TransferLimits
from archiver.engine.api_clocks import ApiClocks
from archiver.engine.stages import Account, build_stages
from archiver.engine.stages import Clock as StageClock
from archiver.engine.sweep_loop import SweepLoop
from archiver.engine.upkeep import Upkeep
from archiver.failures import LeaseLost
from archiver.fetch.fetcher import Fetcher
from archiver.fetch.spool import Spool
from archiver.fetch.urls import EgressPolicy
from archiver.kling.client import KlingClient
from archiver.kling.credentials import KeyPair
from archiver.kling.limiter import RateLimiter
from archiver.ledger import Ledger, new_daemon_name
from archiver.metrics import Metrics
from archiver.model import Callback, Lease, Stage, Status
from tests.harness.blank_ledger import lay_blank_ledger
from tests.harness.fake_store import FakeStore
from tests.harness.ledgers import ACCOUNT, FAMILY, MINUTE, SECOND, Clock, claim_archive
from tests.simulator import KlingSimulator

RATE_PER_SECOND = 2.0


SWEEP_SECONDS = 300.0


READ_SECONDS = 15


TEND_MS = 10 * MINUTE
"""The daemon tends every few seconds; here only deadlines matter."""


MIB = 1024 * 1024


_SSL_CONTEXT = ssl.create_default_context()


class Patient(threading.Event):
    """A stop event that is never waited for: the clock is moved by the test."""

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        return self.is_set()


class Network(httpx2.BaseTransport):
    """The network to the API. Where it is down, a question costs so many seconds and gets no answer; it is counted."""

    def __init__(self, clock: Clock) -> None:
        self.down: httpx2.TransportError | None = None
        self.unanswered = 0
        self._clock = clock
        self._cables = httpx2.HTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if self.down is None:
            return self._cables.handle_request(request)
        self.unanswered += 1
        if isinstance(self.down, httpx2.TimeoutException):
            self._clock.advance(READ_SECONDS * SECOND)
        raise self.down

    def close(self) -> None:
        self._cables.close()


class Service:
    """One account's daemon without its door and its threads. Use as a context; `pass_time` is all that happens."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.clock = Clock()
        self.sim = KlingSimulator(now=lambda: self.clock() / 1000)
        self.network = Network(self.clock)
        self.store = FakeStore()
        self._tended_at = 0
        self.answers: Counter[str] = Counter()
        self.metrics = Metrics()
        self._folder = folder
        self._pool = concurrent.futures.ThreadPoolExecutor(4)
        lay_blank_ledger(folder / "ledger.db")
        self.ledger = Ledger.open(f"sqlite:///{folder}/ledger.db", daemon=True, now=self.clock)
        self.client = KlingClient(
            self.sim.base_url,
            KeyPair(self.sim.access_key, self.sim.secret_key),
            RateLimiter(RATE_PER_SECOND, wait=self._wait, monotonic=self._seconds),
            now=self._seconds,
            observe=lambda _endpoint, code: self.answers.update([code]),
            transport=self.network,
        )
        self.fetcher = Fetcher(
            policy=EgressPolicy.parse([self.sim.origin]),
            spool=Spool(folder / "spool"),
            ssl_context=_SSL_CONTEXT,
        )
        account = Account(
            name=ACCOUNT,
            families=(FAMILY,),
            client=self.client,
            limits=TransferLimits(image_bytes_max=MIB, video_bytes_max=MIB),
        )
        stages = build_stages(
            account,
            ledger=self.ledger,
            store=self.store,
            fetcher=self.fetcher,
            metrics=self.metrics,
            transfer_pool=self._pool,
            clock=StageClock(self.clock, self._seconds, random.Random(1).random),
        )
        self.keeper, self.verifier, self.archiver = stages.keeper, stages.verifier, stages.archiver
        self.list_matcher = stages.list_matcher
        self.failure_handler = stages.failure_handler
        self._hosts, self._outages = stages.hosts, stages.outages
        self.sweeps = SweepLoop(
            sweeper=stages.sweeper,
            families=(FAMILY,),
            ledger=self.ledger,
            interval_seconds=SWEEP_SECONDS,
            stop=Patient(),
            on_swept=lambda _family: self._lift(Stage.VERIFY, Stage.SWEEP),
            outages=stages.outages,
            monotonic=self._seconds,
        )
        self.upkeep = Upkeep(
            clocks=ApiClocks({ACCOUNT: self.client}, int(SWEEP_SECONDS * 1000), now=self.clock),
            daemon_name=new_daemon_name(),
            version="test",
            started_at=self.clock(),
            ledger=self.ledger,
            metrics=self.metrics,
        )

    def __enter__(self) -> Self:
        self.sim.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        self.fetcher.close()
        self.client.close()
        self.sim.__exit__(kind, error, trace)
        self.ledger.close()

    # --- the clock ----------------------------------------------------------------------------------------

    def _seconds(self) -> float:
        return self.clock() / 1000

    def _wait(self, seconds: float) -> bool:
        self.clock.advance(math.ceil(seconds * 1000))
        return False

    def pass_time(self, milliseconds: int) -> None:
        """Whatever comes due within this time is done at its moment."""
        end = self.clock() + milliseconds
        while self.clock() < end:
            self._work(until=end)
            moments = [moment for moment in self._moments() if moment > self.clock()]
            self.clock.now = max(self.clock(), min([end, *moments]))

    def _moments(self) -> list[int]:
        """When something comes due: rows, probes of holds, sweeps."""
        rows = "SELECT min(due_at) FROM tasks WHERE queue IS NOT NULL AND due_at > :now"
        probes = "SELECT min(probe_at) FROM holds"
        with self.ledger.database.read() as connection:
            found = [
                connection.exec_driver_sql(query, {"now": self.clock()} if ":now" in query else {}).scalar()
                for query in (rows, probes)
            ]
        sweeps = [int(due * 1000) for due in self.sweeps._due_at.values()]  # noqa: SLF001 -- the same of the sweeps
        return [moment for moment in found if moment is not None] + sweeps

    def verify_all(self, *, until: float = math.inf) -> None:
        """Ask for whatever waits, and fetch nothing yet. Questions take time: `until` (Unix ms) it may go on."""
        while self.clock() < until and self.ledger.claims.any_due(Stage.VERIFY, account=ACCOUNT):
            began = self.list_matcher.match().began
            claims = self.ledger.claims
            leases = claims.verify(count=4, offset=0, due_before=began, account=ACCOUNT)
            if not self._each([*leases, *claims.fresh(account=ACCOUNT, count=1)]):
                return

    # --- the worker's steps -------------------------------------------------------------------------------

    def _work(self, *, until: int) -> None:
        if self.clock() >= self._tended_at + TEND_MS:
            self._tended_at = self.clock()
            self.upkeep.run_once()
        self.sweeps.step()
        self.verify_all(until=until)
        while leases := claim_archive(self.ledger, count=8, account=ACCOUNT):
            self._each(leases)

    def _each(self, leases: list[Lease]) -> bool:
        self.keeper.keep(leases, asked_at=self._seconds())
        for lease in leases:
            self.keeper.renew()
            try:
                if lease.fresh_wanted_at is not None and lease.stage is Stage.VERIFY:
                    self.verifier.refresh(lease)
                elif lease.stage is Stage.VERIFY:
                    if self.verifier.ask(lease).is_proof:
                        self._lift(Stage.VERIFY, Stage.SWEEP)
                else:
                    self.archiver.archive(lease)
                    self._lift(Stage.ARCHIVE)
            except LeaseLost:
                continue
            except Exception as error:  # noqa: BLE001 -- as the worker's: whatever it is, it is settled
                self.failure_handler.handle(lease, error)
            finally:
                self.keeper.drop(lease)
                for host, reasons in self._hosts.take_recovered().items():
                    self.ledger.holds.release_host(account=ACCOUNT, host=host, reasons=reasons)
        return bool(leases)

    def _lift(self, *stages: Stage) -> None:
        self._outages.at(stages[0]).worked()
        if self.ledger.holds.release(account=ACCOUNT, stages=stages, family=FAMILY) and Stage.SWEEP in stages:
            self.sweeps.resume()

    # --- what a test does and sees ------------------------------------------------------------------------

    def called_back(self, count: int, *, status: str = "succeed") -> list[str]:
        ids = [self.sim.create_task(status=status) for _ in range(count)]
        self.tell(*ids)
        return ids

    def tell(self, *ids: str) -> None:
        self.ledger.callbacks.record([Callback(ACCOUNT, one, Status.SUCCEEDED, FAMILY) for one in ids])

    @property
    def questions(self) -> int:
        """How often the API was asked, answered or not."""
        asked = self.sim.requests
        return asked["query"] + asked["list"] + asked["tasks"] + self.network.unanswered

    def refused(self, code: int) -> float:
        """Answers of this code, as `kling_api_requests_total` counts them."""
        return self.answers[str(code)]

    def failures(self, reason: str) -> float:
        """`kling_failures_total` of this reason, in all stages."""
        return sum(
            sample.value
            for metric in self.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "kling_failures_total" and sample.labels["reason"] == reason
        )

    def states(self, *ids: str) -> set[str]:
        return {
            state.value for state in self.ledger.records.states(account=ACCOUNT, task_ids=list(ids)).values()
        }

    def assert_archived(self, *ids: str) -> None:
        """Each of them, once, with the right bytes under a manifest."""
        assert self.states(*ids) == {"archived"}
        folders = {key.rpartition("/")[0] for key in self.store.objects}
        for task_id in ids:
            (folder,) = [folder for folder in folders if folder.endswith(f"/{task_id}")]
            assert f"{folder}/manifest.json" in self.store.objects
            assert self.store.content(f"{folder}/0.png") == self.sim.expected_bytes(task_id, "0")
        assert self.store.complaints == []
        assert self.sim.complaints == []


@pytest.fixture
def service(tmp_path: pathlib.Path) -> Iterator[Service]:
    # No log: three days of it would take longer to write than to live through.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with Service(tmp_path) as made:
        yield made
    structlog.reset_defaults()
