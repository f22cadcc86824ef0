"""The end of the process, which comes also where the stop hangs."""

import contextlib
import os
import threading
import time
from collections.abc import Callable

from archiver import log

GRACE_SECONDS = 15.0
"""For what the stop does after `KLING_SHUTDOWN_SECONDS`: it gives back leases and closes connections."""
_LOG_SECONDS = 1.0


class Closing:
    """Begins once, then lasts at most `seconds`. A stop that has not ended `grace_seconds` later never will.

    Nobody listens any more by then, and Docker sends its health check's SIGTERM once: a process that waits for a lock
    of a thread that hangs would stay for ever, and archive nothing. A crash costs less: leases end by themselves.
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
        with contextlib.suppress(RuntimeError):  # the system grants no thread; the stop itself needs none
            self._last_resort.start()

    def seconds_left(self) -> float:
        """Until requests and transfers under way are given up."""
        self.begin()
        return max(0.0, self._until - time.monotonic())

    def end(self) -> None:
        """The stop has come to its end."""
        self._last_resort.cancel()

    def _abort(self) -> None:
        try:
            # By another thread: what hangs may be the log's own pipe.
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
