"""The bucket for a command that reads all of it: a store that fails for some minutes costs minutes, not the run.

1. A failure of the store or of the network is retried for `PATIENCE_SECONDS`, then raised.
2. A failure that concerns one object, or that only an operator can end (rights, a missing bucket), is raised at once.
3. Every wait and every long read ends soon after `stop` is set.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from archiver.clock import seconds_passed
from archiver.failures import Disposition, Failure, Outside, Stopped, StoreMismatch
from archiver.store import ListedPage, ReadObject, Store, StoredObject

PATIENCE_SECONDS = 300.0
"""Counted from the first failure in a row."""
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 1.0, 30.0
TROUBLE_SECONDS_MIN = 60.0
"""Between two calls of `on_trouble`: several threads meet the same trouble, and it may come and go."""

_Result = TypeVar("_Result")


class PatientStore:
    """The reading half of `Store`. Thread-safe. Every method also raises `Stopped`."""

    def __init__(
        self,
        store: Store,
        *,
        stop: threading.Event,
        wait: Callable[[float], object],
        on_trouble: Callable[[Failure], object],
        clock: Callable[[], float] = seconds_passed,
    ) -> None:
        """`wait(seconds)` sleeps, and `clock` returns seconds. `on_trouble` is called now and then, with the failure
        that is being retried."""
        self._store = store
        self._stop = stop
        self._wait = wait
        self._on_trouble = on_trouble
        self._clock = clock
        self._lock = threading.Lock()
        self._next_telling_at = clock()

    @property
    def location(self) -> str:
        """Endpoint and bucket."""
        return self._store.location

    def check(self, prefix: str) -> None:
        """Raises what is wrong with the store or the bucket as a whole. Not tried again."""
        self._store.check(prefix)

    def walk(self, prefix: str, *, after: str = "") -> Iterator[tuple[str, int]]:
        """As the store's, but a listing that fails half-way goes on where it was."""
        last = after
        keys = self._store.walk(prefix, after=last)
        while True:
            try:
                found = next(keys, None)
            except Failure:
                keys, found = self._patiently(functools.partial(_begun, self._store, prefix, last))
            if found is None:
                return
            last = found[0]
            yield found

    def head(self, key: str) -> StoredObject | None:
        return self._patiently(lambda: self._store.head(key))

    def get(self, key: str, *, bytes_max: int) -> ReadObject:
        return self._patiently(lambda: self._store.get(key, bytes_max=bytes_max))

    def list_after(self, prefix: str, *, after: str, keys_max: int) -> ListedPage:
        return self._patiently(lambda: self._store.list_after(prefix, after=after, keys_max=keys_max))

    def digest(self, key: str, *, on_piece: Callable[[int], object]) -> tuple[str, int]:
        """`on_piece` counts each byte once, also when a second try reads it again."""
        told = 0

        def read() -> tuple[str, int]:
            seen = 0

            def count(size: int) -> None:
                nonlocal seen, told
                self._require_going()
                seen += size
                if seen > told:
                    on_piece(seen - told)
                    told = seen

            return self._store.digest(key, on_piece=count)

        return self._patiently(read)

    def _patiently(self, call: Callable[[], _Result]) -> _Result:
        ends_at: float | None = None
        pause = PAUSE_SECONDS_MIN
        while True:
            self._require_going()
            try:
                return call()
            except Failure as error:
                now = self._clock()
                ends_at = now + PATIENCE_SECONDS if ends_at is None else ends_at
                if not _may_pass(error) or now + pause > ends_at:
                    raise
                self._tell(error, now=now)
            self._sleep(pause)
            pause = min(2 * pause, PAUSE_SECONDS_MAX)

    def _tell(self, error: Failure, *, now: float) -> None:
        with self._lock:
            is_due = now >= self._next_telling_at
            if is_due:
                self._next_telling_at = now + TROUBLE_SECONDS_MIN
        if is_due:
            self._on_trouble(error)

    def _sleep(self, seconds: float) -> None:
        while seconds > 0:
            self._require_going()
            self._wait(min(1.0, seconds))
            seconds -= 1.0

    def _require_going(self) -> None:
        if self._stop.is_set():
            raise Stopped


def _begun(store: Store, prefix: str, after: str) -> tuple[Iterator[tuple[str, int]], tuple[str, int] | None]:
    """A listing, and what it begins with."""
    keys = store.walk(prefix, after=after)
    return keys, next(keys, None)


def _may_pass(error: Failure) -> bool:
    return (
        error.disposition is Disposition.RETRY
        and error.outside is Outside.STORE
        and not isinstance(error, StoreMismatch)
    )
