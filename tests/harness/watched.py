"""The pulses of a process, on a clock of the test's."""

import threading

from archiver.engine.threads import Guard
from archiver.pulses.watch import LOOK_SECONDS_MAX, Pulses

ACCOUNT = "default"


class Watched:
    """The pulses of a process that is looked at every second, as the event loop does."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pulses = Pulses(lambda: self.now)
        self.stop = threading.Event()
        self.guard = Guard(
            stop=self.stop, on_death=lambda: None, bound={"account": ACCOUNT}, pulses=self.pulses
        )

    def pass_seconds(self, seconds: float) -> None:
        until = self.now + seconds
        self.pulses.look()
        while self.now < until:
            self.now = min(until, self.now + LOOK_SECONDS_MAX)
            self.pulses.look()

    def stalled(self) -> list[tuple[str, str | None, str | None]]:
        return [(each.code, each.stage, each.reason) for each in self.pulses.problems()]
