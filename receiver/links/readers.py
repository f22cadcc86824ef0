"""The clients that read files at the same time, and which of them has to leave: places are few, and a slow reader keeps
one for long."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

READERS_MAX = 256
"""Each has a connection to the store, and 0.2 MB of memory while it takes nothing."""
READERS_OF_FILE_MAX = READERS_MAX - 32
"""Readers of one link cannot take all places, and 200 of a popular picture are served. There is no such limit for an
address: behind a proxy all readers have one."""
FIRST_SECONDS = 30.0
"""The limit until the store has begun and the client has taken the first bytes."""
PATIENCE_SECONDS = 30.0
LOOK_SECONDS = 1.0
"""The interval at which the daemon counts what the client has taken, also of a piece that has passed in part."""
END_BYTES_PER_SECOND = 64 * 1024 / PATIENCE_SECONDS
"""A reader that takes less is cut off, as `receiver.server` does; one whose store sends less, too."""
SLOW_BYTES_PER_SECOND = 64 * 1024
"""A reader that takes less has to leave when others want its place,"""
SLOW_SECONDS = 30.0
"""but not within this time."""


class Reader:
    """One client that reads a file."""

    def __init__(self, key: str, clock: Callable[[], float], unread_bytes: Callable[[], int]) -> None:
        """`key`: of the file in the bucket. `clock`: that of the event loop. `unread_bytes`: as for `Readers.enter`."""
        self.key = key
        self.is_displaced = False
        """Whether another reader has its place."""
        self.has_left = False
        """Whether the client has gone."""
        self.slow_at = clock() + SLOW_SECONDS
        """When it is slow, unless it takes more."""
        self.ends_at = clock() + FIRST_SECONDS
        """When it is cut off, unless it takes more."""
        self._clock = clock
        self._unread_bytes = unread_bytes
        self._limit: asyncio.Timeout | None = None
        self._sent_bytes = 0
        self._taken_bytes = 0

    @contextlib.asynccontextmanager
    async def limited(self) -> AsyncIterator[None]:
        """Raises TimeoutError when the reader has to leave."""
        try:
            async with asyncio.timeout_at(self.ends_at) as self._limit:
                self._look_on()
                yield
        finally:
            self._next_look.cancel()
            self._limit = None

    def _look_on(self) -> None:
        self.look()
        self._next_look = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_on)

    def sent(self, count: int) -> None:
        """Count bytes that were sent. The client may take them much later."""
        self._sent_bytes += count

    def look(self) -> None:
        """Count what the client has taken."""
        taken = self._sent_bytes - self._unread_bytes()
        if taken > self._taken_bytes:
            self.passed(taken - self._taken_bytes)
            self._taken_bytes = taken

    def passed(self, count: int) -> None:
        """The client has taken so many bytes: each postpones both times a little, and none beyond 30 s from now."""
        now = self._clock()
        self.slow_at = min(self.slow_at + count / SLOW_BYTES_PER_SECOND, now + SLOW_SECONDS)
        self.ends_at = min(self.ends_at + count / END_BYTES_PER_SECOND, now + PATIENCE_SECONDS)
        if not (self.is_displaced or self.has_left):
            self._end_at(self.ends_at)

    def displace(self) -> None:
        """Cut the reader off: another has its place."""
        self.is_displaced = True
        self._cut_off()

    def client_left(self) -> None:
        """End the reader, whatever it waits for."""
        self.has_left = True
        self._cut_off()

    def _cut_off(self) -> None:
        self._end_at(self._clock())

    def _end_at(self, at: float) -> None:
        # A limit that has passed is about to raise TimeoutError, and cannot be changed.
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(at)


class Readers:
    """The places for readers. For one event loop."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        """`clock`: of the event loop, by default that of the running one."""
        self._clock = clock
        self._readers: set[Reader] = set()

    def enter(self, key: str, unread_bytes: Callable[[], int]) -> Reader | None:
        """A place for one who wants this file; None when too many read it, or too many read, and none of them is slow.

        Otherwise the slowest of them leaves. `unread_bytes` counts what the client has not read of what was sent.
        """
        clock = self._clock or asyncio.get_running_loop().time
        rivals = self._rivals(key)
        if rivals:
            slowest = min(rivals, key=lambda reader: reader.slow_at)
            if slowest.slow_at > clock():
                return None
            slowest.displace()
            self._readers.discard(slowest)
        reader = Reader(key, clock, unread_bytes)
        self._readers.add(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """Give the place back; also called after the reader was displaced."""
        self._readers.discard(reader)

    def _rivals(self, key: str) -> set[Reader]:
        """The readers of whom one must leave before a new one may enter."""
        of_file = {reader for reader in self._readers if reader.key == key}
        if len(of_file) >= READERS_OF_FILE_MAX:
            return of_file
        return self._readers if len(self._readers) >= READERS_MAX else set()
