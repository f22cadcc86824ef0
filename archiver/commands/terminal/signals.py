"""How a signal ends a command: by way of every `finally`, within `GRACE_SECONDS`, and a second Ctrl-C at once.

A sweep then releases its family, and `verify` keeps its place. That may wait for a ledger, a store or an API that
hangs: the PostgreSQL driver waits ten seconds for the answer to a query that it cancels, before any `finally`. So the
process ends after that time wherever it is, with the command's last sentence. Commands can be killed at any moment. A
second SIGTERM is ignored, because `timeout` sends each of its own twice, and it would interrupt what saves the place.
"""

import _thread
import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from archiver.commands.terminal.last_sentence import LAST_SENTENCE

GRACE_SECONDS = 8.0
"""Less than supervisors wait before SIGKILL (`docker stop`: 10 s)."""
_SHOW_CURSOR = b"\x1b[?25h"
_ENDED = "kling-archiver: ended, without waiting any longer for what hangs."


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
    _end_in_time(number)
    raise KeyboardInterrupt


def _terminate(number: int, _frame: FrameType | None) -> None:
    for each in (signal.SIGTERM, signal.SIGHUP):
        # Not SIG_IGN: Python complains on standard error about a signal that came before it was set.
        signal.signal(each, _ignore)
    _end_in_time(number)
    raise Terminated(number)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """The command is ending already."""


def _end_in_time(number: int) -> None:
    """Not by `threading.Thread`: a handler may have interrupted this very thread inside one of its locks."""
    with contextlib.suppress(RuntimeError):  # the system grants no thread
        _thread.start_new_thread(_end, (128 + number,))


def _end(status: int) -> None:
    time.sleep(GRACE_SECONDS)
    try:
        _, writable, _ = select.select([], [2], [], 0)  # a full pipe would keep the process
        if writable:
            os.write(2, f"{_ENDED} {LAST_SENTENCE.text}\n".encode())
    finally:
        os._exit(status)
