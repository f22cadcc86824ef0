"""The loop that keeps the duties of a process."""

import threading

from archiver.engine.duties.keeper import DutyKeeper

LOOK_SECONDS = 2.0
"""The time within which this process notices duties that another one has given back or left."""


class DutyLoop:
    """`step` belongs to one thread."""

    name = "duty-loop"

    def __init__(self, keeper: DutyKeeper, *, stop: threading.Event) -> None:
        self._keeper = keeper
        self._stop = stop

    def step(self) -> None:
        """One look, then a pause."""
        self._stop.wait(LOOK_SECONDS)
        if not self._stop.is_set():
            self._keeper.step()
