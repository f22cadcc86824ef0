"""Commands as processes: at a terminal, read until they say something, killed when they do not end."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator

from tests.harness.command_line import (
    PROCESS_SECONDS_MAX,
    CommandLine,
)


@contextlib.contextmanager
def ended_in_time(process: subprocess.Popen[str]) -> Iterator[None]:
    """A process that does not end by itself is killed, and its test fails instead of hanging."""
    timer = threading.Timer(PROCESS_SECONDS_MAX, process.kill)
    timer.start()
    try:
        with process:
            yield
    finally:
        timer.cancel()


def wait_until_said(process: subprocess.Popen[str], text: str) -> None:
    """Read standard error up to a line with `text`."""
    said = []
    for read in process.stderr or ():
        said.append(read)
        if text in read:
            return
    raise AssertionError(f"never said {text!r}, but: {said}")


def at_terminal(line: CommandLine, *arguments: str, **settings: str) -> tuple[int, str]:
    """One command with both streams at a terminal: exit status and everything on the screen."""
    master, slave = os.openpty()
    shown = b""
    with os.fdopen(master, "rb", buffering=0) as screen:
        process = line.start(*arguments, stdout=slave, stderr=slave, settings={"TERM": "xterm", **settings})
        os.close(slave)
        with ended_in_time(process), contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while read := screen.read(65536):
                shown += read
    return process.returncode, shown.decode()
