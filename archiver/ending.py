"""How a process ends that still has threads."""

import contextlib
import os
import sys
import threading
from typing import NoReturn

FLUSH_SECONDS = 1.0


def end_process(status: int) -> NoReturn:
    """End as `sys.exit` does, with this exit status though daemon threads are left.

    Python's own end needs the locks of standard output and error. If a daemon thread holds one of them, because it is
    printing or waits for a full pipe, Python aborts: SIGABRT, and a dump in place of the exit status.
    """
    if any(thread.daemon for thread in threading.enumerate()):
        _flush()
        os._exit(status)
    sys.exit(status)


def _flush() -> None:
    """In a thread of its own, because it waits for those same locks."""
    flushing = threading.Thread(target=_flush_streams, daemon=True)
    with contextlib.suppress(RuntimeError):  # the system grants no thread
        flushing.start()
        flushing.join(FLUSH_SECONDS)


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or its reader has gone
            stream.flush()
