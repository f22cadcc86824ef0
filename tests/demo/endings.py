"""How the demo ends before its time: somebody stops it, or something it needs does not work.

A signal only sets a flag, and the main loop looks at it between two steps, ten times a second. A handler that raises
would do so anywhere, also between starting a child and noting that it was started.
"""

import signal
import time
from types import FrameType

TICK_SECONDS = 0.1


class Interrupted(Exception):
    """Somebody wants the demo to end: no failure."""


class DemoFailed(Exception):
    """The demo cannot go on; the message is for the person before the screen."""


class StopRequest:
    """Whether SIGINT, SIGTERM or SIGHUP has come."""

    def __init__(self) -> None:
        self._came = False

    def listen(self) -> None:
        """From here on those signals end nothing by themselves."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else: started by nohup
            signal.signal(signal.SIGHUP, self._note)

    def check(self) -> None:
        """Raises `Interrupted` once one has come."""
        if self._came:
            raise Interrupted

    def pause(self) -> None:
        """A tick of the main loop. Raises `Interrupted`."""
        time.sleep(TICK_SECONDS)
        self.check()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True
