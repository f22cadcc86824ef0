"""A clock that jumps, and fibers that wait on it: months of a program's life in seconds, deterministically.

Everything that runs is a fiber. One runs at a time, until it waits; when all wait, the clock jumps to the next moment
that one of them waits for. Computing takes no time: time passes only in `sleep` and in waits.

Two rules:

1. Nothing here knows what the fibers do. A fiber that polls passes a `Rest`, which knows whether the next poll could
   see anything new; polls that could not are skipped.
2. A killed fiber never runs again, as after kill -9: `kill` raises `Died` where it waits, and the caller makes sure
   that its `finally` blocks have no effect outside.
"""

import heapq
import itertools
import threading
from collections.abc import Callable
from typing import Protocol

import greenlet  # type: ignore[import-untyped]  # has no type information of its own


class Died(BaseException):
    """The process of this fiber was killed."""


class Rest(Protocol):
    """Whether the next poll of a fiber could see anything new."""

    def next_moment(self) -> int | None:
        """Unix ms of the next poll that could see something new, as of the last `has_changed`; None for never."""

    def has_changed(self) -> bool:
        """Whether something changed since the fiber's last poll, or since the last call."""


class Fiber:
    """A unit of work that may wait."""

    def __init__(self, timeline: "Timeline", work: Callable[[], object], *, name: str) -> None:
        self.name = name
        self.error: Exception | None = None
        self.due = 0
        """Number of the valid heap entry, 0 for none; others are stale."""
        self.due_at = 0
        """The moment of that entry (Unix ms)."""
        self.asked_until: int | None = None
        """When its present wait ends at the latest (Unix ms)."""
        self._work = work
        self.strand = greenlet.greenlet(self._run, timeline.hub)

    def _run(self) -> None:
        try:
            self._work()
        except Died:
            return
        except Exception as error:  # noqa: BLE001 -- raised again by `Timeline.run`
            self.error = error

    @property
    def has_ended(self) -> bool:
        return bool(self.strand.dead)


class Timeline:
    """The clock (Unix ms) and the fibers that wait on it. For one thread only."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.hub = greenlet.getcurrent()
        self.events = 0
        """How often a fiber was resumed."""
        self._numbers = itertools.count(1)
        self._waiting: list[tuple[int, int, Fiber]] = []
        self._resting: dict[Fiber, Rest] = {}
        self._current: Fiber | None = None

    @property
    def current(self) -> Fiber | None:
        """The running fiber; None outside of `run`."""
        return self._current

    def spawn(self, work: Callable[[], object], *, name: str) -> Fiber:
        """Start a fiber now."""
        fiber = Fiber(self, work, name=name)
        self._schedule(fiber, self.now)
        return fiber

    def kill(self, fiber: Fiber) -> None:
        """Kill the fiber where it waits, or before it started."""
        fiber.due = 0
        self._resting.pop(fiber, None)
        if fiber.strand:
            fiber.strand.throw(Died)
        else:
            fiber.strand = greenlet.greenlet(lambda: None)

    def sleep(self, seconds: float) -> None:
        """Suspend the running fiber."""
        self.wait(seconds)

    def wait(self, seconds: float | None, *, rest: Rest | None = None) -> None:
        """Suspend the running fiber for `seconds` (at least 1 ms; None: for ever), or until it is woken."""
        fiber = self._current
        assert fiber is not None, "only a fiber can wait"
        fiber.asked_until = None
        if seconds is not None:
            fiber.asked_until = self.now + max(1, round(seconds * 1000))
        if rest is not None and fiber.asked_until is not None:
            self._rest(fiber, rest)
        elif fiber.asked_until is not None:
            self._schedule(fiber, fiber.asked_until)
        self.hub.switch()

    def wake(self, fiber: Fiber) -> None:
        """Resume the fiber now."""
        self._resting.pop(fiber, None)
        self._schedule(fiber, self.now)

    def run(self, *, until: int) -> None:
        """Run the fibers until that moment (Unix ms). Raises the exception that ended one of them."""
        while True:
            self._recheck_rests()
            if not self._waiting or self._waiting[0][0] > until:
                break
            moment, number, fiber = heapq.heappop(self._waiting)
            if fiber.due != number:
                continue
            self.now = max(self.now, moment)
            self._resting.pop(fiber, None)
            self._resume(fiber)
        self.now = max(self.now, until)

    def _resume(self, fiber: Fiber) -> None:
        self.events += 1
        self._current, fiber.due = fiber, 0
        fiber.strand.switch()
        self._current = None
        if fiber.error is not None:
            raise fiber.error

    def _schedule(self, fiber: Fiber, moment: int) -> None:
        if fiber.due and fiber.due_at == moment:
            return
        fiber.due, fiber.due_at = next(self._numbers), moment
        heapq.heappush(self._waiting, (moment, fiber.due, fiber))

    def _rest(self, fiber: Fiber, rest: Rest) -> None:
        """Poll again when the time is over and a poll could see something new."""
        self._resting[fiber] = rest
        moment = rest.next_moment()
        if moment is not None and fiber.asked_until is not None:
            self._schedule(fiber, max(moment, fiber.asked_until, self.now + 1))
        else:
            fiber.due = 0

    def _recheck_rests(self) -> None:
        """Before time passes, give fibers whose `Rest` has changed their usual time again."""
        if not self._resting or (self._waiting and self._waiting[0][0] <= self.now):
            return
        for fiber, rest in list(self._resting.items()):
            if rest.has_changed():
                self._rest(fiber, rest)


class Signal(threading.Event):
    """An event that fibers wait for."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__()
        self._timeline = timeline
        self._waiters: list[Fiber] = []

    def wait(self, timeout: float | None = None, *, rest: Rest | None = None) -> bool:
        fiber = self._timeline.current
        if self.is_set() or fiber is None or (timeout is not None and timeout <= 0):
            return self.is_set()
        self._waiters.append(fiber)
        try:
            self._timeline.wait(timeout, rest=rest)
        finally:
            self._waiters.remove(fiber)
        return self.is_set()

    def set(self) -> None:
        super().set()
        for fiber in self._waiters:
            self._timeline.wake(fiber)
