"""Watches what this machine lacks, or soon will: room in the spool, and a ledger on a suitable disk.

Its findings are warnings, not holds: a small file needs no spool, and the first task that finds no room sets a hold.
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence

from archiver import log
from archiver.engine.threads import IDLE_SECONDS
from archiver.failures import SpoolFull
from archiver.fetch.spool import Spool
from archiver.ledger.databases.opening import network_file_system
from archiver.model import Problem

LOOK_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class MachineLook:
    """Looks at the disks. A network disk may block it."""

    spool: Spool
    ledger_url: str
    file_system: Callable[[str], str | None] = network_file_system

    def look(self) -> Sequence[Problem]:
        return [*self._of_spool(), *self.of_ledger()]

    def _of_spool(self) -> Sequence[Problem]:
        try:
            self.spool.check()
        except SpoolFull as error:
            return [of_spool(error)]
        return []

    def of_ledger(self) -> Sequence[Problem]:
        kind = self.file_system(self.ledger_url)
        if kind is None:
            return []
        message = (
            f"the ledger lies on a network file system ({kind}), where SQLite may lose what it has committed"
        )
        what_to_do = "Move the ledger to a disk of this machine (KLING_LEDGER_URL), with the daemon stopped."
        return [Problem("settings", message, what_to_do, stage="ledger", reason="network_file_system")]


def of_spool(error: SpoolFull) -> Problem:
    return Problem("disk_low", str(error), error.what_to_do, stage="archive", reason=error.reason)


class MachineLoop:
    """Looks at start and every half minute. `step` belongs to one thread, `problems` to any."""

    name = "machine-look-loop"

    def __init__(
        self,
        look: MachineLook,
        *,
        stop: threading.Event,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._stop = stop
        self._monotonic = monotonic
        self._looked_at = float("-inf")
        self._found: Sequence[Problem] = ()

    def problems(self) -> Sequence[Problem]:
        """What the last look has found."""
        return self._found

    def step(self) -> None:
        """Look if it is time, else wait a little."""
        if self._monotonic() < self._looked_at + LOOK_SECONDS:
            self._stop.wait(IDLE_SECONDS)
            return
        self._looked_at = self._monotonic()
        found = self._look.look()
        for problem in found:
            if problem not in self._found:
                log.get().warning("machine.doubted", message=problem.message, what_to_do=problem.what_to_do)
        self._found = found
