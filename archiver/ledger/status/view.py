"""What `status`, metrics, readiness and alerts read of the ledger, typed: one snapshot. Times are Unix ms; `as_json`
gives the contract's shapes."""

import dataclasses
import itertools
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from archiver.ledger.daemons import DaemonView
from archiver.ledger.databases.protocol import Disk, Obstacle
from archiver.ledger.gateway_creates.doubts import DoubtView
from archiver.ledger.holds import HoldView
from archiver.ledger.tables.forwards import ForwardState
from archiver.model import Problem, State, rfc3339


@dataclasses.dataclass(frozen=True, slots=True)
class SweepView:
    """The sweeps of one family of one account."""

    account: str
    family: str
    last_success_at: int | None
    missed_callbacks: int


@dataclasses.dataclass(frozen=True, slots=True)
class TaskInTime:
    """The one task that comes first by some time, `at`."""

    account: str
    task_id: str
    at: int


@dataclasses.dataclass(frozen=True, slots=True)
class TasksInTime:
    """Tasks of one account with something in common, `since` when, and the ids of the first few."""

    account: str
    count: int
    is_more: bool
    """There are more than `count`."""
    since: int
    task_ids: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class AskedAccount:
    """An account that a process asks for, or has asked for until `held_until`."""

    account: str
    held_until: int


@dataclasses.dataclass(frozen=True, slots=True)
class StatusView:
    """The whole ledger at a glance."""

    now: int
    """When the view was read."""
    counts: Mapping[tuple[str, State], int]
    """Account and state → number of tasks; zeros are left out."""
    earliest_deadline: int | None
    """The nearest deadline of all confirmed tasks that are not in the bucket."""
    nearest_deadline: TaskInTime | None
    """The task with the nearest deadline, without buried tasks that an operator has acknowledged."""
    oldest_succeeded: tuple[TaskInTime, ...]
    """Of each account: the task that has been succeeded for longest without being in the bucket."""
    unread: tuple[TasksInTime, ...]
    """Of each account: tasks that the API shows in words that this version cannot read."""
    lost: tuple[TasksInTime, ...]
    """Of each account: lost tasks of the last `LOST_MS` that no operator has acknowledged."""
    buried: tuple[TasksInTime, ...]
    """Of each account: buried tasks that no operator has acknowledged."""
    amendments: tuple[TasksInTime, ...]
    """Of each account: archived tasks with files named later that are not in the bucket yet."""
    missing_objects: tuple[TasksInTime, ...]
    """Of each account: archived tasks with missing objects that no operator has acknowledged."""
    dead_forwards: tuple[TasksInTime, ...]
    """Of each account: tasks with dead forwards that no operator has acknowledged."""
    doubts: tuple[DoubtView, ...]
    """Creates of the gateway whose answers were lost, and whose tasks are not certain."""
    forward_counts: Mapping[ForwardState, int]
    last_callback_at: int | None
    sweeps: tuple[SweepView, ...]
    unavailable: frozenset[tuple[str, str]]
    """Account and family of lists that the API does not offer."""
    holds: tuple[HoldView, ...]
    clock_skew_ms: int | None
    """The API's clock minus ours."""
    daemons: tuple[DaemonView, ...]
    """All daemons, including those that no longer run."""
    asked: tuple[AskedAccount, ...]
    """Accounts that any process has ever asked for."""
    first_started_at: int | None
    """When a daemon first worked on this ledger; None when none ever has."""
    disk: Disk | None
    """The disk of the ledger; None if it belongs to another machine."""
    obstacle: Obstacle | None

    @property
    def states(self) -> dict[State, int]:
        """How many tasks are in each state; every state is named."""
        states = dict.fromkeys(State, 0)
        for (_, state), count in self.counts.items():
            states[state] += count
        return states

    @property
    def accounts(self) -> list[str]:
        """The accounts that have tasks."""
        return sorted({account for account, _ in self.counts})

    @property
    def last_sweep(self) -> dict[str, int | None]:
        """By family: the oldest of the accounts' last sweeps; None where an account has had none. An alert is about
        the worst."""
        return {family: _oldest(sweep.last_success_at for sweep in of) for family, of in self._families()}

    @property
    def missed_callbacks(self) -> dict[str, int]:
        """By family, of all accounts."""
        return {family: sum(sweep.missed_callbacks for sweep in of) for family, of in self._families()}

    @property
    def alive_daemons(self) -> tuple[DaemonView, ...]:
        """The daemons that run."""
        return tuple(daemon for daemon in self.daemons if daemon.is_alive(now=self.now))

    @property
    def process_holds(self) -> tuple[Problem, ...]:
        """The holds of single running daemons."""
        warnings = itertools.chain.from_iterable(daemon.warnings for daemon in self.alive_daemons)
        return tuple(warning for warning in warnings if warning.code == "hold")

    def as_json(self, *, several_accounts: bool) -> dict[str, object]:
        """As `status --json` prints it: of a hold only what scripts may rely on, with its account where there are
        several."""
        account = ("account",) if several_accounts else ()
        names = (*account, "stage", "reason", "since", "what_to_do")
        holds = [hold.as_json() for hold in self.holds]
        holds += [hold.as_degraded() for hold in self.process_holds]
        return {
            "states": {state.value: count for state, count in self.states.items()},
            "earliest_deadline": _time(self.earliest_deadline),
            "last_callback_at": _time(self.last_callback_at),
            "last_sweep": {family: _time(at) for family, at in self.last_sweep.items()},
            "missed_callbacks": self.missed_callbacks,
            "holds": [{name: hold[name] for name in names} for hold in holds],
            "daemons": [daemon.as_json() for daemon in self.alive_daemons],
        }

    def only(self, accounts: Collection[str]) -> "StatusView":
        """The view with the sweeps of these accounts only."""
        return dataclasses.replace(
            self, sweeps=tuple(sweep for sweep in self.sweeps if sweep.account in accounts)
        )

    def _families(self) -> Iterable[tuple[str, list[SweepView]]]:
        families: dict[str, list[SweepView]] = {}
        for sweep in self.sweeps:
            families.setdefault(sweep.family, []).append(sweep)
        return families.items()


def _time(value: int | None) -> str | None:
    return None if value is None else rfc3339(value)


def _oldest(times: Iterable[int | None]) -> int | None:
    known: list[Any] = list(times)
    return None if None in known else min(known)
