"""Watches CDN hosts: which ones fail just now, how many slots each may take, and when one is held.

A failing host gets at most a quarter of the slots, so that its timeouts never starve the others. Five tasks in a row
that it refused are the host's fault, not the tasks': they hold the host instead of burying its tasks.
In memory only: after a restart five tasks find it out again, and none of them loses an attempt's worth of time.
"""

import collections
import threading

from archiver.failures import AssetGone, Failure, FetchFailed, FetchTimeout, HostRefusing, PartlyDone
from archiver.model import Lease, State

REFUSALS_IN_A_ROW = 5

_REFUSALS = (AssetGone, FetchFailed, FetchTimeout)


class HostWatch:
    """Counts by host. Thread-safe."""

    def __init__(self, *, slots: int) -> None:
        self._slots = slots
        self._lock = threading.Lock()
        self._running: collections.Counter[str] = collections.Counter()
        self._refusals: dict[str, set[int]] = {}
        """Host → the tasks it has refused since it last gave one whole."""

    def began(self, host: str | None) -> None:
        """A task of this host takes a slot."""
        with self._lock:
            self._running[host or ""] += 1

    def ended(self, host: str | None) -> None:
        """It gives the slot back."""
        with self._lock:
            self._running[host or ""] -= 1

    def succeeded(self, host: str | None) -> None:
        """It was archived: the host is well."""
        with self._lock:
            self._refusals.pop(host or "", None)

    def avoided(self) -> set[str]:
        """Failing hosts that already have their quarter of the slots."""
        most = max(1, self._slots // 4)
        with self._lock:
            return {host for host in self._refusals if host and self._running[host] >= most}

    def room(self) -> int:
        """How many tasks may be claimed at once so that no failing host gets more than its quarter of the slots, should
        all of them be its own."""
        most = max(1, self._slots // 4)
        with self._lock:
            left = [most - self._running[host] for host in self._refusals if host]
        return min((free for free in left if free > 0), default=self._slots)

    def judged(self, lease: Lease, error: Exception) -> Exception:
        """`error`, or HostRefusing in its place when this is the fifth task in a row that the host has refused.

        A task that is lost is refused because its files are gone: no wonder, and nothing against the host.
        """
        cause = error.cause if isinstance(error, PartlyDone) else error
        if not isinstance(cause, _REFUSALS) or lease.state is State.LOST:
            return error
        host = lease.asset_host or cause.host or ""
        with self._lock:
            tasks = self._refusals.setdefault(host, set())
            if len(tasks) < REFUSALS_IN_A_ROW:
                tasks.add(lease.row_id)
            refusals = len(tasks)
        if refusals < REFUSALS_IN_A_ROW or not host:
            return error
        return _as_hold(cause, error, host=host)


def _as_hold(cause: Failure, error: Exception, *, host: str) -> Exception:
    held = HostRefusing(
        f"{host} refused {REFUSALS_IN_A_ROW} tasks in a row, the last with: {cause}", host=host
    )
    if isinstance(error, PartlyDone):
        return PartlyDone(held, stored=error.stored, failed=error.failed)
    return held
