"""The clocks that ledgers use."""

import time
from collections.abc import Callable

from archiver.clock import seconds_passed


def unix_ms() -> int:
    """Now in Unix ms by this machine's clock."""
    return time.time_ns() // 1_000_000


class ServerClock:
    """The clock of a database server, which every transaction reads. Between transactions it advances by the time that
    passes here, also while this machine is suspended or its own clock is set. Thread-safe.

    It is late by the time that the server's answer took to arrive.
    """

    def __init__(
        self, *, monotonic: Callable[[], float] = seconds_passed, local: Callable[[], int] = unix_ms
    ) -> None:
        self._monotonic = monotonic
        self._local = local
        self._heard: tuple[int, float] | None = None
        """What the server said, and when that was here. One value: threads set it at the same time."""

    def heard(self, server_ms: int) -> None:
        """The server has just said that it is `server_ms`."""
        self._heard = (server_ms, self._monotonic())

    def now(self) -> int:
        """Unix ms; by the local clock until the server has said anything."""
        if self._heard is None:
            return self._local()
        server_ms, at = self._heard
        return server_ms + int((self._monotonic() - at) * 1000)
