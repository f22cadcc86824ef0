"""Finds threads of the engine that hang, and reports them.

Every wait of a thread has an end, so none should ever hang. If one does (a fault of ours, of a library, a disk that
never answers), its stage stands still while the process looks healthy, and tasks may be lost. So a thread that has not
beaten for far longer than any outside call may take

- is `loop.stalled` in the log, with its stack,
- is a problem of the process: `status --check`, `/readyz` and alerts have it,
- if archiving depends on it, ends the signs of life that systemd (`notify`), Kubernetes and the Compose files
  (`/healthz`) wait for. They start the process again, and leases end by themselves. The limits keep that rare: a fault
  that comes back with every start costs one restart in ten minutes at most, and the other stages go on in between.

Threads that only tell others (forwards, alerts, wake-ups) never cause a restart: no consumer may stop the archiving.

Time counts only while `look` runs every second: a process that was stopped (SIGSTOP, a suspended machine) or had no
processor is not suspected afterwards.
"""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from archiver import log
from archiver.failures import LoopStalled
from archiver.model import Problem, Stage
from archiver.phrases import span
from archiver.pulses.pulse import Pulse, beating
from archiver.pulses.stacks import stack_of

LOOK_SECONDS_MAX = 5.0
"""The longest time between two looks that counts: in a longer one the threads could not run either."""
_LEDGER_SECONDS = 600.0
"""Between two beats lies one transaction of the ledger, which a server is given a minute for."""
_OUTSIDE_SECONDS = 1800.0
"""Between two beats lies one request, each with an end well below a minute."""
_FILE_SECONDS = 7200.0
"""Between two beats lies one file: a fetch may take half an hour, and so may a put."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """How long one kind of thread may take between two beats."""

    seconds: float
    stage: Stage | None = None
    """The stage that stands still meanwhile."""
    is_vital: bool = True
    """Whether archiving depends on it."""


LIMITS: Mapping[str, Limit] = {
    "verify-loop": Limit(_OUTSIDE_SECONDS, Stage.VERIFY),
    "verify-work": Limit(_OUTSIDE_SECONDS, Stage.VERIFY),
    "api-look-loop": Limit(_OUTSIDE_SECONDS, Stage.VERIFY),
    "sweep-loop": Limit(_OUTSIDE_SECONDS, Stage.SWEEP),
    "archive-loop": Limit(_LEDGER_SECONDS, Stage.ARCHIVE),
    # It waits for its files, which wait for slots. Each file is watched by itself.
    "archive-work": Limit(24 * 3600.0, Stage.ARCHIVE),
    "transfer": Limit(_FILE_SECONDS, Stage.ARCHIVE),
    "folder-work-loop": Limit(_FILE_SECONDS, Stage.ARCHIVE),
    "store-look-loop": Limit(_OUTSIDE_SECONDS, Stage.ARCHIVE),
    "second-look-loop": Limit(_OUTSIDE_SECONDS, Stage.ARCHIVE),
    "lease-renewal": Limit(_LEDGER_SECONDS, Stage.ARCHIVE),
    "process-hold-loop": Limit(_LEDGER_SECONDS, Stage.ARCHIVE),
    "duty-loop": Limit(_LEDGER_SECONDS, Stage.VERIFY),
    "upkeep-loop": Limit(_LEDGER_SECONDS),
    "machine-look-loop": Limit(_OUTSIDE_SECONDS, is_vital=False),
    "forward-loop": Limit(_LEDGER_SECONDS, Stage.FORWARD, is_vital=False),
    "forward-work": Limit(_OUTSIDE_SECONDS, Stage.FORWARD, is_vital=False),
    "alert-loop": Limit(_OUTSIDE_SECONDS, is_vital=False),
    "wake-sender": Limit(_OUTSIDE_SECONDS, is_vital=False),
    "wake-receiver": Limit(_OUTSIDE_SECONDS, is_vital=False),
}
"""By name of the loop, or of the pool whose threads do the work."""


class Pulses:
    """The pulses of a process. `look` belongs to one thread, the rest to any."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seconds = 0.0
        self._looked_at: float | None = None
        self._lock = threading.Lock()
        self._watched: set[Pulse] = set()
        self._stalled: dict[Pulse, Problem] = {}

    @contextlib.contextmanager
    def watched(self, name: str, *, account: str = "") -> Iterator[Pulse]:
        """Watch this thread until the end of the block; `name` is one of `LIMITS`."""
        pulse = Pulse(name, account=account, clock=lambda: self._seconds)
        with self._lock:
            self._watched.add(pulse)
        try:
            with beating(pulse):
                yield pulse
        finally:
            with self._lock:
                self._watched.discard(pulse)

    def look(self) -> None:
        """Called every second: find threads that hang; log the new ones, and those that go on after all."""
        now = self._monotonic()
        if self._looked_at is not None:
            self._seconds += min(max(0.0, now - self._looked_at), LOOK_SECONDS_MAX)
        self._looked_at = now
        with self._lock:
            late = {pulse for pulse in self._watched if self._age(pulse) > LIMITS[pulse.name].seconds}
        if late == self._stalled.keys():
            return
        for pulse in self._stalled.keys() - late:
            log.get().warning("loop.resumed", loop=pulse.name, account=pulse.account or None)
        self._stalled = {pulse: self._stalled.get(pulse) or self._found(pulse) for pulse in late}

    def vital_stalled(self) -> list[str]:
        """The names of hanging threads that archiving depends on. Never waits."""
        return sorted({pulse.name for pulse in self._stalled if LIMITS[pulse.name].is_vital})

    def problems(self) -> Sequence[Problem]:
        """A problem for each thread that hangs. Never waits."""
        return list(self._stalled.values())

    def _age(self, pulse: Pulse) -> float:
        return self._seconds - pulse.beaten_at

    def _found(self, pulse: Pulse) -> Problem:
        limit = LIMITS[pulse.name]
        failure = LoopStalled(f"{pulse.name} has not come round for {span(int(self._age(pulse) * 1000))}")
        log.get().error(
            "loop.stalled",
            loop=pulse.name,
            account=pulse.account or None,
            stage=limit.stage,
            message=str(failure),
            frames=stack_of(pulse.thread_id),
            what_to_do=failure.what_to_do,
        )
        return Problem(
            "settings" if limit.stage is None else "hold",
            f"{'this process' if limit.stage is None else limit.stage} stands still in part: {failure}",
            failure.what_to_do,
            pulse.account or None,
            stage=limit.stage,
            reason=failure.reason,
            subject=f"{pulse.name} {pulse.thread_id}",
        )
