"""How a signal ends a command: by way of every `finally`, and a second Ctrl-C at once.

A sweep then releases its family, and `verify` keeps its place. That may wait for a ledger or a network that hangs; the
second Ctrl-C kills the process wherever it is. Nothing is lost by it: commands can be killed at any moment. A second
SIGTERM is ignored, because `timeout` sends each of its own twice, and it would interrupt what saves the place;
supervisors send SIGKILL when they have waited enough.
"""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

_SHOW_CURSOR = b"\x1b[?25h"


class Terminated(SystemExit):
    """A signal other than Ctrl-C's has ended the command."""

    def __init__(self, number: int) -> None:
        self.status = 128 + number
        """As a shell reports it."""
        super().__init__(self.status)


def handle_signals() -> None:
    """Handle the signals. An ignored signal stays ignored: SIGHUP under `nohup`, SIGINT in the background of a
    script."""
    _handle(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _terminate)
    _handle(signal.SIGHUP, _terminate)


def _handle(number: signal.Signals, handler: Callable[[int, FrameType | None], object]) -> None:
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, handler)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), _SHOW_CURSOR)  # which a progress bar has hidden
    raise KeyboardInterrupt


def _terminate(number: int, _frame: FrameType | None) -> None:
    for each in (signal.SIGTERM, signal.SIGHUP):
        # Not SIG_IGN: Python complains on standard error about a signal that came before it was set.
        signal.signal(each, _ignore)
    raise Terminated(number)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """The command is ending already."""
