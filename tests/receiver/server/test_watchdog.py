"""The watchdog of the event loop, round by round; `tests/daemon/test_hang.py` has real daemons."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator

import pytest
import structlog

from archiver import log
from receiver.server import watchdog
from receiver.server.watchdog import HANG_ROUNDS, Watchdog

PATIENCE_SECONDS = 60.0


class Rounds:
    """A number of rounds; what `each` does happens before every one of them."""

    def __init__(self, count: int, each: Callable[[int], object] = lambda _: None) -> None:
        self.done = 0
        self._count = count
        self._each = each

    def __call__(self) -> bool:
        if self.done == self._count:
            return True
        self._each(self.done)
        self.done += 1
        return False


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with contextlib.closing(asyncio.new_event_loop()) as made:
        yield made


def come_round(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon(loop.stop)
    loop.run_forever()


def watch(loop: asyncio.AbstractEventLoop, rounds: Rounds) -> list[int]:
    """The statuses that the process ended with."""
    statuses: list[int] = []
    Watchdog(end_process=statuses.append).watch(loop, threading.get_ident(), rounds)
    return statuses


def test_a_loop_that_comes_round_now_and_then_is_left_alone(loop: asyncio.AbstractEventLoop) -> None:
    def every_eightieth(at: int) -> None:
        if at % 80 == 0:
            come_round(loop)

    assert watch(loop, Rounds(10 * HANG_ROUNDS, every_eightieth)) == []


def test_a_loop_that_hangs_ends_the_process_and_the_log_says_where_every_thread_is(
    loop: asyncio.AbstractEventLoop,
) -> None:
    rounds = Rounds(10 * HANG_ROUNDS)

    with structlog.testing.capture_logs() as lines:
        assert watch(loop, rounds) == [1]
    assert rounds.done == HANG_ROUNDS
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("daemon.aborted", "critical")
    assert any(" test_a_loop_that_hangs" in frame for frame in line["frames"])
    assert any(place.startswith("MainThread: ") for place in line["threads"])


def test_rounds_that_the_watchdog_could_not_make_do_not_count(loop: asyncio.AbstractEventLoop) -> None:
    """However long a round takes by the clock: the process was stopped meanwhile."""
    come_round_at_the_end = Rounds(HANG_ROUNDS - 1)

    assert watch(loop, come_round_at_the_end) == []


def test_a_loop_that_is_closed_is_not_watched(loop: asyncio.AbstractEventLoop) -> None:
    def close(at: int) -> None:
        if at == 3:
            come_round(loop)
            loop.close()

    assert watch(loop, Rounds(10 * HANG_ROUNDS, close)) == []


def test_a_log_that_hangs_too_does_not_keep_the_process_and_the_threads_are_dumped_past_it(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, has_gone, dumped = threading.Event(), threading.Event(), queue.SimpleQueue[bool]()

    class Hanging:
        def critical(self, *_: object, **__: object) -> None:
            goes_on.wait(PATIENCE_SECONDS)
            has_gone.set()

    monkeypatch.setattr(log, "get", Hanging)
    monkeypatch.setattr(watchdog, "_LOG_SECONDS", 0.01)
    monkeypatch.setattr("faulthandler.dump_traceback", lambda: dumped.put(True))

    assert watch(loop, Rounds(10 * HANG_ROUNDS)) == [1]
    assert dumped.get(timeout=PATIENCE_SECONDS)
    goes_on.set()
    assert has_gone.wait(PATIENCE_SECONDS)


def test_the_watch_ends_with_the_block(loop: asyncio.AbstractEventLoop) -> None:
    with Watchdog().watching(loop):
        (thread,) = (each for each in threading.enumerate() if each.name == "watchdog")
    thread.join(PATIENCE_SECONDS)

    assert not thread.is_alive()
