"""Thread pools whose threads are all there from the start. No work of its own.

Python starts the threads of a pool one by one, as work comes, and under one lock of the whole process. A thread that
finds no memory for its very first steps dies without a word, and who started it waits for it for ever: with that lock,
so that every other pool, the event loop's among them, stops with it. Memory that runs short must delay work and not
freeze a daemon, which would go on renewing its leases.
"""

import concurrent.futures
import threading
from collections.abc import Callable


class StartedPool(concurrent.futures.ThreadPoolExecutor):
    """`size` threads, started here and never again."""

    def __init__(self, size: int, *, name: str, begin: Callable[[], object] | None = None) -> None:
        """Each thread calls `begin` first. Raises RuntimeError where the system does not give so many threads."""
        super().__init__(size, thread_name_prefix=name, initializer=begin)
        # Each of them waits for all of them, so none is free to take two of these.
        everybody = threading.Barrier(size + 1)
        for _ in range(size):
            self.submit(everybody.wait)
        everybody.wait()
