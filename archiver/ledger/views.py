"""What `show`, `status`, metrics and readiness read, typed. Times are Unix ms; `as_json` gives the contract's shapes.
Changes nothing."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.daemons import DaemonView, alive_daemons
from archiver.ledger.folder_work.work import amendment_keys
from archiver.ledger.holds import HoldView, all_holds
from archiver.ledger.part import Part
from archiver.ledger.tables import schema
from archiver.ledger.tables.counts import task_counts
from archiver.ledger.tables.named_values import CLOCK_SKEW_MS, LAST_CALLBACK_AT, named_value
from archiver.ledger.tables.rows import find
from archiver.model import DiscoveredBy, State, rfc3339


@dataclasses.dataclass(frozen=True, slots=True)
class AssetView:
    """One file of a task; all but `reason` is None until it is stored."""

    name: str | None
    key: str | None
    bytes: int | None
    sha256: str | None
    reason: str | None
    """Why it is not stored, after a try."""

    @property
    def is_stored(self) -> bool:
        """Whether it is in the bucket."""
        return self.name is not None

    def as_json(self) -> dict[str, object]:
        """As `show --json` prints it."""
        return {
            "name": self.name,
            "key": self.key,
            "stored": self.is_stored,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "reason": self.reason,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class HistoryLine:
    """One event of a task."""

    at: int
    event: str
    detail: str

    def as_json(self) -> dict[str, object]:
        """As `show --json` prints it."""
        return {"at": rfc3339(self.at), "event": self.event, "detail": self.detail}


@dataclasses.dataclass(frozen=True, slots=True)
class TaskView:
    """One task, as people and scripts see it."""

    task_id: str
    account: str
    family: str | None
    external_task_id: str | None
    state: State
    reason: str | None
    message: str | None
    attempts: int
    due_at: int | None
    created_at: int | None
    updated_at: int | None
    expires_at: int
    discovered_by: DiscoveredBy
    callbacks: int
    manifest_key: str | None
    amendment_keys: tuple[str, ...]
    assets: tuple[AssetView, ...]
    history: tuple[HistoryLine, ...]

    def as_json(self) -> dict[str, object]:
        """As `show --json` prints it."""
        return {
            "task_id": self.task_id,
            "account": self.account,
            "family": self.family,
            "external_task_id": self.external_task_id,
            "state": self.state,
            "reason": self.reason,
            "message": self.message,
            "attempts": self.attempts,
            "due_at": _time(self.due_at),
            "created_at": _time(self.created_at),
            "updated_at": _time(self.updated_at),
            "expires_at": _time(self.expires_at),
            "discovered_by": self.discovered_by,
            "callbacks": self.callbacks,
            "manifest_key": self.manifest_key,
            "amendment_keys": list(self.amendment_keys),
            "assets": [asset.as_json() for asset in self.assets],
            "history": [line.as_json() for line in self.history],
        }


@dataclasses.dataclass(frozen=True, slots=True)
class StatusView:
    """The whole ledger at a glance."""

    states: Mapping[State, int]
    """How many tasks are in each state; every state is named."""
    earliest_deadline: int | None
    """Of confirmed tasks that are not in the bucket."""
    last_callback_at: int | None
    last_sweep: Mapping[str, int | None]
    """By family: the oldest of the accounts' last sweeps; None where an account has had none. An alert is about the
    worst."""
    missed_callbacks: Mapping[str, int]
    """By family, of all accounts."""
    holds: tuple[HoldView, ...]
    clock_skew_ms: int | None
    """The API's clock minus ours."""
    daemons: tuple[DaemonView, ...]

    def as_json(self, *, several_accounts: bool) -> dict[str, object]:
        """As `status --json` prints it: of a hold only what scripts may rely on, with its account where there are
        several. `/readyz` tells scripts about the clock."""
        account = ("account",) if several_accounts else ()
        names = (*account, "stage", "reason", "since", "what_to_do")
        holds = [hold.as_json() for hold in self.holds]
        return {
            "states": {state.value: count for state, count in self.states.items()},
            "earliest_deadline": _time(self.earliest_deadline),
            "last_callback_at": _time(self.last_callback_at),
            "last_sweep": {family: _time(at) for family, at in self.last_sweep.items()},
            "missed_callbacks": dict(self.missed_callbacks),
            "holds": [{name: hold[name] for name in names} for hold in holds],
            "daemons": [daemon.as_json() for daemon in self.daemons],
        }


class Views(Part):
    """Reading for people, metrics and readiness."""

    def show(self, task_id: str, *, account: str) -> TaskView | None:
        """One task by id or external id; None when unknown."""
        with self._database.read() as connection:
            row = find(connection, account=account, task_id=task_id)
            if row is None:
                return None
            assets = _of_task(connection, schema.assets, row["id"])
            history = _of_task(connection, schema.history, row["id"])
            amended = amendment_keys(connection, row["id"])
        return TaskView(
            task_id=row["task_id"],
            account=row["account"],
            family=row["family"] or row["family_hint"],
            external_task_id=row["external_task_id"],
            state=State(row["state"]),
            reason=row["reason"],
            message=row["message"],
            attempts=row["attempts"],
            due_at=row["due_at"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            expires_at=row["deadline_at"],
            discovered_by=DiscoveredBy(row["discovered_by"]),
            callbacks=row["callbacks"],
            manifest_key=row["manifest_key"],
            amendment_keys=amended,
            assets=tuple(
                AssetView(asset["name"], asset["key"], asset["bytes"], asset["sha256"], asset["reason"])
                for asset in assets
            ),
            history=tuple(HistoryLine(line["at"], line["event"], line["detail"]) for line in history),
        )

    def status(self, *, accounts: Collection[str] | None = None) -> StatusView:
        """Everything at a glance; of the sweeps only those of `accounts`, where given."""
        sweeps = schema.sweeps
        query = sa.select(sweeps).order_by(sweeps.c.family)
        if accounts is not None:
            query = query.where(sweeps.c.account.in_(accounts))
        with self._database.read() as connection:
            families: dict[str, list[Mapping[Any, Any]]] = {}
            for row in connection.execute(query).mappings():
                families.setdefault(row["family"], []).append(row)
            return StatusView(
                states=_states(connection),
                earliest_deadline=_earliest_deadline(connection),
                last_callback_at=named_value(connection, LAST_CALLBACK_AT),
                last_sweep={family: _last_swept(rows) for family, rows in families.items()},
                missed_callbacks={
                    family: sum(row["missed_callbacks"] for row in rows) for family, rows in families.items()
                },
                holds=all_holds(connection),
                clock_skew_ms=named_value(connection, CLOCK_SKEW_MS),
                daemons=alive_daemons(connection, now=self._now()),
            )

    def ids_in(self, state: State, *, account: str, count_max: int | None = None) -> list[str]:
        """The ids of the tasks in `state`, nearest deadline first."""
        table = schema.tasks
        query = sa.select(table.c.task_id).where(table.c.account == account, table.c.state == state)
        with self._database.read() as connection:
            return list(connection.execute(query.order_by(table.c.deadline_at).limit(count_max)).scalars())


def _time(value: int | None) -> str | None:
    return None if value is None else rfc3339(value)


def _of_task(connection: sa.Connection, table: sa.Table, row_id: int) -> Sequence[sa.RowMapping]:
    query = sa.select(table).where(table.c.task == row_id).order_by(table.c.id)
    return connection.execute(query).mappings().all()


def _last_swept(rows: Sequence[Mapping[Any, Any]]) -> int | None:
    times = [row["last_success_at"] for row in rows]
    return None if None in times else min(times)


def _states(connection: sa.Connection) -> dict[State, int]:
    states = dict.fromkeys(State, 0)
    for kind, count in task_counts(connection).items():
        states[State(kind.state)] += count
    return states


def _earliest_deadline(connection: sa.Connection) -> int | None:
    """One step along an index for each state."""
    table = schema.tasks
    nearest = [
        sa.select(sa.func.min(table.c.deadline_at))
        .where(table.c.state == state, table.c.confirmed_at.is_not(None))
        .scalar_subquery()
        for state in (State.RUNNING, State.SUCCEEDED, State.BURIED)
    ]
    deadlines = connection.execute(sa.select(*nearest)).one()
    return min((deadline for deadline in deadlines if deadline is not None), default=None)
