"""What loops run on and wait by, and the guard that keeps them alive."""

import concurrent.futures
import functools
import threading
import time
from collections.abc import Callable, Mapping

from archiver import log
from archiver.engine.pools import PrestartedPool
from archiver.failures import LedgerUnavailable, Stopped

IDLE_SECONDS = 0.5
CRASH_PAUSE_SECONDS = 1.0
WATCHED = frozenset({"archive-loop", "lease-renewal", "upkeep-loop"})
"""The loops whose steps are short, whatever is down outside: calls of the ledger, each of which has an end."""
STALLED_SECONDS = 600.0
"""A watched loop that has begun no step for so long hangs. A round of upkeep on a slow disk takes a tenth of it."""


class Pulses:
    """When each of the watched loops of a process has last begun a step. Thread-safe."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._begun: dict[tuple[str, str], float] = {}

    def beat(self, name: str, *, account: str) -> None:
        """The loop begins a step."""
        if name in WATCHED:
            self._begun[name, account] = self._monotonic()

    def stalled(self) -> list[str]:
        """The loops that hang."""
        oldest = self._monotonic() - STALLED_SECONDS
        return sorted({name for (name, _), begun_at in self._begun.copy().items() if begun_at < oldest})


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
        """One step; what it raises is logged."""
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
            while goes_on():
                self._pulses.beat(name, account=self._bound.get("account", ""))
                self.attempt(name, step)
        finally:
            if goes_on():
                log.get().critical("worker.crashed", loop=name)
                self._on_death()

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
