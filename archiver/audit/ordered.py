"""Work on many things at once, and hand the results out in their order."""

import collections
import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import Generic, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_order(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int, ahead: int
) -> Generator[_Result, None, None]:
    """`work` of every item, `threads` of them at once. At most `ahead` items are taken before the first of them is
    done, so memory is bounded however many there are. What `work` raises is raised in its turn.

    A caller that stops early (`close`, an exception) does not wait for work under way: a read may hang for a minute,
    and Ctrl-C must not. So the threads are daemons, unlike those of an executor.
    """
    workers = _Workers(work, threads)
    begun: collections.deque[Future[_Result]] = collections.deque()
    try:
        for item in items:
            begun.append(workers.begin(item))
            if len(begun) >= ahead:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()
        workers.end()


class _Workers(Generic[_Item, _Result]):
    def __init__(self, work: Callable[[_Item], _Result], threads: int) -> None:
        self._work = work
        self._threads = threads
        self._waiting: queue.SimpleQueue[tuple[Future[_Result], _Item] | None] = queue.SimpleQueue()
        for _ in range(threads):
            threading.Thread(target=self._serve, name="audit", daemon=True).start()

    def begin(self, item: _Item) -> Future[_Result]:
        future: Future[_Result] = Future()
        self._waiting.put((future, item))
        return future

    def end(self) -> None:
        for _ in range(self._threads):
            self._waiting.put(None)

    def _serve(self) -> None:
        while (taken := self._waiting.get()) is not None:
            future, item = taken
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._work(item))
            except BaseException as error:  # noqa: BLE001 -- the caller gets it from `result()`
                future.set_exception(error)
