"""Thread pools: one whose threads all exist from the start, and one that counts its free threads."""

import concurrent.futures
import contextlib
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from archiver import log

START_SECONDS = 30.0
"""For all threads of a pool; a dead thread never reaches the barrier."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")


class ThreadsRefused(RuntimeError):
    """The system refuses to start the threads; the message is a sentence for the operator."""


class PrestartedPool(concurrent.futures.ThreadPoolExecutor):
    """`size` threads, all started in the constructor.

    CPython's pool starts threads as work comes. `Thread.start()` waits for the new thread to report; if the thread dies
    of ENOMEM first, `start()` never returns and holds a lock that every pool needs. The daemon would freeze while it
    renews its leases.
    """

    def __init__(self, size: int, *, name: str, begin: Callable[[], object] | None = None) -> None:
        """Each thread calls `begin` first. Raises ThreadsRefused where not all of them start; the others end then,
        because Python joins them at exit."""
        super().__init__(size, thread_name_prefix=name, initializer=begin)
        # A thread waits at the barrier for all others, so none takes two of these.
        started = threading.Barrier(size + 1)
        try:
            for _ in range(size):
                self.submit(_wait_quietly, started)
            started.wait(timeout=START_SECONDS)
        except BaseException as error:
            started.abort()
            self.shutdown(wait=False, cancel_futures=True)
            if not isinstance(error, Exception):
                raise
            raise ThreadsRefused(
                f"the {size} threads called {name!r} could not all be started. Raise the system's limit on threads "
                "(ulimit -u, TasksMax= of systemd, --pids-limit of a container) or on memory"
            ) from error


class WatchedPool(PrestartedPool):
    """A prestarted pool whose work is watched, so that a hang is noticed."""

    def __init__(
        self,
        size: int,
        *,
        name: str,
        begin: Callable[[], object],
        watched: Callable[[], contextlib.AbstractContextManager[object]],
    ) -> None:
        """`watched()` goes around each piece of work, in its thread."""
        self._watched = watched
        super().__init__(size, name=name, begin=begin)

    def submit(
        self, fn: Callable[_Arguments, _Result], /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> "concurrent.futures.Future[_Result]":
        def work() -> _Result:
            with self._watched():
                return fn(*args, **kwargs)

        return super().submit(work)


def _wait_quietly(barrier: threading.Barrier) -> None:
    with contextlib.suppress(threading.BrokenBarrierError):  # the constructor raises for all
        barrier.wait()


class WorkPool:
    """Hands work to an executor and counts its free threads. Thread-safe."""

    def __init__(
        self,
        executor: concurrent.futures.Executor,
        size: int,
        *,
        on_free: Callable[[], None],
        watched: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        """`on_free` is called whenever a piece of work has ended; `watched()` goes around each of them, in its
        thread."""
        self._executor = executor
        self._size = size
        self._on_free = on_free
        self._watched = watched
        self._lock = threading.Lock()
        self._running: set[concurrent.futures.Future[None]] = set()
        self.started = 0
        """Pieces of work ever started: the number of the next slot."""

    def free(self) -> int:
        """Free threads. A claim may add probes, so there may be more work than threads."""
        with self._lock:
            return max(0, self._size - len(self._running))

    def run(self, work: Callable[[_Item], None], item: _Item) -> None:
        """Start `work(item)`. Raises what the executor raises when it can start nothing."""
        future = self._executor.submit(self._work, work, item)
        with self._lock:
            self.started += 1
            self._running.add(future)
        future.add_done_callback(self._ended)

    def _work(self, work: Callable[[_Item], None], item: _Item) -> None:
        with self._watched():
            work(item)

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
