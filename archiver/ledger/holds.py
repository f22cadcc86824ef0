"""Holds: rows that stop a part of the pipeline. Claims obey them.

A failure of something shared (arrears, a missing bucket) counts at once: the first task that meets it sets a hold. The
hold stops the others and costs none of them an attempt. Probes test it after 2 s, doubling to 30 s, each with another
task; the first success lifts it.

One task may also fail in this way by itself, beside others that succeed. Two hundred of those would set one hold after
the other. So each task that fails in this way is blamed (`tasks.held`). If a blamed task fails so again while no hold
is in force, another task's success has lifted the last hold. Then the failure is the task's own, and it waits by
itself, 30 s doubling to 15 min. The others go on. N such tasks cost the others at most N holds of a few seconds, once.

A real outage that comes and goes may meet only blamed tasks. `doubts` remembers the first failure that was taken for a
task's own, and each success forgets it. Once `DOUBT_SECONDS` have passed without any success, the next such failure
holds: nothing goes on anyway. So an outage is a hold within a minute in this case too.

Looks (engine/looks) set holds as well, without a task, and end the holds that they have set or confirmed. A hold that
only tasks have met is ended by a task: a store may answer every look and refuse every put.

Three exceptions. The hold of a CDN host has the evidence of many tasks already (engine/host_watch.py). A hold that the
sweep sets has no task. Claims of forwards obey the hold of the operator's application (ledger/forwards).

The hold of all hosts that the settings do not list is never tested. No worker probes it, only its own tasks wait, and a
process that takes the account over drops it, because its settings may differ.
"""

import dataclasses
import enum
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import sqlalchemy as sa

from archiver.failures import HOLD_PROBE_SECONDS, UNLISTED_HOSTS, Failure, backoff_ms
from archiver.ledger.databases.dialect import insert_missing, locking
from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema
from archiver.model import Lease, Stage, rfc3339

PROBE_FIRST_SECONDS = 2
DOUBT_SECONDS = 30
NEVER = 2**53
"""The probe time of a hold that no task can test (Unix ms)."""

_ANY = sa.select(schema.holds.c.id).limit(1)
_ANY_DOUBT = sa.select(schema.doubts.c.since).limit(1)

_FORWARDS_WAIT = (
    sa.select(schema.forwards.c.id)
    .where(schema.forwards.c.state == sa.literal_column("'waiting'"), schema.forwards.c.consumer == "")
    .limit(1)
)

_ENDED_BY_TASKS = sa.select(schema.holds).where(
    schema.holds.c.stage != Stage.SWEEP, sa.not_(schema.holds.c.seen_by_look)
)
"""Holds that only a task can end. A sweep waits for no task, and tries by itself."""


@dataclasses.dataclass(frozen=True, slots=True)
class HoldView:
    """One hold. `since` is Unix ms; `family` and `host` are None where the hold covers all of them."""

    account: str
    stage: Stage
    reason: str
    since: int
    what_to_do: str
    message: str
    family: str | None
    host: str | None

    def as_json(self) -> dict[str, object]:
        """As `/readyz` lists it; `status --json` leaves out what only people read."""
        return {
            "account": self.account,
            "stage": self.stage,
            "reason": self.reason,
            "since": rfc3339(self.since),
            "what_to_do": self.what_to_do,
            "message": self.message,
            "family": self.family,
            "host": self.host,
        }


class HoldOutcome(enum.StrEnum):
    """The result of a failure that may hold."""

    NEW = "new"
    CONFIRMED = "confirmed"
    """The hold existed already."""
    OWN = "own"
    """The failure is the task's own, and sets no hold."""


class Holds(Part):
    """Sets and lifts holds. `outcomes.hold` sets one together with the end of a lease."""

    @retried
    def set(self, error: Failure, *, account: str, stage: Stage) -> bool:
        """Stop a stage without a task, for the sweep; True if the hold is new."""
        with self._database.write() as connection:
            return set_hold(connection, error, account=account, stage=stage, now=self._now())

    @retried
    def set_by_look(self, error: Failure, *, account: str, stages: Collection[Stage]) -> list[Stage]:
        """A look has failed: stop these stages as a whole. Returns the stages that were not held before."""
        with self._database.write() as connection:
            now = self._now()
            new = [
                stage
                for stage in stages
                if set_hold(connection, error, account=account, stage=stage, now=now)
            ]
            connection.execute(_whole(sa.update(schema.holds), account, stages).values(seen_by_look=True))
        return new

    @retried
    def release_by_look(self, *, account: str, stages: Collection[Stage]) -> list[tuple[Stage, str]]:
        """A look has succeeded: lift the holds that looks have set or confirmed; the stage and reason of each."""
        table = schema.holds
        disproved = _whole(sa.delete(table), account, stages).where(table.c.seen_by_look)
        with self._database.write() as connection:
            lifted = connection.execute(disproved.returning(table.c.stage, table.c.reason)).all()
            if lifted:
                forget_passed_over(connection, accounts=[account])
        return [(Stage(stage), reason) for stage, reason in lifted]

    @retried
    def release(
        self,
        *,
        account: str,
        stages: tuple[Stage, ...],
        family: str | None,
        reasons: Collection[str] | None = None,
    ) -> list[str]:
        """Work of this account and family succeeded: lift every hold of `stages` that covers it, except those of hosts
        (`release_host`), and every doubt; the reasons of the lifted holds. With `reasons`, only holds of these."""
        holds, doubts = schema.holds, schema.doubts
        families = ["", family or ""]
        with self._database.write() as connection:
            if reasons is None:
                connection.execute(
                    sa.delete(doubts).where(
                        doubts.c.account == account, doubts.c.stage.in_(stages), doubts.c.family.in_(families)
                    )
                )
            disproved = sa.delete(holds).where(
                holds.c.account == account,
                holds.c.stage.in_(stages),
                holds.c.family.in_(families),
                holds.c.host == "",
            )
            if reasons is not None:
                disproved = disproved.where(holds.c.reason.in_(reasons))
            lifted = list(connection.execute(disproved.returning(holds.c.reason)).scalars())
            if lifted:
                forget_passed_over(connection, accounts=[account])
            return lifted

    @retried
    def release_host(self, *, account: str, host: str, reasons: Collection[str]) -> list[str]:
        """A file, or an answer about one, came from `host`: lift its holds of these reasons; the reasons lifted."""
        table = schema.holds
        disproved = sa.delete(table).where(
            table.c.account == account,
            table.c.stage == Stage.ARCHIVE,
            table.c.host == host,
            table.c.reason.in_(reasons),
        )
        with self._database.write() as connection:
            return list(connection.execute(disproved.returning(table.c.reason)).scalars())

    @retried
    def drop_idle(self) -> list[HoldView]:
        """Drop holds for which no task is left, unless a look has confirmed them: nothing would ever lift them. If the
        cause lasts, a later task sets the hold again."""
        with self._database.read() as connection:
            idle = [
                (row["id"], _view(row))
                for row in connection.execute(_ENDED_BY_TASKS).mappings()
                if not _has_tasks(connection, row)
            ]
        if not idle:
            return []
        with self._database.write() as connection:
            dropped = sa.delete(schema.holds).where(schema.holds.c.id.in_([row_id for row_id, _ in idle]))
            connection.execute(dropped)
            forget_passed_over(connection, accounts={view.account for _, view in idle})
        return [view for _, view in idle]

    def is_stopped(self, *, account: str, stage: Stage) -> bool:
        """Whether a hold stops all of this stage."""
        with self._database.read() as connection:
            return connection.execute(stops_stage(account, stage)).first() is not None

    def is_held(self, *, account: str, stage: Stage, family: str) -> bool:
        """Whether a hold stops this stage for this family."""
        table = schema.holds
        query = sa.select(table.c.id).where(
            table.c.account == account, table.c.stage == stage, table.c.family.in_(["", family])
        )
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def any(self) -> bool:
        """Whether there is a hold at all."""
        with self._database.read() as connection:
            return connection.execute(_ANY).first() is not None

    def are_disprovable(self) -> bool:
        """Whether there is a hold or a doubt that a success may end."""
        with self._database.read() as connection:
            return any(connection.execute(query).first() is not None for query in (_ANY, _ANY_DOUBT))

    def all(self) -> tuple[HoldView, ...]:
        """Every hold, the oldest first."""
        with self._database.read() as connection:
            return all_holds(connection)


def stops_stage(account: str, stage: Stage) -> sa.Select[int]:
    """A hold that stops all of this stage."""
    return _whole(sa.select(schema.holds.c.id), account, [stage]).limit(1)


def set_hold(connection: sa.Connection, error: Failure, *, account: str, stage: Stage, now: int) -> bool:
    """Stop `stage` of `account` (one family or host only, where `error` names one). True when the hold is new.

    A hold that exists already keeps its `since` and takes the newest reason.
    """
    table = schema.holds
    family, host = error.family or "", error.host or ""
    same = (
        table.c.account == account,
        table.c.stage == stage,
        table.c.family == family,
        table.c.host == host,
    )
    why = {"reason": error.reason, "message": str(error), "what_to_do": error.what_to_do}
    if connection.execute(sa.update(table).where(*same).values(why)).rowcount:
        return False
    row = {
        "account": account,
        "stage": stage,
        "family": family,
        "host": host,
        "since": now,
        "probe_at": now + PROBE_FIRST_SECONDS * 1000 if error.is_probed else NEVER,
    }
    if connection.execute(insert_missing(connection, table).values({**row, **why})).rowcount:
        return True
    connection.execute(sa.update(table).where(*same).values(why))  # another process has set it meanwhile
    return False


def covering(lease: Lease, *, family: str | None, host: str | None) -> list[sa.ColumnElement[bool]]:
    """Conditions for the holds that stop work of this family on this host, at the lease's stage and account."""
    table = schema.holds
    return [
        table.c.account == lease.account,
        table.c.stage == lease.stage,
        table.c.family.in_({"", family or ""}),
        table.c.host.in_({"", host or ""}),
    ]


def next_probe_at(connection: sa.Connection, lease: Lease, *, host: str | None, now: int) -> int:
    """When the holds that stop this task on `host` are probed next; now, where none does.

    If the task was their probe, that is set here: 2 s after the last one ended, doubling to 30 s.
    """
    table = schema.holds
    conditions = covering(lease, family=lease.family or lease.family_hint, host=host)
    due = [now]
    holds = locking(connection, sa.select(table).where(*conditions), table)
    for hold in connection.execute(holds).mappings().all():
        probe_at: int = hold["probe_at"]
        if probe_at == NEVER:
            continue  # its tasks are due, and wait in their claim group
        if lease.is_probe:
            probe_at = now + probe_wait_ms(hold["probes"])
            connection.execute(sa.update(table).where(table.c.id == hold["id"]).values(probe_at=probe_at))
        due.append(probe_at)
    return max(due)


def probe_wait_ms(probes: int) -> int:
    """The wait after this many probes in a row."""
    return backoff_ms(probes + 1, rand=1, first_seconds=PROBE_FIRST_SECONDS, seconds_max=HOLD_PROBE_SECONDS)


def is_own_failure(connection: sa.Connection, lease: Lease, error: Failure, *, blamed: int, now: int) -> bool:
    """Whether a failure that would hold is the task's own (module docstring). `blamed`: `tasks.held`."""
    if not blamed or error.host:
        return False
    held = sa.select(schema.holds.c.id).where(*covering(lease, family=error.family, host=None))
    if connection.execute(held.limit(1)).first() is not None:
        return False
    return not _is_shared(connection, lease, error.family or "", now=now)


def _is_shared(connection: sa.Connection, lease: Lease, family: str, *, now: int) -> bool:
    """Note the doubt; whether nothing has succeeded for `DOUBT_SECONDS` since it arose."""
    table = schema.doubts
    same = (table.c.account == lease.account, table.c.stage == lease.stage, table.c.family == family)
    since: int | None = connection.execute(sa.select(table.c.since).where(*same)).scalar_one_or_none()
    if since is None:
        row = {"account": lease.account, "stage": lease.stage, "family": family, "since": now}
        connection.execute(insert_missing(connection, table), row)
        return False
    # Also true if the clock was set back: a superfluous hold is probed within 2 s.
    return abs(now - since) >= DOUBT_SECONDS * 1000


def judge_anew(connection: sa.Connection, *, account: str) -> None:
    """A process begins to ask for the account, perhaps with other settings: drop the holds that only other settings can
    end. If the cause lasts, a task sets the hold again."""
    table = schema.holds
    connection.execute(sa.delete(table).where(table.c.account == account, table.c.probe_at == NEVER))


def forget_passed_over(connection: sa.Connection, *, accounts: Collection[str]) -> None:
    """Holds of these accounts are gone: claims look for their ids from the front again."""
    table = schema.passed_over
    connection.execute(sa.delete(table).where(table.c.account.in_(accounts)))


def all_holds(connection: sa.Connection) -> tuple[HoldView, ...]:
    """Every hold, the oldest first."""
    table = schema.holds
    rows = connection.execute(sa.select(table).order_by(table.c.since, table.c.id)).mappings()
    return tuple(_view(row) for row in rows)


def _view(row: Mapping[Any, Any]) -> HoldView:
    return HoldView(
        account=row["account"],
        stage=Stage(row["stage"]),
        reason=row["reason"],
        since=row["since"],
        what_to_do=row["what_to_do"],
        message=row["message"],
        family=row["family"] or None,
        host=None if row["host"] in ("", UNLISTED_HOSTS) else row["host"],
    )


def _has_tasks(connection: sa.Connection, hold: Mapping[Any, Any]) -> bool:
    """Whether any task, or the folder of one, waits for what the hold stops. A read: it may walk the account's part of
    a queue."""
    if hold["stage"] == Stage.FORWARD:
        return connection.execute(_FORWARDS_WAIT).first() is not None
    table = schema.tasks
    waiting = sa.select(table.c.id).where(table.c.account == hold["account"]).limit(1)
    if hold["stage"] == Stage.ARCHIVE and not hold["host"] and not hold["family"]:
        work = schema.folder_work
        if connection.execute(waiting.join(work, work.c.task == table.c.id)).first() is not None:
            return True
    if hold["host"]:
        waiting = waiting.where(table.c.asset_host == hold["host"])
    if hold["family"]:
        waiting = waiting.where(sa.func.coalesce(table.c.family, table.c.family_hint) == hold["family"])
    return any(
        connection.execute(waiting.where(table.c.queue == queue)).first() is not None
        for queue in schema.STAGE_QUEUES[Stage(hold["stage"])]
    )


_Statement = TypeVar("_Statement", sa.Select[Any], sa.Update, sa.Delete)


def _whole(statement: _Statement, account: str, stages: Collection[Stage]) -> _Statement:
    """`statement`, restricted to holds that stop one of these stages as a whole."""
    table = schema.holds
    return statement.where(
        table.c.account == account, table.c.stage.in_(stages), table.c.family == "", table.c.host == ""
    )
