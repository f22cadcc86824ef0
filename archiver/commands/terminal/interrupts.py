"""Ctrl-C that is not lost. Python drops a KeyboardInterrupt that happens to be raised in a finalizer or a callback, and
a command that then waits for a store that hangs would go on waiting.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

REPEAT_SECONDS = 3.0


@contextlib.contextmanager
def insistent_interrupts(repeat_seconds: float = REPEAT_SECONDS) -> Iterator[None]:
    """Within, an interrupt is repeated until the block is left. Does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    has_left = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=_repeat, args=(has_left, repeat_seconds), daemon=True).start()
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        has_left.set()
        signal.signal(signal.SIGINT, before)


def _repeat(has_left: threading.Event, seconds: float) -> None:
    if not has_left.wait(seconds):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
