"""One thread that runs jobs when they are due, in order of due time and then of arrival.

Callbacks and the demo's progress of tasks are jobs. It keeps real time, not the account's clock: a delay of a
callback is felt by the receiver, whatever the account believes the date to be.
"""

import heapq
import threading
import time
from collections.abc import Callable

Job = Callable[[], None]


class Timetable:
    """Started with `start`, ended with `stop`, which forgets what is not yet due."""

    def __init__(self, *, crashed: Callable[[Exception], None]) -> None:
        self._changed = threading.Condition()
        self._jobs: list[tuple[float, int, Job]] = []
        self._sequence = 0
        self._busy = False
        self._stopping = False
        self._crashed = crashed
        self._thread = threading.Thread(target=self._run, name="simulator-timetable", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    def after(self, seconds: float, job: Job) -> None:
        with self._changed:
            self._sequence += 1
            heapq.heappush(self._jobs, (time.monotonic() + seconds, self._sequence, job))
            self._changed.notify_all()

    def wait_idle(self, timeout_seconds: float) -> bool:
        """Whether everything has run within the time, jobs that jobs added included."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs and not self._busy, timeout_seconds)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            except Exception as error:  # noqa: BLE001 -- a loop's last handler: a job's defect must not end the others
                self._crashed(error)

    def _next(self) -> Job | None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            while not self._stopping:
                wait_seconds = self._jobs[0][0] - time.monotonic() if self._jobs else None
                if wait_seconds is not None and wait_seconds <= 0:
                    self._busy = True
                    return heapq.heappop(self._jobs)[2]
                self._changed.wait(wait_seconds)
            return None
