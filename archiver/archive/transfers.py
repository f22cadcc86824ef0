"""Hands files to threads, one host after the other: the files of one host never fill all threads.

A pool's own queue would be first come, first served: nine files of each of forty tasks on a silent host would stand
before the one file of a fresh task on another.
"""

import collections
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from archiver.failures import Failure
from archiver.model import Lease

Result = TypeVar("Result")


class HostJudge(Protocol):
    """Learns how transfers end, and limits how many files of a host may be in flight. Thread-safe."""

    def transfers_max(self, host: str) -> int:
        """How many files of `host` may be under way now."""

    def came(self, host: str) -> None:
        """A whole file came from `host`."""

    def failed(self, lease: Lease, failure: Failure) -> None:
        """A file of `lease` did not come from `failure.host`."""


class _Work:
    """One file to transfer, and the future of its result."""

    def __init__(self, host: str, work: Callable[[], object]) -> None:
        self.host = host
        self.future: concurrent.futures.Future[object] = concurrent.futures.Future()
        self._work = work

    def do(self) -> None:
        try:
            self.future.set_result(self._work())
        except BaseException as error:
            self.future.set_exception(error)
            if not isinstance(error, Exception):
                raise


class TransferQueue:
    """A queue for each host in front of one executor. Thread-safe.

    A crash loses nothing: the task's lease ends, and its next attempt transfers the files again.
    """

    def __init__(self, executor: concurrent.futures.Executor, *, threads: int, hosts: HostJudge) -> None:
        """`executor` has `threads` threads."""
        self._executor = executor
        self._threads = threads
        self._hosts = hosts
        self._lock = threading.Lock()
        self._waiting: collections.OrderedDict[str, collections.deque[_Work]] = collections.OrderedDict()
        """Waiting files by host. The host whose turn is next comes first."""
        self._running: collections.Counter[str] = collections.Counter()

    def submit(self, host: str, work: Callable[[], Result]) -> "concurrent.futures.Future[Result]":
        """Do `work`, a transfer from `host`, when it is the host's turn."""
        queued = _Work(host, work)
        with self._lock:
            self._waiting.setdefault(host, collections.deque()).append(queued)
        self._start()
        return queued.future  # type: ignore[return-value]  # `_Work` has no type parameter for its result

    def _start(self) -> None:
        while (work := self._next()) is not None:
            try:
                self._executor.submit(self._run, work)
            except RuntimeError as error:  # the executor is shut down
                self._ended(work.host)
                work.future.set_exception(error)

    def _next(self) -> _Work | None:
        """The next file to start, already counted as running; None while no host may have another."""
        with self._lock:
            if self._running.total() >= self._threads:
                return None
            for host, files in self._waiting.items():
                if self._running[host] < self._hosts.transfers_max(host):
                    work = files.popleft()
                    self._waiting.move_to_end(host)
                    if not files:
                        del self._waiting[host]
                    self._running[host] += 1
                    return work
            return None

    def _run(self, work: _Work) -> None:
        try:
            work.do()
        finally:
            self._ended(work.host)
            self._start()

    def _ended(self, host: str) -> None:
        with self._lock:
            self._running[host] -= 1
            if not self._running[host]:
                del self._running[host]
