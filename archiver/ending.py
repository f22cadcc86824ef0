"""How a process ends that still has threads."""

import contextlib
import os
import sys
import threading
from typing import NoReturn

FLUSH_SECONDS = 1.0
UNWRITTEN = 120
"""The exit status of Python if it cannot write what is left of standard output."""


def end_process(status: int) -> NoReturn:
    """End as `sys.exit` does, with this exit status though daemon threads are left.

    Python's own end needs the locks of standard output and error. If a daemon thread holds one of them, because it is
    printing or waits for a full pipe, Python aborts: SIGABRT, and a dump in place of the exit status.
    """
    if any(thread.daemon for thread in threading.enumerate()):
        os._exit(UNWRITTEN if _has_failed_to_flush() else status)
    sys.exit(status)


def _has_failed_to_flush() -> bool:
    """Flush in a thread of its own, because that waits for those same locks."""
    failed: list[OSError] = []
    flushing = threading.Thread(target=_flush_streams, args=(failed,), daemon=True)
    with contextlib.suppress(RuntimeError):  # the system grants no thread
        flushing.start()
        flushing.join(FLUSH_SECONDS)
    return bool(failed)


def _flush_streams(failed: list[OSError]) -> None:
    """A stream that was closed before the process began is None."""
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except ValueError:  # closed since
            pass
        except OSError as error:  # a full disk, or its reader has gone
            failed.append(error)
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
