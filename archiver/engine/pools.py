"""Thread pools whose threads are all there from the start. No work of its own.

Python starts the threads of a pool one by one, as work comes, and under one lock of the whole process. A thread that
finds no memory for its very first steps dies without a word, and who started it waits for it for ever: with that lock,
so that every other pool, the event loop's among them, stops with it. Memory that runs short must delay work and not
freeze a daemon, which would go on renewing its leases.
"""

import concurrent.futures
import contextlib
import threading
from collections.abc import Callable

START_SECONDS = 30.0
"""For all threads of a pool. One that died in its first steps comes to no barrier."""


class ThreadsRefused(RuntimeError):
    """The system does not give so many threads; the message is a sentence for the operator."""


class PrestartedPool(concurrent.futures.ThreadPoolExecutor):
    """`size` threads, started here and never again."""

    def __init__(self, size: int, *, name: str, begin: Callable[[], object] | None = None) -> None:
        """Each thread calls `begin` first. Raises ThreadsRefused where the system does not give so many; those that
        it gave end then, because Python waits for them at the exit of the process."""
        super().__init__(size, thread_name_prefix=name, initializer=begin)
        # Each of them waits for all of them, so none is free to take two of these.
        everybody = threading.Barrier(size + 1)
        try:
            for _ in range(size):
                self.submit(_wait_quietly, everybody)
            everybody.wait(timeout=START_SECONDS)
        except BaseException as error:
            everybody.abort()
            self.shutdown(wait=False, cancel_futures=True)
            if not isinstance(error, Exception):
                raise
            raise ThreadsRefused(
                f"the {size} threads called {name!r} could not all be started. Raise the system's limit on threads "
                "(ulimit -u, TasksMax= of systemd, --pids-limit of a container) or on memory"
            ) from error


def _wait_quietly(everybody: threading.Barrier) -> None:
    with contextlib.suppress(threading.BrokenBarrierError):  # whoever builds the pool says it
        everybody.wait()
