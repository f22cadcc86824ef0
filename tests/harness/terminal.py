"""Commands as processes: at a terminal, read until they print something, killed if they do not end."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping

from tests.harness.command_line import (
    PROCESS_SECONDS_MAX,
    CommandLine,
)


@contextlib.contextmanager
def ended_in_time(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill a process that does not end in time, so that its test fails instead of hanging."""
    timer = threading.Timer(PROCESS_SECONDS_MAX, process.kill)
    timer.start()
    try:
        with process:
            yield
    finally:
        timer.cancel()


def wait_until_printed(process: subprocess.Popen[str], text: str) -> str:
    """Read standard error up to a line with `text`, which is returned."""
    lines = []
    for read in process.stderr or ():
        lines.append(read)
        if text in read:
            return read
    raise AssertionError(f"never printed {text!r}, but: {lines}")


def at_terminal(line: CommandLine, *arguments: str, **settings: str) -> tuple[int, str]:
    """One command with both streams at a terminal: exit status and everything on the screen."""
    return act_at_terminal(line, *arguments, settings=settings)


def act_at_terminal(
    line: CommandLine,
    *arguments: str,
    act: Callable[[subprocess.Popen[str]], object] = lambda _: None,
    on_shown: Callable[[str], object] = lambda _: None,
    settings: Mapping[str, str],
) -> tuple[int, str]:
    """The same. `act` is called once it runs; nothing reads the screen meanwhile, which holds some kilobytes.
    `on_shown` is called with all that was shown so far, whenever more is."""
    master, slave = os.openpty()
    shown = b""
    with os.fdopen(master, "rb", buffering=0) as screen:
        process = line.start(*arguments, stdout=slave, stderr=slave, settings={"TERM": "xterm", **settings})
        os.close(slave)
        with ended_in_time(process), contextlib.suppress(OSError):  # EIO: the other end is closed
            act(process)
            while read := screen.read(65536):
                shown += read
                on_shown(shown.decode(errors="replace"))
    return process.returncode, shown.decode()
