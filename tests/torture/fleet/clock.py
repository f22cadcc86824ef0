"""The clock of one process set apart from the machine's: a folder for PYTHONPATH, whose module Python loads at its
start."""

import pathlib

VARIABLE = "TEST_CLOCK_AHEAD_SECONDS"

_MODULE = f"""
import os, time

ahead = int(os.environ.get("{VARIABLE}", "0"))
seconds, nanoseconds = time.time, time.time_ns
time.time = lambda: seconds() + ahead
time.time_ns = lambda: nanoseconds() + ahead * 1_000_000_000
"""


def clock_environment(folder: pathlib.Path, *, ahead_seconds: int) -> dict[str, str]:
    """For a process whose clock is ahead of the machine's, or behind it."""
    modules = folder / "clock"
    modules.mkdir(exist_ok=True)
    (modules / "sitecustomize.py").write_text(_MODULE)
    return {"PYTHONPATH": str(modules), VARIABLE: str(ahead_seconds)}
