"""A thread pool that knows how many of its threads are free."""

import concurrent.futures
import threading
from collections.abc import Callable
from typing import TypeVar

from archiver import log

_Item = TypeVar("_Item")


class WorkPool:
    """Work for at most `size` threads at a time. Thread-safe."""

    def __init__(
        self, executor: concurrent.futures.Executor, size: int, *, on_free: Callable[[], None]
    ) -> None:
        """`on_free` is called whenever a piece of work has ended."""
        self._executor = executor
        self._size = size
        self._on_free = on_free
        self._lock = threading.Lock()
        self._running: set[concurrent.futures.Future[None]] = set()
        self.started = 0
        """How many pieces of work were ever started: the number of the next slot."""

    def free(self) -> int:
        """Free threads. Probes come on top of what was asked for, so there may be more work than threads."""
        with self._lock:
            return max(0, self._size - len(self._running))

    def run(self, work: Callable[[_Item], None], item: _Item) -> None:
        """Start `work(item)`. Raises what the executor raises when it can start nothing."""
        future = self._executor.submit(work, item)
        with self._lock:
            self.started += 1
            self._running.add(future)
        future.add_done_callback(self._ended)

    def _ended(self, future: concurrent.futures.Future[None]) -> None:
        with self._lock:
            self._running.discard(future)
        if not future.cancelled() and future.exception() is not None:
            log.get().critical("worker.crashed", loop="pool", exc_info=future.exception())
        self._on_free()

    def close(self, *, seconds: float) -> bool:
        """Start nothing more and wait at most `seconds` for what runs; whether all of it has ended."""
        with self._lock:
            running = set(self._running)
        going_on = concurrent.futures.wait(running, timeout=seconds).not_done
        self._executor.shutdown(wait=False, cancel_futures=True)
        return all(future.cancelled() for future in going_on)
