"""The queue of transfers: hosts in turn, none beyond its cap, and every future ends."""

import concurrent.futures
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from archiver.archive.transfers import TransferQueue
from archiver.failures import Failure
from archiver.model import Lease


class Caps:
    """As the host watch: how many files of a host may be under way."""

    def __init__(self, **caps: int) -> None:
        self._caps = caps

    def transfers_max(self, host: str) -> int:
        return self._caps.get(host, 100)

    def came(self, host: str) -> None:
        raise AssertionError(host)

    def failed(self, lease: Lease, failure: Failure) -> None:
        raise AssertionError((lease, failure))


class Manual(concurrent.futures.Executor):
    """Starts nothing by itself: a test finishes what was handed over."""

    def __init__(self) -> None:
        self.started: list[Callable[[], object]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> "concurrent.futures.Future[Any]":
        self.started.append(lambda: fn(*args))
        return concurrent.futures.Future()

    def finish(self, place: int = 0) -> None:
        self.started.pop(place)()


class Bench:
    """A queue of four threads, and what it has started."""

    def __init__(self, **caps: int) -> None:
        self.manual = Manual()
        self.queue = TransferQueue(self.manual, threads=4, hosts=Caps(**caps))
        self.done: list[str] = []

    def submit(self, host: str, name: str = "") -> "concurrent.futures.Future[None]":
        return self.queue.submit(host, lambda: self.done.append(name or host))


def test_no_more_files_run_than_there_are_threads() -> None:
    bench = Bench()
    for _ in range(10):
        bench.submit("a")

    assert len(bench.manual.started) == 4


def test_a_failing_host_gets_its_cap_and_leaves_the_other_threads_to_others() -> None:
    bench = Bench(silent=1)
    for _ in range(36):
        bench.submit("silent")
    future = bench.submit("healthy")

    assert len(bench.manual.started) == 2
    bench.manual.finish(1)
    assert (bench.done, future.done()) == (["healthy"], True)


def test_hosts_take_turns() -> None:
    bench = Bench()
    for name in ("a1", "a2", "a3", "a4", "a5", "a6", "b1", "b2"):
        bench.submit(name[0], name)
    while bench.manual.started:
        bench.manual.finish()

    assert bench.done[:4] == ["a1", "a2", "a3", "a4"]
    assert sorted(bench.done[4:6]) == ["a5", "b1"]
    assert Counter(bench.done).total() == 8


def test_a_failed_transfer_fails_its_future_and_frees_its_thread() -> None:
    manual = Manual()
    queue = TransferQueue(manual, threads=1, hosts=Caps())

    def fail() -> None:
        raise OSError("reset")

    failed, after = queue.submit("a", fail), queue.submit("a", lambda: 7)
    manual.finish()
    manual.finish()

    assert isinstance(failed.exception(), OSError)
    assert after.result(timeout=0) == 7


def test_waiting_transfers_end_with_an_error_at_a_shutdown() -> None:
    executor = concurrent.futures.ThreadPoolExecutor(1)
    queue = TransferQueue(executor, threads=1, hosts=Caps())
    goes_on = threading.Event()
    running, waiting = queue.submit("a", goes_on.wait), queue.submit("a", lambda: 7)

    executor.shutdown(wait=False, cancel_futures=True)
    goes_on.set()

    assert running.result(timeout=20) is True
    with pytest.raises(RuntimeError):
        waiting.result(timeout=20)
