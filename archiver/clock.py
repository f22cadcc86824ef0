"""Time that passes, for what a pause of this machine has to end."""

import time


def _seconds_since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


seconds_passed = _seconds_since_boot if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
"""Seconds, never set back. On Linux they also pass while the machine is suspended (a laptop lid). Other systems give
Python none: there a lease outlives a suspend by what was left of it, and the fencing token in the ledger decides."""
