"""The watchdog of the event loop, round by round; `tests/daemon/test_hang.py` has real daemons."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
import structlog

from receiver.server.watchdog import HANG_ROUNDS, Watchdog
from tests.harness.terminal import ended_in_time

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


def socket_pair() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def start(source: str, *, stderr: int, options: Sequence[str] = ()) -> subprocess.Popen[str]:
    command = [sys.executable, *options, "-W", "error", "-c", textwrap.dedent(source)]
    return subprocess.Popen(command, stderr=stderr, text=True)


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


def fill(descriptor: int) -> None:
    """To the last byte: the dump is written in small pieces."""
    os.set_blocking(descriptor, False)
    for size in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(descriptor, b"x" * size)
    os.set_blocking(descriptor, True)


LOGS_INTO_WHAT_NOBODY_READS = """
    import asyncio
    from archiver import log
    from receiver.server import watchdog

    watchdog.ROUND_SECONDS = 0.01
    watchdog._LOG_SECONDS = 0.2
    log.configure(format="json", level="info")

    async def log_for_ever():
        with watchdog.Watchdog().watching(asyncio.get_running_loop()):
            while True:
                log.get().info("daemon.draining", message="x" * 1000)
                await asyncio.sleep(0)

    asyncio.run(log_for_ever())
"""


@pytest.mark.parametrize("options", [["-u"], []], ids=["unbuffered", "buffered"])
@pytest.mark.parametrize("make", [os.pipe, socket_pair, os.openpty])
def test_a_full_log_that_nobody_reads_does_not_keep_the_process(
    make: Callable[[], tuple[int, int]], options: list[str]
) -> None:
    """A pipe of Docker's, a socket of journald's, a terminal at Ctrl-S: the dump of the threads may hang there too."""
    reading, writing = make()
    try:
        fill(writing)
        process = start(LOGS_INTO_WHAT_NOBODY_READS, stderr=writing, options=options)
        with ended_in_time(process):
            assert process.wait() == 1
    finally:
        os.close(reading)
        os.close(writing)


NO_FILES_IN_MEMORY = """
    import os

    del os.memfd_create
"""
"""As on macOS."""
HANGS_INSIDE_THE_LOG = """
    import asyncio
    import io
    import threading
    from archiver import log
    from receiver.server import watchdog

    class Hanging(io.StringIO):
        def write(self, _text):
            threading.Event().wait()

    async def hang():
        with watchdog.Watchdog().watching(asyncio.get_running_loop()):
            await asyncio.sleep(0)
            log.get().info("daemon.draining")

    watchdog.ROUND_SECONDS = 0.01
    watchdog._LOG_SECONDS = 0.2
    log.configure(format="json", level="info", stream=Hanging())
    asyncio.run(hang())
"""


@pytest.mark.parametrize("first", ["", NO_FILES_IN_MEMORY], ids=["Linux", "macOS"])
def test_the_threads_are_dumped_past_a_log_that_hangs(first: str) -> None:
    process = start(first + HANGS_INSIDE_THE_LOG, stderr=subprocess.PIPE)
    with ended_in_time(process):
        errors = process.communicate()[1]

    assert process.returncode == 1
    assert "(most recent call first)" in errors
    assert " in hang\n" in errors


def test_the_watch_ends_with_the_block(loop: asyncio.AbstractEventLoop) -> None:
    with Watchdog().watching(loop):
        (thread,) = (each for each in threading.enumerate() if each.name == "watchdog")
    thread.join(PATIENCE_SECONDS)

    assert not thread.is_alive()
