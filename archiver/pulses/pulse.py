"""A thread's sign that it makes progress, callable from anywhere in the code.

A watched thread beats when it begins a step or a piece of work. Within long work it beats after each part: a turn at
the rate limiter, a request to the store, a transaction of the ledger, a file.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator

_here = threading.local()


class Pulse:
    """The pulse of one step or one piece of work. `beat` belongs to the thread that made it."""

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
    """This thread has made progress. Costs nothing if the thread is not watched."""
    pulse: Pulse | None = getattr(_here, "pulse", None)
    if pulse is not None:
        pulse.beat()


@contextlib.contextmanager
def beating(pulse: Pulse) -> Iterator[None]:
    """Within the block, `beat` beats this pulse."""
    before = getattr(_here, "pulse", None)
    _here.pulse = pulse
    try:
        yield
    finally:
        _here.pulse = before
