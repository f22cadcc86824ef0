"""The ways in which the lease on a task ends."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.failures import (
    FRESH_MS_MAX,
    AssetHostUnlisted,
    Bury,
    Failure,
    LeaseLost,
    Retry,
    lost_due,
    reason_of,
    sentence_of,
)
from archiver.ledger.databases.dialect import lock_row
from archiver.ledger.folder_work.queueing import (
    all_assets_accounted_for,
    drop_incomplete,
    queue_missing,
)
from archiver.ledger.folder_work.work import save_amendment_keys
from archiver.ledger.holds import HoldOutcome, is_own_failure, next_probe_at, set_hold
from archiver.ledger.outcomes.failed import (
    buried,
    fresh_columns,
    host_columns,
    own_failure,
    queue_if_finally_lost,
    save_failed,
    unread_columns,
)
from archiver.ledger.outcomes.fencing import NOT_WANTED, RELEASED, write
from archiver.ledger.outcomes.not_found import GRACE_MS, UNCERTAIN_GRACE_MS, still_unknown
from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema, set_aside
from archiver.ledger.tables.archived import TASK_LEFT, lacking_columns, slim_assets
from archiver.ledger.tables.forwards import ForwardEvent, queue_forwards
from archiver.ledger.tables.history import add_line, trim
from archiver.ledger.tables.second_looks import LOOK_AFTER_MS, queue_look
from archiver.ledger.tables.stored import save_stored
from archiver.ledger.transitions import buried_again, still_failed, still_running
from archiver.model import Lease, State, StoredAsset, text


class Outcomes(Part):
    """The ways in which a lease ends. All raise LeaseLost."""

    @retried
    def give_back(self, lease: Lease) -> None:
        """Nothing was done (a shutdown, a full pool): due at once, attempt not counted."""
        attempts = schema.tasks.c.attempts - 1
        with self._database.write() as connection:
            write(connection, lease, {**RELEASED, "due_at": self._now(), "attempts": attempts})

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

        A lost task keeps its slow rhythm; a buried or failed one keeps its reason. An unconfirmed id that the API shows
        in words that cannot be read is confirmed, and runs.
        """
        with self._database.write() as connection:
            now = self._now()
            due_at: int | None = decision.due_at
            if lease.state is State.LOST:
                due_at = lost_due(now=now, deadline=lease.deadline_at)
            reason, message = reason_of(error), text(sentence_of(error, failed or {}))
            values: dict[str, Any] = {**RELEASED, "due_at": due_at, "held": 0, "query_individually": False}
            if lease.state not in (State.BURIED, State.FAILED):
                values |= {"reason": reason, "message": message}
            values |= host_columns(lease, error) | fresh_columns(lease, values)
            values = unread_columns(connection, lease, error, now=now) | values
            write(connection, lease, values)
            if lease.is_probe:  # the probe showed nothing about the hold
                next_probe_at(connection, lease, host=lease.asset_host, now=now)
            add_line(connection, lease.row_id, at=now, event="task.retried", detail=f"{reason}: {message}")
            trim(connection, lease.row_id)
            save_stored(connection, lease.row_id, stored)
            save_failed(connection, lease, failed or {}, now=now)
            queue_if_finally_lost(connection, lease, values, now=now)

    @retried
    def hold(
        self,
        lease: Lease,
        error: Failure,
        *,
        stored: Sequence[StoredAsset] = (),
        failed: Mapping[str, Exception] | None = None,
        for_all: bool = True,
    ) -> HoldOutcome:
        """Set or confirm a hold because of this task, whose attempt does not count; it is due with the next probe. Not
        `for_all`, the hold is of this process alone and stands elsewhere: the task is for other processes.

        Unless the failure is the task's own (`holds`): then it is retried after 30 s, doubling to 15 min.
        """
        table = schema.tasks
        with self._database.write() as connection:
            now = self._now()
            query = sa.select(table.c.held).where(table.c.id == lease.row_id)
            blamed: int = connection.execute(query).scalar_one_or_none() or 0
            values: dict[str, Any] = {**RELEASED, "held": blamed + 1}
            if is_own_failure(connection, lease, error, blamed=blamed, now=now):
                outcome = HoldOutcome.OWN
                values |= own_failure(lease, error, now=now)
                detail = f"{error.reason}: {error}"
                add_line(connection, lease.row_id, at=now, event="task.retried", detail=text(detail))
                trim(connection, lease.row_id)
            else:
                is_new = for_all and set_hold(
                    connection, error, account=lease.account, stage=lease.stage, now=now
                )
                outcome = HoldOutcome.NEW if is_new else HoldOutcome.CONFIRMED
                due_at = next_probe_at(connection, lease, host=error.host or lease.asset_host, now=now)
                values |= {"due_at": due_at, "attempts": table.c.attempts - 1}
                if not error.is_probed:  # it may wait for long, and `show` must say for what
                    values |= {"reason": error.reason, "message": text(str(error))}
            values |= host_columns(lease, error) | fresh_columns(lease, values)
            write(connection, lease, values)
            save_stored(connection, lease.row_id, stored)
            save_failed(connection, lease, failed or {}, now=now)
            queue_if_finally_lost(connection, lease, values, now=now)
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
            message = text(sentence_of(error, failed or {}))
            values = buried(lease, error, decision, message=message, now=now)
            write(connection, lease, {**values, **host_columns(lease, error), **NOT_WANTED})
            if lease.is_probe:  # the probe showed nothing about the hold
                next_probe_at(connection, lease, host=lease.asset_host, now=now)
            detail = f"{error.reason}: {message}"
            add_line(connection, lease.row_id, at=now, event="task.buried", detail=detail)
            trim(connection, lease.row_id)
            save_stored(connection, lease.row_id, stored)
            save_failed(connection, lease, failed or {}, now=now)
            queue_if_finally_lost(connection, lease, values, now=now)

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
            reason, message = reason_of(error), text(sentence_of(error, failed or {}))
            values: dict[str, Any] = {
                **RELEASED,
                "due_at": now + FRESH_MS_MAX,
                "fresh_wanted_at": now,
                "fresh_due_at": now,
                "held": 0,
                "reason": reason,
                "message": message,
            }
            if not isinstance(error, AssetHostUnlisted):  # its other files are to be tried again
                values |= host_columns(lease, error)
            write(connection, lease, values)
            add_line(connection, lease.row_id, at=now, event="task.retried", detail=f"{reason}: {message}")
            trim(connection, lease.row_id)
            save_stored(connection, lease.row_id, stored)
            save_failed(connection, lease, failed or {}, now=now)

    @retried
    def refreshed(self, lease: Lease, *, got_urls: bool) -> None:
        """The API has answered the query for fresh URLs: the archive stage tries again.

        A lost task of which the API names no file keeps its slow rhythm.
        """
        with self._database.write() as connection:
            now = self._now()
            due_at: int | None = now
            if lease.state is State.LOST and not got_urls:
                due_at = lost_due(now=now, deadline=lease.deadline_at)
            values = {**RELEASED, **NOT_WANTED, "due_at": due_at, "fresh_asked_at": now, "attempts": 1}
            write(connection, lease, values)
            queue_if_finally_lost(connection, lease, values, now=now)

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
                write(connection, lease, still_failed(now=now))
            elif state is State.BURIED:
                write(connection, lease, buried_again(now=now, deadline=lease.deadline_at))
            elif lease.confirmed:
                write(connection, lease, still_running(row, now=now, rand=rand))
            else:
                grace_ms = GRACE_MS if is_certain else UNCERTAIN_GRACE_MS
                return still_unknown(connection, lease, row, grace_ms=grace_ms, now=now, rand=rand)
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
        is_adopted: bool = False,
        external_task_id: str | None = None,
        request: Mapping[str, object] | None = None,
        updated_at: int | None = None,
    ) -> None:
        """The manifest is in the bucket. After a crash before this commit, the next attempt adopts it (`is_adopted`):
        the last three are what it says, for a row that lacks them.

        `stored` is what it and its amendments name, all of it in the bucket. A manifest is final: what the API has
        named beyond it becomes an amendment in this transaction. The statement itself refuses to archive a task with
        an asset that is neither stored nor to be amended.
        """
        values = {
            **RELEASED,
            "state": State.ARCHIVED,
            "queue": None,
            "due_at": None,
            "reason": None,
            "message": None,
            "manifest_key": manifest_key,
            "archived_at": archived_at,
            **TASK_LEFT,
            **NOT_WANTED,
            **set_aside.SEEN,
            **lacking_columns(external_task_id=external_task_id, request=request, updated_at=updated_at),
        }
        with self._database.write() as connection:
            now = self._now()
            # Every transaction takes locks in this order: the task's row, then its assets.
            lock_row(connection, schema.tasks, lease.row_id)
            save_stored(connection, lease.row_id, stored)
            documented = {asset.stem for asset in stored}
            is_whole = not queue_missing(connection, lease.row_id, documented=documented, now=now)
            queue_forwards(  # before the row loses the API's document
                connection,
                schema.tasks.c.id == lease.row_id,
                ForwardEvent.ARCHIVED,
                now=now,
                stems=documented,
                adopted_from=archived_at if is_adopted else None,
            )
            write(connection, lease, values, only_if=all_assets_accounted_for(lease.row_id))
            drop_incomplete(connection, lease.row_id)
            add_line(connection, lease.row_id, at=now, event="task.archived", detail=manifest_key)
            save_amendment_keys(connection, lease.row_id, amendment_keys, now=now)
            queue_look(connection, lease.row_id, account=lease.account, due_at=now + LOOK_AFTER_MS)
            if is_whole:
                slim_assets(connection, [lease.row_id])
