"""Ends the process when its event loop hangs: then it answers no request, and no SIGTERM stops it.

systemd and Kubernetes notice that from outside. Docker does not: no failed health check makes it restart a container,
but the end of the process does. A hard end loses nothing: leases end by themselves, as after kill -9.

If nothing reads the log, the loop hangs too, and so does each thread at its next line. To end the process is right in
that case as well: nothing else makes the door answer again, and the next process begins with an empty pipe.

Time counts only in rounds that the watchdog's own thread makes. A process that was stopped (SIGSTOP, a debugger, a
suspended machine) has made none meanwhile, so it goes on when it wakes.
"""

import asyncio
import contextlib
import faulthandler
import functools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import IO

from archiver import log
from archiver.pulses.stacks import all_stacks, stack_of

HANG_ROUNDS = 90
"""Less than the two minutes after which systemd ends the process, and does not say where it hung."""
ROUND_SECONDS = 1.0
_LOG_SECONDS = 5.0


class Watchdog:
    """Of one event loop."""

    def __init__(self, *, end_process: Callable[[int], object] = os._exit) -> None:
        self._end_process = end_process

    @contextlib.contextmanager
    def watching(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Watch this loop, which runs in this thread, until the end of the block."""
        ended = threading.Event()
        watch = functools.partial(self.watch, loop, threading.get_ident(), lambda: ended.wait(ROUND_SECONDS))
        with contextlib.suppress(RuntimeError):  # the system grants no thread; supervisors watch from outside
            threading.Thread(target=watch, name="watchdog", daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def watch(self, loop: asyncio.AbstractEventLoop, thread_id: int, wait: Callable[[], bool]) -> None:
        """Look each time that `wait` returns, until it returns True."""
        came_round = threading.Event()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(came_round.set)
            rounds = 0
            while not wait():
                rounds += 1
                if came_round.is_set():
                    rounds = 0
                    came_round.clear()
                    loop.call_soon_threadsafe(came_round.set)
                elif rounds >= HANG_ROUNDS:
                    self._end(thread_id, rounds)
                    return

    def _end(self, thread_id: int, rounds: int) -> None:
        try:
            # By other threads: what hangs may be the log, and then its lock is taken.
            if not _is_done_in_time(functools.partial(_log, thread_id, rounds)):
                _is_done_in_time(_dump)
        finally:
            self._end_process(1)


def _is_done_in_time(write: Callable[[], object]) -> bool:
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(_LOG_SECONDS)
    return not writer.is_alive()


def _dump() -> None:
    """Past the log. `faulthandler` holds the GIL while it writes: into a full pipe, it would stop every thread, this
    watchdog's too. So it writes into memory, and `os.write`, which releases the GIL, writes to standard error."""
    with _open_memory() as memory:
        faulthandler.dump_traceback(memory.fileno())
        memory.seek(0)
        os.write(2, memory.read())


def _open_memory() -> IO[bytes]:
    """On macOS, which has no files in memory, a temporary one. Raises OSError."""
    if not hasattr(os, "memfd_create"):
        return tempfile.TemporaryFile()
    return open(os.memfd_create("threads"), "w+b", buffering=0)  # noqa: PTH123 -- a descriptor, not a path


def _log(thread_id: int, rounds: int) -> None:
    log.get().critical(
        "daemon.aborted",
        message=f"the event loop has not come round for {rounds * ROUND_SECONDS:g} s. The process ends, so that its "
        "supervisor starts it again",
        what_to_do="Nothing is lost: leases end by themselves. Report where it hung: `frames`.",
        frames=stack_of(thread_id),
        threads=all_stacks(),
    )
