"""What loops run on and wait by, and the guard that keeps them alive."""

import concurrent.futures
import contextlib
import functools
import threading
from collections.abc import Callable, Mapping

from archiver import log
from archiver.engine.pools import PrestartedPool
from archiver.failures import LedgerUnavailable, Stopped
from archiver.pulses.pulse import Pulse
from archiver.pulses.watch import Pulses

IDLE_SECONDS = 0.5
CRASH_PAUSE_SECONDS = 1.0


class Threads:
    """Real threads, real time.

    The seam by which tests step the same loops on a clock that jumps (`tests/deadlines`).
    """

    def thread(self, run: Callable[[], None], *, name: str) -> threading.Thread:
        """A thread that has not started."""
        return threading.Thread(target=run, name=name, daemon=True)

    def event(self) -> threading.Event:
        """What a loop waits for."""
        return threading.Event()

    def pool(self, size: int, *, name: str, begin: Callable[[], object]) -> concurrent.futures.Executor:
        """Threads for work that a loop hands over; each calls `begin` first."""
        return PrestartedPool(size, name=name, begin=begin)


class Guard:
    """Runs steps so that an exception never ends a loop. A loop that ends all the same ends the process."""

    def __init__(
        self,
        *,
        stop: threading.Event,
        on_death: Callable[[], None],
        bound: Mapping[str, str] | None = None,
        pulses: Pulses | None = None,
    ) -> None:
        """`on_death` is called when a loop ends before the stop; `bound` are fields of its log lines."""
        self.stop = stop
        self._pulses = pulses or Pulses()
        self._on_death = on_death
        self._bound = bound or {}
        self._sparing = log.Sparing()

    def attempt(self, name: str, step: Callable[[], object]) -> None:
        """Run one step, and log what it raises."""
        try:
            step()
        except Stopped:
            self.stop.wait(IDLE_SECONDS)
        except LedgerUnavailable as error:
            fields = self._sparing.fields(name)
            if fields is not None:
                log.get().error(
                    "ledger.unavailable", loop=name, message=str(error), what_to_do=error.what_to_do, **fields
                )
            self.stop.wait(CRASH_PAUSE_SECONDS)
        except Exception:  # noqa: BLE001 -- a loop outlives an unexpected exception; it is logged with its traceback
            log.get().exception("worker.crashed", loop=name)
            self.stop.wait(CRASH_PAUSE_SECONDS)

    def loop(
        self, name: str, step: Callable[[], object], *, goes_on: Callable[[], bool] | None = None
    ) -> None:
        """`attempt` the step until the stop, or while `goes_on`."""
        log.bind(**self._bound)
        goes_on = goes_on or (lambda: not self.stop.is_set())
        try:
            with self.watched(name) as pulse:
                while goes_on():
                    pulse.beat()
                    self.attempt(name, step)
        finally:
            if goes_on():
                log.get().critical("worker.crashed", loop=name)
                self._on_death()

    def watched(self, name: str) -> contextlib.AbstractContextManager[Pulse]:
        """Watch this thread until the block ends, under a name of `pulses.watch.LIMITS`."""
        return self._pulses.watched(name, account=self._bound.get("account", ""))

    def thread(
        self,
        threads: Threads,
        name: str,
        step: Callable[[], object],
        *,
        goes_on: Callable[[], bool] | None = None,
    ) -> threading.Thread:
        """A thread, not started, that runs the loop."""
        return threads.thread(functools.partial(self.loop, name, step, goes_on=goes_on), name=name)
