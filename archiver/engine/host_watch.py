"""Watches CDN hosts: which ones fail, how much each may take, and when one is held.

Four cases, told apart by each file (`HostVerdict`):

- *Down*: no file could have been had from the host. Five different tasks in a row hold it; any answer about a file
  lifts that.
- *Refusing*: the host answers and gives nothing. Ten tasks in a row, each at its first try there, hold it; one whole
  file lifts that. Tasks that were tried before do not count: their files may be gone for good.
- *Misled*: its name has an address that is refused. Five tasks in a row, of all hosts together, hold each host that
  meets it; any answer from one lifts its hold. A single one keeps its own failure.
- *One file*: gone, too large, not whole. That says nothing about the host.

A failing host takes at most a quarter of the transfers and of the tasks under way, so its time-outs never starve other
hosts; half of that quarter is for first tries, so a crowd of hopeless tasks never starves the healthy ones of its own
host. A host that has not answered yet takes at most half.

In memory only: after a restart five tasks are needed to detect it again. The hold itself is in the ledger.
"""

import collections
import dataclasses
import threading
from collections.abc import Iterable

from archiver.failures import (
    UNLISTED_NAMES_MAX,
    AssetAddressRefused,
    AssetHostUnlisted,
    Disposition,
    Failure,
    HostDown,
    HostRefusing,
    HostVerdict,
    PartlyDone,
)
from archiver.model import Lease, State

DOWN_IN_A_ROW = 5
REFUSED_IN_A_ROW = 10
MISLED_IN_A_ROW = 5
TRIES_KEPT = 20


@dataclasses.dataclass
class _Host:
    tries: collections.deque[bool] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=TRIES_KEPT)
    )
    """Whether each of the last files failed."""
    down: set[int] = dataclasses.field(default_factory=set)
    """Row ids of the tasks without any answer since the last one."""
    refused: set[int] = dataclasses.field(default_factory=set)
    """Row ids of the tasks that were refused at their first try since the last whole file."""
    running: int = 0
    """Tasks under way."""
    running_again: int = 0
    """Running tasks that were tried on this host before."""

    @property
    def is_failing(self) -> bool:
        return 2 * sum(self.tries) > len(self.tries)

    @property
    def is_down(self) -> bool:
        return len(self.down) >= DOWN_IN_A_ROW

    @property
    def is_refusing(self) -> bool:
        return len(self.refused) >= REFUSED_IN_A_ROW


class HostWatch:
    """Counts by host. Thread-safe."""

    def __init__(self, *, transfers: int) -> None:
        """`transfers` is how many files, and tasks, may be under way at a time."""
        self._transfers = transfers
        self._quarter = max(1, -(-transfers // 4))
        self._retries_max = max(1, self._quarter // 2)
        self._half = max(1, -(-transfers // 2))
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}
        self._recovered: dict[str, set[str]] = {}
        """Host → reasons of holds that an answer has disproved since `take_recovered`."""
        self._misled: set[int] = set()
        """Row ids of the tasks whose host had a refused address, since the last answer from any host."""
        self._unlisted: dict[str, None] = {}
        """Hosts that the settings do not list, in the order they were seen."""

    # --- tasks --------------------------------------------------------------------------------------------

    def began(self, lease: Lease) -> None:
        """A task took a slot."""
        self._count(lease, 1)

    def ended(self, lease: Lease) -> None:
        """A task gave its slot back."""
        self._count(lease, -1)

    def avoided(self) -> set[str]:
        """Failing hosts that already have their quarter of the tasks."""
        with self._lock:
            return {name for name, host in self._failing() if host.running >= self._quarter}

    def first_tries_only(self) -> set[str]:
        """Failing hosts whose retries already have their part of the quarter."""
        with self._lock:
            return {name for name, host in self._failing() if host.running_again >= self._retries_max}

    def room(self) -> int:
        """How many tasks may be claimed at once without any failing host exceeding its quarter."""
        with self._lock:
            left = [self._quarter - host.running for _, host in self._failing()]
            left += [self._retries_max - host.running_again for _, host in self._failing()]
        return min((free for free in left if free > 0), default=self._transfers)

    # --- files --------------------------------------------------------------------------------------------

    def transfers_max(self, host: str) -> int:
        """How many files of `host` may be under way now."""
        with self._lock:
            known = self._hosts.get(host)
            if known is None or not known.tries:
                return self._half
            return self._quarter if known.is_failing else self._transfers

    def came(self, host: str) -> None:
        """A whole file came from `host`."""
        with self._lock:
            known = self._host(host)
            known.tries.append(False)
            known.down.clear()
            known.refused.clear()
            self._misled.clear()
            reasons = (HostDown.reason, HostRefusing.reason, AssetAddressRefused.reason)
            self._recovered.setdefault(host, set()).update(reasons)

    def failed(self, lease: Lease, failure: Failure) -> None:
        """A file of `lease` did not come from `failure.host`. Those of a lost task say nothing: they may be deleted."""
        verdict, host = failure.host_verdict, failure.host
        if verdict is HostVerdict.UNTOLD or host is None:
            return
        with self._lock:
            known = self._host(host)
            if verdict not in (HostVerdict.DOWN, HostVerdict.ADDRESS):
                known.down.clear()
                self._misled.clear()
                reasons = (HostDown.reason, AssetAddressRefused.reason)
                self._recovered.setdefault(host, set()).update(reasons)
            if lease.state is State.LOST:
                return
            known.tries.append(True)
            if verdict is HostVerdict.DOWN:
                known.down.add(lease.row_id)
            elif verdict is HostVerdict.ADDRESS:
                self._misled.add(lease.row_id)
            elif verdict is HostVerdict.REFUSES and lease.is_first_try:
                known.refused.add(lease.row_id)

    def take_recovered(self) -> dict[str, set[str]]:
        """Host → reasons of holds that are disproved, since the last call."""
        with self._lock:
            recovered, self._recovered = self._recovered, {}
        return recovered

    # --- verdicts -----------------------------------------------------------------------------------------

    def judged(self, lease: Lease, error: Exception) -> Exception:
        """`error`, or a hold of the host in its place, where the host is at fault.

        A lost task keeps its own failure: its files may be deleted, which says nothing about the host.
        """
        cause = error.cause if isinstance(error, PartlyDone) else error
        if not isinstance(cause, Failure) or cause.host is None:
            return error
        if lease.state is State.LOST:
            if isinstance(cause, AssetHostUnlisted):
                cause.disposition = Disposition.BURY  # tried in the rhythm of lost tasks
            return error
        with self._lock:
            held = self._hold(error, cause, cause.host)
        if held is None:
            return error
        if isinstance(error, PartlyDone):
            return PartlyDone(held, stored=error.stored, failed=error.failed)
        return held

    def _hold(self, error: Exception, cause: Failure, name: str) -> Failure | None:
        if isinstance(cause, AssetHostUnlisted):
            others = error.failed.values() if isinstance(error, PartlyDone) else ()
            for one in (cause, *others):
                if isinstance(one, AssetHostUnlisted) and len(self._unlisted) <= UNLISTED_NAMES_MAX:
                    self._unlisted.update(dict.fromkeys(one.hosts))
            return AssetHostUnlisted(tuple(self._unlisted))
        if cause.host_verdict is HostVerdict.ADDRESS and len(self._misled) >= MISLED_IN_A_ROW:
            return cause.as_hold()
        return _hold_of_host(cause, name, self._host(name))

    def _host(self, name: str) -> _Host:
        return self._hosts.setdefault(name, _Host())

    def _failing(self) -> Iterable[tuple[str, _Host]]:
        return [(name, host) for name, host in self._hosts.items() if host.is_failing]

    def _count(self, lease: Lease, change: int) -> None:
        if lease.asset_host is None:
            return
        with self._lock:
            host = self._host(lease.asset_host)
            host.running += change
            host.running_again += 0 if lease.is_first_try else change


def _hold_of_host(cause: Failure, name: str, host: _Host) -> Failure | None:
    if cause.host_verdict is HostVerdict.DOWN and host.is_down:
        said = f"{name} gave no answer to {DOWN_IN_A_ROW} tasks in a row"
        return HostDown(f"{said}, the last with: {cause}", host=name, what_to_do=cause.what_to_do or None)
    if cause.host_verdict is HostVerdict.REFUSES and host.is_refusing:
        said = f"{name} refused {REFUSED_IN_A_ROW} tasks in a row"
        return HostRefusing(f"{said}, the last with: {cause}", host=name)
    return None
