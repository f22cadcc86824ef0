"""Watches CDN hosts: which ones fail, how many slots each may take, and when one is held.

A failing host gets at most a quarter of the slots, so its timeouts never starve the other hosts. Five tasks in a row
that a host refused are the host's fault: the host is held, and its tasks are not buried.
In memory only: after a restart five tasks are needed to detect it again.
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
        self._quarter = max(1, slots // 4)
        self._lock = threading.Lock()
        self._running: collections.Counter[str] = collections.Counter()
        self._refusals: dict[str, set[int]] = {}
        """Host → row ids of the tasks that it refused since it last gave one whole."""

    def began(self, host: str | None) -> None:
        """A task of this host took a slot."""
        with self._lock:
            self._running[host or ""] += 1

    def ended(self, host: str | None) -> None:
        """A task of this host gave its slot back."""
        with self._lock:
            self._running[host or ""] -= 1

    def succeeded(self, host: str | None) -> None:
        """A task was archived: the host is healthy."""
        with self._lock:
            self._refusals.pop(host or "", None)

    def avoided(self) -> set[str]:
        """Failing hosts that already have their quarter of the slots."""
        with self._lock:
            return {host for host in self._refusals if host and self._running[host] >= self._quarter}

    def room(self) -> int:
        """How many tasks may be claimed at once without any failing host exceeding its quarter."""
        with self._lock:
            left = [self._quarter - self._running[host] for host in self._refusals if host]
        return min((free for free in left if free > 0), default=self._slots)

    def judged(self, lease: Lease, error: Exception) -> Exception:
        """`error`, or HostRefusing in its place when the host has refused five tasks in a row.

        A lost task does not count: its files are gone, which says nothing about the host.
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
