"""`kling-receiver` whose event loop hangs after SIGUSR1; its watchdog waits for HANG_ROUNDS rounds of 0.1 s."""

import os
import signal
import sys
import threading
from types import FrameType

from receiver.__main__ import main
from receiver.server import watchdog


def hang_here(_number: int, _frame: FrameType | None) -> None:
    """Signal handlers of Python run in the main thread, which is the event loop's."""
    threading.Event().wait()


if __name__ == "__main__":
    watchdog.HANG_ROUNDS = int(os.environ["HANG_ROUNDS"])
    watchdog.ROUND_SECONDS = 0.1
    signal.signal(signal.SIGUSR1, hang_here)
    sys.exit(main())
