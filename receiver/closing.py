"""Ends the process, even if the stop hangs."""

import contextlib
import os
import threading
import time
from collections.abc import Callable

from archiver import log

GRACE_SECONDS = 15.0
"""How long the stop may take after `KLING_SHUTDOWN_SECONDS`, to give back leases and close connections."""
_LOG_SECONDS = 1.0


class Closing:
    """Begins once, then lasts at most `seconds`. A stop that has not ended `grace_seconds` later never will.

    By then the listener is closed, and Docker sends SIGTERM only once: a process that waits for a lock of a hanging
    thread would stay for ever and archive nothing. A crash costs less, because leases end by themselves.
    """

    def __init__(
        self,
        *,
        seconds: float,
        grace_seconds: float = GRACE_SECONDS,
        end_process: Callable[[int], object] = os._exit,
    ) -> None:
        self.begun = threading.Event()
        self._seconds = seconds
        self._until = 0.0
        self._end_process = end_process
        self._last_resort = threading.Timer(seconds + grace_seconds, self._abort)
        self._last_resort.daemon = True

    def begin(self) -> None:
        """The listener closes. Belongs to the main thread."""
        if self.begun.is_set():
            return
        self._until = time.monotonic() + self._seconds
        self.begun.set()
        with contextlib.suppress(RuntimeError):  # the system allows no thread; the stop itself needs none
            self._last_resort.start()

    def seconds_left(self) -> float:
        """The time left until running requests and transfers are given up."""
        self.begin()
        return max(0.0, self._until - time.monotonic())

    def end(self) -> None:
        """The stop has come to its end."""
        self._last_resort.cancel()

    def _abort(self) -> None:
        try:
            # In another thread, because the log's own pipe may hang.
            line = threading.Thread(target=self._log, daemon=True)
            line.start()
            line.join(_LOG_SECONDS)
        finally:
            self._end_process(1)

    def _log(self) -> None:
        log.get().critical(
            "daemon.aborted",
            message=f"the stop has not ended {self._last_resort.interval:g} s after the listener closed: a thread "
            "hangs, and the stop waits for it. The process ends without it",
            what_to_do="Nothing is lost: leases end by themselves. Report where it hung: the event `loop.stalled`.",
        )
