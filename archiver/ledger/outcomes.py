"""How a lease ends. Every write is fenced: it names the row *and* the lease's token.

Where no row matches, `LeaseLost` undoes the transaction: a worker that was paused for an hour changes nothing.
"""

import enum
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.failures import (
    FRESH_MS_MAX,
    HOLD_PROBE_SECONDS,
    RETRY_SECONDS_MAX,
    AssetGone,
    AssetHostUnlisted,
    Bury,
    Failure,
    LeaseLost,
    Retry,
    TaskNotFound,
    backoff_ms,
    lost_due,
    reason_of,
)
from archiver.ledger.databases.dialect import lock_row
from archiver.ledger.folder_work.queueing import (
    all_assets_accounted_for,
    drop_incomplete,
    queue_incomplete,
    queue_missing,
)
from archiver.ledger.folder_work.work import save_amendment_keys
from archiver.ledger.holds import is_own_failure, next_probe_at, set_hold
from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema, set_aside
from archiver.ledger.tables.archived import TASK_LEFT, slim_assets
from archiver.ledger.tables.counts import Kind, Tally
from archiver.ledger.tables.history import add_line, trim
from archiver.ledger.tables.stored import save_stored
from archiver.ledger.transitions import buried_again, still_failed, still_running
from archiver.model import DAY_MS, Lease, Stage, State, StoredAsset, text

GRACE_MS = 10 * 60 * 1000
"""How long the API may not know an id, from the first definite not-found, before the id is `unknown`."""
UNCERTAIN_GRACE_MS = DAY_MS
"""The same where nothing shows that the API answers well: a gateway may be at fault."""

_RELEASED: Mapping[str, Any] = {"lease_token": None, "lease_until": None}

_NOT_WANTED: Mapping[str, Any] = {"fresh_wanted_at": None, "fresh_due_at": None}


@functools.cache
def _fenced(columns: frozenset[str]) -> sa.Update:
    """Write `columns` of a leased row from parameters `new_<column>`. Cached for the reason that `claims` gives: there
    are a dozen sets of columns."""
    table = schema.tasks
    return (
        sa.update(table)
        .where(table.c.id == sa.bindparam("task_row"), table.c.lease_token == sa.bindparam("token"))
        .where(table.c.state == sa.bindparam("leased_state"))
        .values({name: sa.bindparam(f"new_{name}") for name in columns})
    )


class HoldOutcome(enum.StrEnum):
    """What came of a failure that holds."""

    NEW = "new"
    CONFIRMED = "confirmed"
    """There was such a hold already."""
    OWN = "own"
    """It is the task's own failure: no hold."""


class Outcomes(Part):
    """The ways in which a lease ends. All raise LeaseLost."""

    @retried
    def give_back(self, lease: Lease) -> None:
        """Nothing was done (a shutdown, a full pool): due at once, attempt not counted."""
        attempts = schema.tasks.c.attempts - 1
        with self._database.write() as connection:
            _write(connection, lease, {**_RELEASED, "due_at": self._now(), "attempts": attempts})

    @retried
    def retry(
        self,
        lease: Lease,
        error: Exception,
        decision: Retry,
        *,
        stored: Sequence[StoredAsset] = (),
        failed: Mapping[str, Exception] | None = None,
    ) -> None:
        """Try the task again at `decision.due_at`; `stored` and `failed` (by stem) are the assets of this attempt.

        A lost task keeps its slow rhythm; a buried or failed one keeps its reason.
        """
        with self._database.write() as connection:
            now = self._now()
            due_at: int | None = decision.due_at
            if lease.state is State.LOST:
                due_at = lost_due(now=now, deadline=lease.deadline_at)
            reason, message = reason_of(error), text(str(error))
            values: dict[str, Any] = {**_RELEASED, "due_at": due_at, "held": 0, "query_individually": False}
            if lease.state not in (State.BURIED, State.FAILED):
                values |= {"reason": reason, "message": message}
            values |= _host_columns(lease, error) | _fresh_columns(lease, values)
            _write(connection, lease, values)
            if lease.is_probe:  # it said nothing about the hold
                next_probe_at(connection, lease, host=lease.asset_host, now=now)
            add_line(connection, lease.row_id, at=now, event="task.retried", detail=f"{reason}: {message}")
            trim(connection, lease.row_id)
            save_stored(connection, lease.row_id, stored)
            _save_failed(connection, lease, failed or {}, now=now)
            _queue_if_finally_lost(connection, lease, values, now=now)

    @retried
    def hold(
        self,
        lease: Lease,
        error: Failure,
        *,
        stored: Sequence[StoredAsset] = (),
        failed: Mapping[str, Exception] | None = None,
    ) -> HoldOutcome:
        """Set or confirm a hold because of this task, whose attempt does not count; it is due with the next probe.

        Unless the failure is the task's own (`holds`): then it is retried after 30 s, doubling to 15 min.
        """
        table = schema.tasks
        with self._database.write() as connection:
            now = self._now()
            query = sa.select(table.c.held).where(table.c.id == lease.row_id)
            blamed: int = connection.execute(query).scalar_one_or_none() or 0
            values: dict[str, Any] = {**_RELEASED, "held": blamed + 1}
            if is_own_failure(connection, lease, error, blamed=blamed, now=now):
                outcome = HoldOutcome.OWN
                values |= _own_failure(lease, error, now=now)
                detail = f"{error.reason}: {error}"
                add_line(connection, lease.row_id, at=now, event="task.retried", detail=text(detail))
                trim(connection, lease.row_id)
            else:
                is_new = set_hold(connection, error, account=lease.account, stage=lease.stage, now=now)
                outcome = HoldOutcome.NEW if is_new else HoldOutcome.CONFIRMED
                due_at = next_probe_at(connection, lease, host=error.host or lease.asset_host, now=now)
                values |= {"due_at": due_at, "attempts": table.c.attempts - 1}
                if not error.is_probed:  # it may wait for long, and `show` must say for what
                    values |= {"reason": error.reason, "message": text(str(error))}
            values |= _host_columns(lease, error) | _fresh_columns(lease, values)
            _write(connection, lease, values)
            save_stored(connection, lease.row_id, stored)
            _save_failed(connection, lease, failed or {}, now=now)
            _queue_if_finally_lost(connection, lease, values, now=now)
            return outcome

    @retried
    def bury(
        self,
        lease: Lease,
        error: Failure,
        decision: Bury,
        *,
        stored: Sequence[StoredAsset] = (),
        failed: Mapping[str, Exception] | None = None,
    ) -> None:
        """Set the task aside with its reason.

        A lost task stays lost, and is not tried again if it is gone upstream. A failed one that was retried stays
        failed.
        """
        with self._database.write() as connection:
            now = self._now()
            message = text(str(error))
            values = _buried(lease, error, decision, message=message, now=now)
            _write(connection, lease, {**values, **_host_columns(lease, error), **_NOT_WANTED})
            if lease.is_probe:  # it said nothing about the hold
                next_probe_at(connection, lease, host=lease.asset_host, now=now)
            detail = f"{error.reason}: {message}"
            add_line(connection, lease.row_id, at=now, event="task.buried", detail=detail)
            trim(connection, lease.row_id)
            save_stored(connection, lease.row_id, stored)
            _save_failed(connection, lease, failed or {}, now=now)
            _queue_if_finally_lost(connection, lease, values, now=now)

    @retried
    def want_fresh(
        self,
        lease: Lease,
        error: Exception,
        *,
        stored: Sequence[StoredAsset] = (),
        failed: Mapping[str, Exception] | None = None,
    ) -> None:
        """The task's URLs do not work: verification asks the API for others. After `FRESH_MS_MAX` without its word the
        archive stage tries the old ones again."""
        with self._database.write() as connection:
            now = self._now()
            reason, message = reason_of(error), text(str(error))
            values: dict[str, Any] = {
                **_RELEASED,
                "due_at": now + FRESH_MS_MAX,
                "fresh_wanted_at": now,
                "fresh_due_at": now,
                "held": 0,
                "reason": reason,
                "message": message,
            }
            if not isinstance(error, AssetHostUnlisted):  # its other files are to be tried again
                values |= _host_columns(lease, error)
            _write(connection, lease, values)
            add_line(connection, lease.row_id, at=now, event="task.retried", detail=f"{reason}: {message}")
            trim(connection, lease.row_id)
            save_stored(connection, lease.row_id, stored)
            _save_failed(connection, lease, failed or {}, now=now)

    @retried
    def refreshed(self, lease: Lease, *, got_urls: bool) -> None:
        """The API has answered the question for fresh URLs: the archive stage tries again.

        A lost task of which the API names no file keeps its slow rhythm.
        """
        with self._database.write() as connection:
            now = self._now()
            due_at: int | None = now
            if lease.state is State.LOST and not got_urls:
                due_at = lost_due(now=now, deadline=lease.deadline_at)
            values = {**_RELEASED, **_NOT_WANTED, "due_at": due_at, "fresh_asked_at": now, "attempts": 1}
            _write(connection, lease, values)
            _queue_if_finally_lost(connection, lease, values, now=now)

    @retried
    def not_found(self, lease: Lease, *, rand: float, is_certain: bool = True) -> State:
        """The API does not know this id; the state that the task is in now.

        `is_certain`: it said so as documented, or in other words while it answered other questions well. Else it takes
        `UNCERTAIN_GRACE_MS`.

        A confirmed task does not become unknown: its row may vanish upstream before its results do
        (archiver/kling/API.md 5.2). An unconfirmed one is queried again after 2, 4, 8 … 120 s, until `GRACE_MS`.
        """
        with self._database.write() as connection:
            now = self._now()
            query = sa.select(schema.tasks).where(schema.tasks.c.id == lease.row_id)
            row = connection.execute(query).mappings().first()
            if row is None:
                raise LeaseLost(f"task {lease.task_id} is gone from the ledger")
            state = State(row["state"])
            if state is State.FAILED:
                _write(connection, lease, still_failed(now=now))
            elif state is State.BURIED:
                _write(connection, lease, buried_again(now=now, deadline=lease.deadline_at))
            elif lease.confirmed:
                _write(connection, lease, still_running(row, now=now, rand=rand))
            else:
                grace_ms = GRACE_MS if is_certain else UNCERTAIN_GRACE_MS
                return _still_unknown(connection, lease, row, grace_ms=grace_ms, now=now, rand=rand)
            return state

    @retried
    def archived(
        self,
        lease: Lease,
        *,
        manifest_key: str,
        archived_at: int,
        stored: Sequence[StoredAsset],
        amendment_keys: Sequence[str] = (),
    ) -> None:
        """The manifest is in the bucket. After a crash before this commit, the next attempt adopts it.

        `stored` is what it and its amendments name, all of it in the bucket. A manifest is final: what the API has
        named beyond it becomes an amendment in this transaction. The statement itself refuses to archive a task with
        an asset that is neither stored nor to be amended.
        """
        values = {
            **_RELEASED,
            "state": State.ARCHIVED,
            "queue": None,
            "due_at": None,
            "reason": None,
            "message": None,
            "manifest_key": manifest_key,
            "archived_at": archived_at,
            **TASK_LEFT,
            **_NOT_WANTED,
            **set_aside.SEEN,
        }
        with self._database.write() as connection:
            now = self._now()
            # First of all, as every transaction takes them: the task's row, then its assets.
            lock_row(connection, schema.tasks, lease.row_id)
            save_stored(connection, lease.row_id, stored)
            documented = {asset.stem for asset in stored}
            is_whole = not queue_missing(connection, lease.row_id, documented=documented, now=now)
            _write(connection, lease, values, only_if=all_assets_accounted_for(lease.row_id))
            drop_incomplete(connection, lease.row_id)
            add_line(connection, lease.row_id, at=now, event="task.archived", detail=manifest_key)
            save_amendment_keys(connection, lease.row_id, amendment_keys, now=now)
            if is_whole:
                slim_assets(connection, [lease.row_id])


def _write(
    connection: sa.Connection,
    lease: Lease,
    values: Mapping[str, Any],
    *,
    only_if: sa.ColumnElement[bool] | None = None,
) -> None:
    """Write columns of the leased row. Raises LeaseLost."""
    plain = {name: value for name, value in values.items() if not isinstance(value, sa.ColumnElement)}
    computed = {name: value for name, value in values.items() if name not in plain}
    statement = _fenced(frozenset(plain))
    if computed:
        statement = statement.values(computed)
    if only_if is not None:
        statement = statement.where(only_if)
    parameters = {f"new_{name}": value for name, value in plain.items()}
    parameters |= {"task_row": lease.row_id, "token": lease.token, "leased_state": lease.state}
    if connection.execute(statement, parameters).rowcount != 1:
        raise LeaseLost(f"task {lease.task_id} is no longer ours")
    if "state" in values:
        tally = Tally()
        tally.move(_kind(lease), _kind(lease)._replace(state=values["state"]))
        tally.write(connection)


def _queue_if_finally_lost(
    connection: sa.Connection, lease: Lease, values: Mapping[str, Any], *, now: int
) -> None:
    if lease.state is State.LOST and values["due_at"] is None:
        queue_incomplete(connection, lease.row_id, now=now)


def _kind(lease: Lease) -> Kind:
    return Kind(lease.account, lease.state, lease.confirmed)


def _host_columns(lease: Lease, error: Exception) -> dict[str, Any]:
    """The task waits for the host that failed, and was tried there."""
    host = error.host if isinstance(error, Failure) else None
    if lease.stage is not Stage.ARCHIVE or not host:
        return {}
    return {"asset_host": host, "host_tried": True}


def _fresh_columns(lease: Lease, values: Mapping[str, Any]) -> dict[str, Any]:
    """Verification could not ask for fresh URLs: it asks again when `values` say, and the archive stage waits on."""
    if lease.stage is not Stage.VERIFY or lease.fresh_wanted_at is None:
        return {}
    return {"fresh_due_at": values["due_at"], "due_at": lease.fresh_wanted_at + FRESH_MS_MAX}


def _own_failure(lease: Lease, error: Failure, *, now: int) -> dict[str, Any]:
    """A failure that is no hold: 30 s doubling to 15 min. What is lost or buried keeps its rhythm or its reason."""
    if lease.state is State.LOST:
        return {"due_at": lost_due(now=now, deadline=lease.deadline_at)}
    wait = backoff_ms(lease.attempt, rand=1, first_seconds=HOLD_PROBE_SECONDS, seconds_max=RETRY_SECONDS_MAX)
    if lease.state in (State.BURIED, State.FAILED):
        return {"due_at": now + wait}
    return {"due_at": now + wait, "reason": error.reason, "message": text(str(error))}


def _buried(lease: Lease, error: Failure, decision: Bury, *, message: str, now: int) -> Mapping[str, Any]:
    if lease.state is State.FAILED:
        return still_failed(now=now)
    values = {**_RELEASED, "held": 0, "reason": error.reason, "message": message, "asked_at": now}
    if lease.state is State.LOST:
        gone = error.reason == AssetGone.reason
        return values | {"due_at": None if gone else lost_due(now=now, deadline=lease.deadline_at)}
    return values | {
        "state": State.BURIED,
        "queue": schema.QUEUE_VERIFY if lease.confirmed else schema.QUEUE_UNCONFIRMED,
        "due_at": decision.due_at,
        "query_individually": True,
        **set_aside.buried_in_sql(reason=error.reason, now=now),
    }


def _still_unknown(
    connection: sa.Connection,
    lease: Lease,
    row: Mapping[Any, Any],
    *,
    grace_ms: int,
    now: int,
    rand: float,
) -> State:
    since, asked = row["not_found_since"] or now, row["asked"] + 1
    message = "the API does not know this id"
    values = {
        **_RELEASED,
        "not_found_since": since,
        "asked_at": now,
        "asked": asked,
        "attempts": 0,
        "held": 0,
        "reason": TaskNotFound.reason,
        "message": message,
    }
    if now - since < grace_ms:
        # Past the short grace only one that may yet be a gateway's bad hour is left: rarely, but the same day.
        seconds_max = 120 if now - since < GRACE_MS else 3600
        due_at = now + backoff_ms(asked, rand=rand, first_seconds=2, seconds_max=seconds_max)
        _write(connection, lease, {**values, "due_at": due_at, "query_individually": False})
        return State(row["state"])
    if lease.is_console_test:
        # It named no real task. If it was a genuine callback after all, the next one or the sweep brings the id back.
        table = schema.tasks
        fenced = sa.delete(table).where(table.c.id == lease.row_id, table.c.lease_token == lease.token)
        fenced = fenced.where(table.c.state == lease.state)
        if connection.execute(fenced).rowcount != 1:
            raise LeaseLost(f"task {lease.task_id} is no longer ours")
        tally = Tally()
        tally.remove([_kind(lease)])
        tally.write(connection)
        return State.UNKNOWN
    # No list page has shown it: from now on it is queried individually, once a day.
    unknown = {"state": State.UNKNOWN, "due_at": now + DAY_MS, "query_individually": True}
    _write(connection, lease, {**values, **unknown})
    if row["state"] != State.UNKNOWN:
        add_line(connection, lease.row_id, at=now, event="task.not_found", detail=message)
        trim(connection, lease.row_id)
    return State.UNKNOWN


def _save_failed(
    connection: sa.Connection, lease: Lease, failed: Mapping[str, Exception], *, now: int
) -> None:
    """Record why an asset (by stem) failed. A body that only the completeness check refused leaves its digest: if the
    same bytes come an hour later, upstream has no others."""
    table = schema.assets
    for stem, error in failed.items():
        where = (table.c.task == lease.row_id, table.c.stem == stem)
        reason = reason_of(error)
        since = sa.case((table.c.reason == reason, table.c.failing_since), else_=now)
        connection.execute(sa.update(table).where(*where).values(reason=reason, failing_since=since))
        sha256 = getattr(error, "sha256", None)
        if sha256 is not None:
            first = sa.or_(table.c.incomplete_sha256.is_(None), table.c.incomplete_sha256 != sha256)
            statement = sa.update(table).where(*where, first)
            connection.execute(statement.values(incomplete_sha256=sha256, incomplete_at=now))
