"""Remembers files for some seconds, so that a file with many requests is looked up once.

A gallery's pictures, and the ranges of a film that a viewer seeks in, come in bursts. Without this a redirect costs a
thread, a query and a signature: 0.7 to 0.8 ms of processor time instead of 0.02. A file that is forgotten, or lost from
the bucket, is still found for `SECONDS`.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

SECONDS = 10.0
FILES_MAX = 4096
"""About 4 MB."""

_File = TypeVar("_File")


class Recent(Generic[_File]):
    """Files by what was asked for. For one thread."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._found: OrderedDict[Hashable, tuple[float, _File]] = OrderedDict()

    def get(self, key: Hashable) -> _File | None:
        """None when it was not found within `SECONDS`."""
        until, file = self._found.get(key, (0.0, None))
        return file if self._monotonic() < until else None

    def put(self, key: Hashable, file: _File) -> None:
        """Remember a file; beyond `FILES_MAX` the oldest entry is dropped."""
        self._found.pop(key, None)
        self._found[key] = (self._monotonic() + SECONDS, file)
        if len(self._found) > FILES_MAX:
            self._found.popitem(last=False)
