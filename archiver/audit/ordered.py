"""Work on many things at once, and hand the results out in their order."""

import collections
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_order(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int, ahead: int
) -> Generator[_Result, None, None]:
    """`work` of every item, `threads` of them at once. At most `ahead` items are taken before the first of them is
    done, so memory is bounded however many there are. What `work` raises is raised in its turn.

    Who stops early (`close`, an exception) waits for the work that has begun.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="audit")
    begun: collections.deque[Future[_Result]] = collections.deque()
    try:
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) >= ahead:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
