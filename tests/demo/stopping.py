"""How the demo ends early: its user stops it, or something that it needs does not work.

A signal only sets a flag, which the main loop reads ten times a second. A handler that raises could do so anywhere,
also between starting a child and recording it.
"""

import signal
import time
from types import FrameType

TICK_SECONDS = 0.1


class Interrupted(Exception):
    """The user wants the demo to end. Not a failure."""


class DemoFailed(Exception):
    """The demo cannot go on; the message is for its user."""


class StopRequest:
    """Whether SIGINT, SIGTERM or SIGHUP arrived."""

    def __init__(self) -> None:
        self._arrived = False

    def listen(self) -> None:
        """Catch these signals from now on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else: started by nohup
            signal.signal(signal.SIGHUP, self._note)

    def check(self) -> None:
        """Raises `Interrupted` after a signal."""
        if self._arrived:
            raise Interrupted

    def pause(self) -> None:
        """Sleep for one tick of the main loop. Raises `Interrupted`."""
        time.sleep(TICK_SECONDS)
        self.check()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._arrived = True
