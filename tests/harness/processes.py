"""Several processes on the ledger, bucket and simulator of one `Engine`, done by hand: without threads, on the engine's
clock.
"""

import dataclasses

from archiver.archive.transfers import TransferQueue
from archiver.engine.duties.keeper import DutyKeeper, Tenure
from archiver.engine.process_holds import ProcessHoldLoop, ProcessHolds
from archiver.engine.stages import Account, Clock, build_stages
from archiver.engine.worker import Worker, WorkerLimits
from archiver.kling.client import KlingClient
from archiver.ledger import Service, asking
from archiver.metrics import Metrics
from archiver.store import Store
from tests.harness.engine import ACCOUNT, FAMILY, LIMITS, TRANSFERS, Engine
from tests.harness.pipeline import Inline, InlineThreads, Unwaiting


class Process:
    """One of them. Its `store` and `client` may be its own: what another machine reaches, or is let in to."""

    def __init__(
        self, engine: Engine, name: str, *, store: Store | None = None, client: KlingClient | None = None
    ) -> None:
        self.engine = engine
        self.name = name
        clock = engine.clock
        self.keeper = DutyKeeper(engine.ledger, name=name, accounts=[ACCOUNT], monotonic=clock.monotonic)
        tenure = Tenure(self.keeper, ACCOUNT)
        self.holds = ProcessHolds(
            engine.ledger.daemons,
            name=name,
            for_all=engine.ledger.holds,
            now=clock.now,
            monotonic=clock.monotonic,
        )
        self.keeper.shunned = self.holds.shunned
        account = Account(ACCOUNT, (FAMILY,), client or engine.client, LIMITS, full_sweep_interval_ms=10**12)
        stages = build_stages(
            account,
            ledger=engine.ledger,
            store=store or engine.store,
            fetcher=engine.fetcher,
            metrics=Metrics(),
            transfer_pool=Inline(),
            transfers=TRANSFERS,
            clock=Clock(clock.now, clock.monotonic, lambda: 0.5),
            asking=engine.ledger.fenced(asking(ACCOUNT), tenure.token),
            process_holds=self.holds,
        )
        transfers = TransferQueue(Inline(), threads=TRANSFERS, hosts=stages.hosts)
        stages = dataclasses.replace(
            stages, archiver=dataclasses.replace(stages.archiver, transfers=transfers)
        )
        self.worker = Worker(
            stages,
            WorkerLimits(transfer_concurrency=4, sweep_interval_seconds=1e9),
            stop=Unwaiting(),
            on_death=lambda: None,
            monotonic=clock.monotonic,
            threads=InlineThreads(),
            may_ask=tenure.may_ask,
        )
        self.keeper.is_asking = lambda _account: self.worker.is_asking()
        self._hold_loop = ProcessHoldLoop(self.holds, engine.ledger.daemons, name=name, stop=Unwaiting())

    def round(self) -> None:
        """A step of each loop of the worker."""
        for loop in (*self.worker.loops, *self.worker.look_loops):
            self.worker.guard.attempt(loop.name, loop.step)

    def beat(self) -> None:
        """What the process's other loops do every few seconds."""
        self.keeper.step()
        daemons = self.engine.ledger.daemons
        daemons.beat(self.name, version="1", started_at=0, serves=[Service.WORK], accounts=[ACCOUNT])
        daemons.warn(self.name, self.holds.problems())
        self._hold_loop.step()
