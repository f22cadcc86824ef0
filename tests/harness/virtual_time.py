"""Threads on a clock of their own: one runs at a time, and time passes only while all of them sleep.

So what hours of waiting for a rate limit would show is seen in seconds, and the same for the same seed: who goes first
among those that wake at the same moment is drawn by lot.
"""

import heapq
import random
import threading
from collections.abc import Callable


class VirtualTime:
    """`spawn` threads, then `run`. What they wait for must be `sleep` or end by itself."""

    def __init__(self, *, start_ms: int, seed: int) -> None:
        self._start_ms = start_ms
        self._now = 0.0
        self._choose = random.Random(seed)
        self._asleep: list[tuple[float, float, threading.Semaphore]] = []
        self._ended = threading.Event()
        self._errors: list[BaseException] = []

    def monotonic(self) -> float:
        """Seconds."""
        return self._now

    def unix_ms(self) -> int:
        return self._start_ms + int(self._now * 1000)

    def sleep(self, seconds: float) -> None:
        """Let the others run until then. Only from a thread of `spawn`."""
        turn = self._turn(seconds)
        self._pass_on()
        turn.acquire()

    def wait(self, seconds: float) -> bool:
        """A wait on a stop event that is never set."""
        if seconds > 0:
            self.sleep(seconds)
        return False

    def spawn(self, work: Callable[[], object]) -> None:
        """A thread that begins now, when it is its turn."""
        threading.Thread(target=self._work, args=(work, self._turn(0.0)), daemon=True).start()

    def run(self) -> None:
        """Return when the last thread has ended; raise what the first of them that failed has raised."""
        self._pass_on()
        self._ended.wait()
        if self._errors:
            raise self._errors[0]

    def _work(self, work: Callable[[], object], turn: threading.Semaphore) -> None:
        turn.acquire()
        try:
            work()
        except BaseException as error:  # noqa: BLE001 -- `run` raises it
            self._errors.append(error)
        self._pass_on()

    def _turn(self, seconds: float) -> threading.Semaphore:
        turn = threading.Semaphore(0)
        heapq.heappush(self._asleep, (self._now + max(0.0, seconds), self._choose.random(), turn))
        return turn

    def _pass_on(self) -> None:
        """Give the turn to the next fiber; after an error, to none."""
        if not self._asleep or self._errors:
            self._ended.set()
            return
        at, _, turn = heapq.heappop(self._asleep)
        self._now = max(self._now, at)
        turn.release()
