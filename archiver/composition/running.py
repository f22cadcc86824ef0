"""`Engine`: what an entry point starts, wakes and stops."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from archiver.engine.duties.keeper import DutyKeeper
from archiver.engine.forwarding.loop import ForwardLoop
from archiver.engine.health import Health
from archiver.engine.upkeep import Upkeep
from archiver.engine.worker import Worker
from archiver.failures import LedgerUnavailable
from archiver.fetch.spool import Spool
from archiver.ledger import Ledger
from archiver.model import Stage
from archiver.pulses.watch import Pulses

_LAST_ROUND_SECONDS = 3.0
"""How long a stop waits for a round of upkeep or alerts."""


@dataclasses.dataclass(frozen=True)
class Engine:
    """What an entry point runs."""

    workers: Mapping[str, Worker]
    """By account."""
    duties: DutyKeeper | None
    """None in a process that never asks the API."""
    upkeep: Upkeep
    health: Health
    ledger: Ledger
    spool: Spool | None
    """None in a process that neither fetches files nor takes large bodies."""
    _threads: tuple[threading.Thread, ...]
    """The process's own loops: duties, upkeep, the look at the machine, second looks, and alerts if the operator wants
    them."""
    _closes: tuple[Callable[[], None], ...]
    _tell: Callable[[Stage, Iterable[str]], None] | None = None
    """Wakes other processes."""
    _forwards: ForwardLoop | None = None
    """A stop waits for its running tries, as it waits for the loops."""
    pulses: Pulses = dataclasses.field(default_factory=Pulses)
    """The pulses of all loops and pools of the process and its workers."""

    def start(self) -> None:
        """Start every worker, and the process's own loops. The process first takes its duties and gives its first sign
        of life; the door opens after that."""
        with contextlib.suppress(LedgerUnavailable):
            if self.duties is not None:
                self.duties.step()
            self.upkeep.beat()
        for worker in self.workers.values():
            worker.start()
        for thread in self._threads:
            thread.start()

    def wake(self, stage: Stage, accounts: Iterable[str]) -> None:
        """Wake the loops of `stage` for these accounts. Cheap; callable from any thread."""
        wake(self.workers, stage, accounts)
        if self._tell is not None:
            self._tell(stage, accounts)

    def stop(self, *, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> bool:
        """Stop every worker as `Worker.stop` does, all within `seconds`: they share one stop event. False when some
        work goes on: once another process has its duties, the ledger refuses its writes."""
        until = monotonic() + seconds
        ended = [worker.stop(seconds=max(0.0, until - monotonic())) for worker in self.workers.values()]
        for thread in self._threads:
            # The stop does not wait for a consumer of alerts that hangs.
            thread.join(max(0.0, min(_LAST_ROUND_SECONDS, until - monotonic())))
        if self._forwards is not None:  # a try that goes on hangs, and is sent again
            self._forwards.stop(seconds=max(0.0, min(_LAST_ROUND_SECONDS, until - monotonic())))
        if self.duties is not None:
            with contextlib.suppress(LedgerUnavailable):  # then the leases end by themselves
                self.duties.leave()
        return all(ended) and not any(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Close connections; after `stop`."""
        for close in self._closes:
            close()


def wake(workers: Mapping[str, Worker], stage: Stage, accounts: Iterable[str] | None) -> None:
    """Wake the workers of these accounts; without `accounts`, all of them."""
    for account in workers.keys() & (workers.keys() if accounts is None else set(accounts)):
        workers[account].wake(stage)
