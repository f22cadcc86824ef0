"""The sign of a thread that it comes round, from wherever in the code it is.

A thread that is watched beats when it begins a step or a piece of work. What may last long within one beats too, where
it has come a piece further: a turn at the rate limiter, a request to the store, a transaction of the ledger, a file.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator

_here = threading.local()


class Pulse:
    """Of one step or one piece of work. `beat` belongs to the thread that made it."""

    __slots__ = ("_clock", "account", "beaten_at", "name", "thread_id")

    def __init__(self, name: str, *, account: str, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.name = name
        self.account = account
        self.thread_id = threading.get_ident()
        self.beaten_at = clock()

    def beat(self) -> None:
        self.beaten_at = self._clock()


def beat() -> None:
    """This thread has come a piece further. Costs nothing where nobody watches it."""
    pulse: Pulse | None = getattr(_here, "pulse", None)
    if pulse is not None:
        pulse.beat()


@contextlib.contextmanager
def beating(pulse: Pulse) -> Iterator[None]:
    """Until the end of the block, `beat` is for this pulse."""
    before = getattr(_here, "pulse", None)
    _here.pulse = pulse
    try:
        yield
    finally:
        _here.pulse = before
