"""Holds of this process alone. Where several processes work on one ledger, a machine without network, or with wrong
credentials, must not stop those that reach everything.

If another process that works on the ledger is alive, a failure of reach or credentials first holds only this process.
It becomes a hold for all once no other process has succeeded at the same thing for a minute. Meanwhile `status` and
`/readyz` name the process (it is among the warnings in its row of `daemons`), and the others do the work.

While it is held, the process tries one task after 2 s, doubling to 30 s, and goes on when that succeeds. If it does not
reach the API of an account, it leaves the account to other processes, and tries again after five minutes. While the API
is held for all, the processes take turns: each that fails leaves the account to the next for half a minute.

All of it is in memory: a process that has just started assumes that it reaches everything.
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from archiver import log
from archiver.failures import HOLD_PROBE_SECONDS, Failure, backoff_ms
from archiver.model import Problem, Stage

PATIENCE_SECONDS = 60.0
"""How long the process waits for another one to succeed before its hold becomes a hold for all."""
SHUN_SECONDS = 300.0
"""How long the process leaves an account to other processes."""
TURN_SECONDS = 30.0
"""How long it leaves the account while its API is held for all. The first process that reaches the API ends that
hold."""
PROBE_FIRST_SECONDS = 2
ROUND_SECONDS = 5.0
_API = (Stage.VERIFY, Stage.SWEEP)
"""Both stages query the same API with the same credentials."""


class Peers(Protocol):
    """The other processes, as the ledger knows them. Both methods raise LedgerUnavailable."""

    def others(self, name: str, *, thing: str, within_ms: int) -> tuple[int, bool]:
        """How many other processes do work, and whether one has succeeded at `thing` within that time."""

    def tell_successes(self, name: str, ages_ms: Mapping[str, int]) -> None:
        """Record what this process has succeeded at, and how long ago."""


class HoldsForAll(Protocol):
    """Holds that every process obeys. Both methods raise LedgerUnavailable."""

    def is_stopped(self, *, account: str, stage: Stage) -> bool:
        """Whether all of the stage is held already."""

    def set(self, error: Failure, *, account: str, stage: Stage) -> object:
        """Stop the stage."""


@dataclasses.dataclass
class _Held:
    error: Failure
    account: str
    stage: Stage
    since: float
    since_ms: int
    by_look: bool
    """Only looks have met it, and one may end it."""
    probes: int = 0
    probe_at: float = 0.0


class ProcessHolds:
    """The holds of this process. Thread-safe. `now` gives Unix ms."""

    def __init__(
        self,
        peers: Peers,
        *,
        name: str,
        for_all: HoldsForAll,
        now: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`name` is that of the process in `daemons`."""
        self._peers = peers
        self._name = name
        self._for_all = for_all
        self._now = now
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._worked: dict[str, float] = {}
        self._turns: dict[str, float] = {}
        """Accounts whose API is held for all, and until when others should try it."""

    def takes(self, error: Failure, *, account: str, stage: Stage, by_look: bool = False) -> bool:
        """Whether a failure that holds concerns only this process; otherwise it holds for all. Raises
        LedgerUnavailable."""
        if not error.is_of_process:
            return False
        thing = thing_of(account, stage, error.host)
        others, has_worked = self._peers.others(
            self._name, thing=thing, within_ms=int(PATIENCE_SECONDS * 1000)
        )
        now = self._monotonic()
        if others and self._for_all.is_stopped(account=account, stage=stage):
            with self._lock:
                if stage in _API:
                    self._turns[account] = now + TURN_SECONDS
            return False
        with self._lock:
            held = self._held.get(thing)
            is_new = held is None
            held = held or _Held(error, account, stage, now, self._now(), by_look)
            if not others or (now - held.since >= PATIENCE_SECONDS and not has_worked):
                self._held.pop(thing, None)
                return False
            held.error = error
            held.by_look = held.by_look and by_look
            held.probes += 1
            wait_ms = backoff_ms(
                held.probes, rand=1, first_seconds=PROBE_FIRST_SECONDS, seconds_max=HOLD_PROBE_SECONDS
            )
            held.probe_at = now + wait_ms / 1000
            self._held[thing] = held
        if is_new:
            _log_hold(held)
        return True

    def worked(self, account: str, stage: Stage, *, host: str | None = None) -> None:
        """Work of this stage has succeeded, on this host if it fetched a file."""
        self._succeeded({thing_of(account, stage, None), thing_of(account, stage, host)})

    def answered(self, account: str, hosts: Iterable[str]) -> None:
        """These hosts have answered."""
        self._succeeded({thing_of(account, Stage.ARCHIVE, host) for host in hosts})

    def looked_well(self, account: str, stage: Stage) -> None:
        """A look has succeeded. A store may answer every look and refuse every put, so that says little of it."""
        thing = thing_of(account, stage, None)
        with self._lock:
            held = self._held.get(thing)
        if stage in _API or (held is not None and held.by_look):
            self._succeeded({thing})

    def _succeeded(self, things: Collection[str]) -> None:
        now = self._monotonic()
        with self._lock:
            self._worked |= dict.fromkeys(things, now)
            ended = [held for thing in things if (held := self._held.pop(thing, None)) is not None]
        for held in ended:
            _log_end(held, "it works again here")

    def stops(self, account: str, stage: Stage) -> bool:
        """Whether nothing of the stage may begin now."""
        with self._lock:
            held = self._held.get(thing_of(account, stage, None))
            return held is not None and self._monotonic() < held.probe_at

    def room(self, account: str, stage: Stage, count: int) -> int:
        """How many of `count` may begin now: all, or only the probe."""
        with self._lock:
            held = self._held.get(thing_of(account, stage, None))
            if held is None:
                return count
            held.probe_at = self._monotonic() + HOLD_PROBE_SECONDS  # until the probe has ended
            return min(1, count)

    def hosts(self, account: str) -> frozenset[str]:
        """The hosts from which nothing may be fetched now."""
        now = self._monotonic()
        with self._lock:
            return frozenset(
                held.error.host
                for held in self._held.values()
                if held.account == account and held.error.host and now < held.probe_at
            )

    def shunned(self) -> frozenset[str]:
        """Accounts that other processes should ask for."""
        now = self._monotonic()
        with self._lock:
            self._turns = {account: until for account, until in self._turns.items() if now < until}
            held = {held.account for held in self._held.values() if held.stage in _API}
            return frozenset(held | self._turns.keys())

    def step(self) -> None:
        """Every few seconds: holds that no process disproves become holds for all, and shunned accounts get another
        try. Raises LedgerUnavailable."""
        now = self._monotonic()
        with self._lock:
            old = {thing: held for thing, held in self._held.items() if now - held.since >= PATIENCE_SECONDS}
        for thing, held in old.items():
            others, has_worked = self._peers.others(
                self._name, thing=thing, within_ms=int(PATIENCE_SECONDS * 1000)
            )
            is_for_all = not others or not has_worked
            is_over = held.stage in _API and now - held.since >= SHUN_SECONDS
            if not (is_for_all or is_over):
                continue
            if is_for_all:
                self._for_all.set(held.error, account=held.account, stage=held.stage)
            with self._lock:
                self._held.pop(thing, None)
            _log_end(held, "no other process succeeds either" if is_for_all else "it is tried again")

    def successes(self) -> Mapping[str, int]:
        """What has succeeded here recently enough to count; how many ms ago."""
        now = self._monotonic()
        with self._lock:
            self._worked = {thing: at for thing, at in self._worked.items() if now - at < PATIENCE_SECONDS}
            return {thing: int((now - at) * 1000) for thing, at in self._worked.items()}

    def problems(self) -> Sequence[Problem]:
        """For the process's row in `daemons`."""
        with self._lock:
            return [
                Problem(
                    "hold",
                    f"{held.stage} of {held.account} is held in {self._name} alone: {held.error.reason}: {held.error}",
                    held.error.what_to_do,
                    held.account,
                    held.since_ms,
                    stage=held.stage,
                    reason=held.error.reason,
                    subject=f"{self._name} {held.error.host or ''}".strip(),
                )
                for held in self._held.values()
            ]


class ProcessHoldLoop:
    """Tells the others what succeeds here, and looks after the holds. `step` belongs to one thread."""

    name = "process-hold-loop"

    def __init__(self, holds: ProcessHolds, peers: Peers, *, name: str, stop: threading.Event) -> None:
        """`name` is that of the process in `daemons`."""
        self._holds = holds
        self._peers = peers
        self._process = name
        self._stop = stop
        self._has_told = False

    def step(self) -> None:
        """One round, then a pause. Raises LedgerUnavailable."""
        successes = self._holds.successes()
        if successes or self._has_told:
            self._peers.tell_successes(self._process, successes)
            self._has_told = bool(successes)
        self._holds.step()
        self._stop.wait(ROUND_SECONDS)


def thing_of(account: str, stage: Stage, host: str | None) -> str:
    """The name of what fails or succeeds: the API of an account, its part of the store, or a host of its files."""
    what = "api" if stage in _API else stage
    return f"{account} {host or what}"


def _log_hold(held: _Held) -> None:
    log.get().error(
        "hold.set",
        account=held.account,
        stage=held.stage,
        host=held.error.host,
        reason=held.error.reason,
        message=f"in this process alone: {held.error}",
        what_to_do=held.error.what_to_do,
    )


def _log_end(held: _Held, why: str) -> None:
    log.get().info(
        "hold.released",
        account=held.account,
        stage=held.stage,
        host=held.error.host,
        reason=held.error.reason,
        message=f"in this process alone: {why}",
    )
