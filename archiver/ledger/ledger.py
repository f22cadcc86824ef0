"""The ledger: the only module that executes SQL. Every public method of `Ledger` is one transaction.

Two promises:

1. When a writing method returns, what it did is on the disk (SQLite WAL, `synchronous=FULL`). When it raises,
   nothing of it happened. `LedgerUnavailable` means "not now": locked, full, read-only.
2. Whatever ends a lease is fenced by the lease's token; `LeaseLost` means that somebody else has the task now.

The package, in the order of a task's life: `callbacks` (and registrations), `claims` (leases), `records` (the API's
word; the only way into a confirmed state), `outcomes` (how a lease ends), `holds`, `sweeps`, `deadlines` (what time
alone does), `views` (what people ask). `schema` repeats the state machine as CHECKs, `databases.sqlite` says when what
is fsynced.

The parts take a connection and never open one, so that a transaction's limits stand here and nowhere else.
The price is a facade of one-line methods; it buys that "one public method, one transaction" is visible.
"""

import dataclasses
import os
import platform
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Self

import sqlalchemy as sa

from archiver.failures import Bury, Failure, Hold, Retry
from archiver.ledger import (
    accounts,
    callbacks,
    claims,
    deadlines,
    holds,
    outcomes,
    records,
    schema,
    sweeps,
    views,
)
from archiver.ledger.databases.sqlite import (
    BUSY_SECONDS,
    Connections,
    open_file,
)
from archiver.ledger.deadlines import Expiry
from archiver.ledger.history import note
from archiver.ledger.migrations import upgrade
from archiver.ledger.named_values import (
    CLOCK_SKEW_MS,
    FIRST_STARTED_AT,
    fact,
    forget_fact,
    note_offer,
    set_fact,
    unoffered,
)
from archiver.ledger.records import RecordedTask
from archiver.ledger.sweeps import SweepMemory
from archiver.ledger.views import ExistingTask, KnownState, PendingCounts
from archiver.model import (
    Callback,
    CallbackOutcome,
    DiscoveredBy,
    Lease,
    LeasedAsset,
    Stage,
    State,
    StoredAsset,
    Task,
)


def unix_ms() -> int:
    """Now, in Unix ms: the clock of ledger and engine, unless a test gives another."""
    return time.time_ns() // 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class RetryResult:
    """What `retry_tasks` did: how many will be asked for again, the ids that nobody knows, and those that are
    left alone because they are in the bucket."""

    retried: int
    not_known: tuple[str, ...]
    archived: tuple[str, ...]


class Ledger:
    """One ledger file. Thread-safe. `now` gives Unix ms and is read once per transaction."""

    def __init__(
        self,
        connections: Connections,
        *,
        now: Callable[[], int],
        unconfirmed_max: int = deadlines.UNCONFIRMED_MAX,
    ) -> None:
        self._connections = connections
        self._now = now
        self._unconfirmed_most = unconfirmed_max

    @classmethod
    def open(
        cls,
        url: str,
        *,
        daemon: bool,
        create: bool = True,
        busy_seconds: float = BUSY_SECONDS,
        unconfirmed_max: int = deadlines.UNCONFIRMED_MAX,
        now: Callable[[], int] = unix_ms,
    ) -> Self:
        """Open (and where needed create and migrate) the ledger that `url` (`sqlite:///…`) names.

        A daemon locks the file against other daemons and frees every lease that a dead one has left.
        Raises LedgerUnusable with a sentence for the operator (LedgerMissing where there is no file and
        `create` is off), LedgerUnavailable when it is busy.
        """
        path = open_file(url, create=create)
        connections = Connections(path, daemon=daemon, busy_seconds=busy_seconds)
        try:
            with connections.write() as connection:
                upgrade.migrate(connection, path=path)
                if daemon:
                    claims.free_all(connection, now=now())
                    sweeps.free_all(connection)
                    _note_first_start(connection, now=now())
        except BaseException:
            connections.close()
            raise
        return cls(connections, now=now, unconfirmed_max=unconfirmed_max)

    def close(self) -> None:
        """Close the file; every lease that is still out ends by itself."""
        self._connections.close()

    def ping(self) -> None:
        """Prove that a transaction can begin and commit; raises LedgerUnavailable."""
        with self._connections.write() as connection:
            connection.execute(
                sa.update(schema.facts)
                .where(schema.facts.c.name == FIRST_STARTED_AT)
                .values(name=FIRST_STARTED_AT)
            )

    # --- what arrives ---------------------------------------------------------------------------------

    def record_callbacks(self, notifications: Sequence[Callback]) -> list[CallbackOutcome]:
        """Write callbacks down, durably; what each one was. One fsync for all of them."""
        with self._connections.write() as connection:
            return callbacks.record_callbacks(connection, notifications, now=self._now())

    def register(
        self,
        task_id: str,
        *,
        account: str,
        family: str,
        external_task_id: str | None = None,
        request: Mapping[str, object] | None = None,
        created_at: int | None = None,
    ) -> bool:
        """Follow this id (or external id) from now on; True when it was new. `created_at` (Unix ms) is when whoever
        registers it has created it."""
        with self._connections.write() as connection:
            return callbacks.register(
                connection,
                account=account,
                task_id=task_id,
                family=family,
                external_task_id=external_task_id,
                request=request,
                created_at=created_at,
                now=self._now(),
            )

    def known(self, task_id: str, *, account: str) -> ExistingTask | None:
        """What is known of an id or external id that somebody may have registered; None when nothing is."""
        with self._connections.read() as connection:
            return views.known(connection, account=account, task_id=task_id)

    def withdraw(self, task_id: str, *, account: str) -> bool:
        """Take a registration back that nothing has ever confirmed, under the very id it was made with; whether
        there was one. Only for whoever made it and knows that the task was never created."""
        with self._connections.write() as connection:
            return callbacks.withdraw(connection, account=account, task_id=task_id)

    def record(
        self,
        tasks: Sequence[Task],
        *,
        account: str,
        by: DiscoveredBy,
        rand: float,
        asked_as: str | None = None,
        behind_ms: int = 0,
    ) -> list[RecordedTask]:
        """Take the API's word for at most 500 tasks. The one path into every confirmed state.

        `behind_ms`: by how much the API's clock is behind ours, where the age of a task decides.
        """
        with self._connections.write() as connection:
            return records.record(
                connection,
                tasks,
                account=account,
                by=by,
                now=self._now(),
                rand=rand,
                asked_as=asked_as,
                behind_ms=behind_ms,
            )

    def enrol(self, found: Mapping[str, Sequence[str]], *, account: str) -> int:
        """Ask for these ids (with the arrays that their tasks fill) now, under families that must be found out; how
        many were new. At most 500 a call. What the API has confirmed is left alone."""
        with self._connections.write() as connection:
            return callbacks.enrol(connection, found, account=account, now=self._now())

    # --- leases ---------------------------------------------------------------------------------------

    def claim_archive(
        self, *, count: int, offset: int, hosts_avoided: Collection[str] = (), account: str | None = None
    ) -> list[Lease]:
        """Lease up to `count` succeeded tasks (of `account`; None for all); `offset` is the number of the first slot
        (lanes go by it)."""
        with self._connections.write() as connection:
            return claims.claim_archive(
                connection,
                count=count,
                offset=offset,
                now=self._now(),
                hosts_avoided=hosts_avoided,
                account=account,
            )

    def claim_verify(
        self,
        *,
        count: int,
        offset: int,
        due_before: int | None = None,
        own_paths_only: bool = False,
        account: str | None = None,
    ) -> list[Lease]:
        """Lease up to `count` ids (of `account`; None for all) to ask for singly; ids that the API has confirmed go
        first.

        With `due_before` (Unix ms), only what was due by then: what came since, a list page may answer for. With
        `own_paths_only`, what `claim_batch` leases is left to it.
        """
        with self._connections.write() as connection:
            now = self._now()
            return claims.claim_verify(
                connection,
                count=count,
                offset=offset,
                now=now,
                due_before=now if due_before is None else due_before,
                own_paths_only=own_paths_only,
                account=account,
            )

    def claim_batch(
        self, *, count: int, due_before: int | None = None, account: str | None = None
    ) -> list[Lease]:
        """Lease up to `count` ids that one question for many may answer: those that are read at `/tasks` or
        `/solutions`, and those whose family is not known, or was not the right one. All of them confirmed by the API,
        or none."""
        with self._connections.write() as connection:
            now = self._now()
            due_before = now if due_before is None else due_before
            return claims.claim_batch(
                connection, count=count, now=now, due_before=due_before, account=account
            )

    def work_due(self, stage: Stage, *, account: str | None = None) -> bool:
        """Whether anything of `stage` (of `account`; None for all) might be claimable: a read, so that an idle loop
        never writes."""
        with self._connections.read() as connection:
            return views.work_due(
                connection,
                stage=stage,
                queues=claims.STAGE_QUEUES[stage],
                now=self._now(),
                account=account,
            )

    def renew(self, leases: Sequence[Lease]) -> set[int]:
        """Renew leases; the row ids of those that still hold."""
        with self._connections.write() as connection:
            return claims.renew(connection, leases, now=self._now())

    def assets(self, lease: Lease) -> tuple[LeasedAsset, ...] | None:
        """The task's assets as the ledger has them now, which may be more and fresher than the lease's; None when the
        lease is no longer the row's. Changes nothing."""
        with self._connections.read() as connection:
            return claims.assets_if_leased(connection, lease)

    def refresh_assets(self, lease: Lease, task: Task) -> None:
        """A leased task was asked for once more: its URLs are fresher, assets may have come, none ever goes."""
        with self._connections.write() as connection:
            records.unite_assets(connection, lease.row_id, task.assets)

    # --- how a lease ends (all raise LeaseLost) --------------------------------------------------------

    def give_back(self, lease: Lease) -> None:
        """Nothing was done; due at once, attempt not counted."""
        with self._connections.write() as connection:
            outcomes.give_back(connection, lease, now=self._now())

    def retry(
        self,
        lease: Lease,
        error: Exception,
        decision: Retry,
        *,
        stored: Sequence[StoredAsset] = (),
        failed: Mapping[str, Exception] | None = None,
    ) -> None:
        """This task again, later; what was stored of it meanwhile is kept."""
        with self._connections.write() as connection:
            outcomes.retry(connection, lease, error, decision, now=self._now())
            outcomes.save_stored(connection, lease, stored)
            outcomes.save_failed(connection, lease, failed or {}, now=self._now())

    def hold(
        self, lease: Lease, error: Failure, decision: Hold, *, stored: Sequence[StoredAsset] = ()
    ) -> bool:
        """A part of the pipeline stops, set off by this task. True when the hold is new."""
        with self._connections.write() as connection:
            now = self._now()
            is_new = holds.set_hold(connection, error, account=lease.account, stage=lease.stage, now=now)
            outcomes.hold(connection, lease, decision, is_new=is_new, now=now)
            outcomes.save_stored(connection, lease, stored)
            return is_new

    def bury(
        self,
        lease: Lease,
        error: Failure,
        decision: Bury,
        *,
        stored: Sequence[StoredAsset] = (),
        failed: Mapping[str, Exception] | None = None,
    ) -> None:
        """Set this task aside with its reason; its other assets are saved already."""
        with self._connections.write() as connection:
            outcomes.bury(connection, lease, error, decision, now=self._now())
            outcomes.save_stored(connection, lease, stored)
            outcomes.save_failed(connection, lease, failed or {}, now=self._now())

    def not_found(self, lease: Lease, *, rand: float) -> State:
        """The API definitely does not know this id; the state it is in now."""
        with self._connections.write() as connection:
            return outcomes.not_found(connection, lease, now=self._now(), rand=rand)

    def archived(
        self, lease: Lease, *, manifest_key: str, archived_at: int, stored: Sequence[StoredAsset]
    ) -> None:
        """The manifest is in the bucket: done."""
        with self._connections.write() as connection:
            outcomes.archived(
                connection, lease, manifest_key=manifest_key, archived_at=archived_at, now=self._now()
            )
            outcomes.save_stored(connection, lease, stored)

    # --- list matching, sweep ---------------------------------------------------------------------------

    def waiting(self, *, account: str, most: int) -> PendingCounts:
        """How many due ids wait to be asked for, counting `most` of a kind."""
        with self._connections.read() as connection:
            return views.waiting(connection, account=account, now=self._now(), most=most)

    def query_individually(self, *, account: str, family: str | None, due_before: int) -> int:
        """Mark ids of `family` that were due before `due_before` (Unix ms) and that no page has shown: how many.

        At most 500 a call.
        """
        with self._connections.write() as connection:
            return claims.query_individually(
                connection, account=account, family=family, due_before=due_before
            )

    def settled(self, *, account: str, task_ids: list[str]) -> dict[str, State]:
        """Which of these ids the ledger has, and in which state."""
        with self._connections.read() as connection:
            return views.settled_ids(connection, account=account, task_ids=task_ids)

    def standings(self, *, account: str, task_ids: Sequence[str]) -> dict[str, KnownState]:
        """How far the ledger knows these ids (at most 500); those it does not have are left out."""
        with self._connections.read() as connection:
            return views.standings(connection, account=account, task_ids=task_ids)

    def unoffered(self, *, account: str) -> dict[str, int]:
        """What the account's API was found not to offer, and when last (Unix ms)."""
        with self._connections.read() as connection:
            return unoffered(connection, account=account)

    def note_offer(self, *, account: str, name: str, lacking_at: int | None) -> None:
        """Write down since when (Unix ms) the API does not offer `name`; None: it does."""
        with self._connections.write() as connection:
            note_offer(connection, account=account, name=name, lacking_at=lacking_at)

    def sweep_memory(self, *, account: str, family: str) -> SweepMemory:
        """What earlier sweeps of this family have found out."""
        with self._connections.read() as connection:
            return sweeps.memory(connection, account=account, family=family)

    def sweep_begin(self, *, account: str, family: str) -> str | None:
        """Take the family for this sweeper: a token, or None while another one has it."""
        with self._connections.write() as connection:
            return sweeps.begin(connection, account=account, family=family, now=self._now())

    def sweep_renew(self, token: str) -> bool:
        """Keep the family; False when somebody else has it now."""
        with self._connections.write() as connection:
            return sweeps.renew(connection, token, now=self._now())

    def sweep_end(
        self, token: str, *, succeeded_at: int | None, full: bool, oldest_first: bool, last_page: int | None
    ) -> None:
        """Give the family back, remembering what was found out where the sweep went through."""
        with self._connections.write() as connection:
            sweeps.end(
                connection,
                token,
                succeeded_at=succeeded_at,
                full=full,
                oldest_first=oldest_first,
                last_page=last_page,
            )

    # --- holds ------------------------------------------------------------------------------------------

    def set_hold(self, error: Failure, *, account: str, stage: Stage) -> bool:
        """Stop a stage where no task is at hand (the sweep); True when the hold is new."""
        with self._connections.write() as connection:
            return holds.set_hold(connection, error, account=account, stage=stage, now=self._now())

    def release_holds(
        self, *, account: str, stages: tuple[Stage, ...], family: str | None, host: str | None = None
    ) -> list[str]:
        """Something succeeded: the holds that covered it go; their reasons."""
        with self._connections.write() as connection:
            return holds.release(connection, account=account, stages=stages, family=family, host=host)

    def is_held(self, *, account: str, stage: Stage, family: str) -> bool:
        """Whether a hold stops this stage for this family."""
        with self._connections.read() as connection:
            return holds.is_held(connection, account=account, stage=stage, family=family)

    def holds(self) -> list[dict[str, Any]]:
        """Every hold, as `status --json` prints it."""
        with self._connections.read() as connection:
            return views.holds(connection)

    def has_holds(self) -> bool:
        """Whether there is any hold at all."""
        with self._connections.read() as connection:
            return holds.any_hold(connection)

    # --- what time alone does -----------------------------------------------------------------------------

    def expire(self, *, but: Collection[str] = ()) -> list[Expiry]:
        """Pass the deadline's verdict on a batch of tasks, `but` not on those of these accounts."""
        with self._connections.write() as connection:
            return deadlines.expire(connection, now=self._now(), but=but)

    def prune(self, *, by_age: bool = True) -> int:
        """Drop a batch of ids that were never confirmed and are too old (`by_age`: the clock can be trusted) or too
        many; how many, 0 when none is.

        What there is to drop is looked for in a read: counting a million rows must not keep callbacks waiting.
        """
        with self._connections.read() as connection:
            ids = deadlines.prunable(
                connection, now=self._now() if by_age else 0, most=self._unconfirmed_most
            )
        if not ids:
            return 0
        with self._connections.write() as connection:
            return deadlines.prune(connection, ids)

    def bring_forward(self) -> int:
        """Make due what waits for a time that only a clock which was set back since can have named: how many tasks,
        holds and sweeps, 0 when none."""
        with self._connections.read() as connection:
            late = deadlines.ahead(connection, now=self._now())
        if late:
            with self._connections.write() as connection:
                deadlines.bring_forward(connection, late, now=self._now())
        return len(late.tasks) + len(late.holds) + len(late.sweeps)

    def count_missed(self, *, patience_ms: int) -> dict[tuple[str, str], int]:
        """Callbacks that never came, since the last call: {(account, family): how many}."""
        with self._connections.write() as connection:
            first = fact(connection, FIRST_STARTED_AT)
            return deadlines.count_missed(
                connection, now=self._now(), patience_ms=patience_ms, first_started_at=first or 0
            )

    def beat(
        self, daemon_id: str, *, version: str, started_at: int, clock_skew_ms: int | None = None
    ) -> None:
        """Say that this daemon is alive (`status` lists those seen within a minute), and how far the API's clock is
        ahead of its own, where it has heard it."""
        with self._connections.write() as connection:
            if clock_skew_ms is None:
                forget_fact(connection, CLOCK_SKEW_MS)
            else:
                set_fact(connection, CLOCK_SKEW_MS, clock_skew_ms)
            table, now = schema.daemons, self._now()
            statement = sa.update(table).where(table.c.id == daemon_id).values(seen_at=now)
            if connection.execute(statement).rowcount == 0:
                row = {"id": daemon_id, "host": platform.node(), "pid": os.getpid(), "version": version}
                connection.execute(sa.insert(table).values(**row, started_at=started_at, seen_at=now))
                connection.execute(sa.delete(table).where(table.c.seen_at < now - views.DAEMON_SEEN_MS))

    def leave(self, daemon_id: str) -> None:
        """This daemon has ended in good order."""
        with self._connections.write() as connection:
            connection.execute(sa.delete(schema.daemons).where(schema.daemons.c.id == daemon_id))

    # --- accounts ---------------------------------------------------------------------------------------

    def accounts(self) -> list[str]:
        """The names of the accounts that this ledger knows."""
        with self._connections.read() as connection:
            return accounts.names(connection)

    def stranded(self, *, known: Collection[str]) -> dict[str, int]:
        """Accounts beside those `known`: how many tasks of theirs wait, for nobody."""
        with self._connections.read() as connection:
            return accounts.stranded(connection, known=known)

    def forget_holds(self, *, known: Collection[str]) -> None:
        """Drop the holds of all accounts but those `known`."""
        with self._connections.write() as connection:
            accounts.forget_holds(connection, known=known)

    def rename_account(self, old: str, new: str) -> int | None:
        """Give everything of `old` to the name `new`; how many tasks, or None where there is no `old`, or a `new`
        already: two accounts never become one. Only for who has opened the ledger as a daemon does."""
        with self._connections.write() as connection:
            names = accounts.names(connection)
            if old not in names or new in names:
                return None
            return accounts.rename(connection, old, new)

    # --- what people ask ------------------------------------------------------------------------------------

    def show(self, task_id: str, *, account: str) -> dict[str, Any] | None:
        """One task by id or external id as `show --json` prints it; None when unknown."""
        with self._connections.read() as connection:
            return views.show(connection, account=account, task_id=task_id)

    def status(self, *, accounts: Collection[str] | None = None) -> dict[str, Any]:
        """Everything at a glance, as `status --json` prints it; of the sweeps only those of `accounts`, where given."""
        with self._connections.read() as connection:
            return views.status(connection, now=self._now(), accounts=accounts)

    def daemons(self) -> list[dict[str, Any]]:
        """Those that were seen within a minute, as `status --json` prints them: cheap enough to ask again and again."""
        with self._connections.read() as connection:
            return views.daemons(connection, now=self._now())

    def retry_tasks(self, task_ids: Sequence[str], *, account: str) -> RetryResult:
        """Ask the API afresh for these ids or external ids, now (at most 500 a transaction, so at most 500 a
        call)."""
        with self._connections.write() as connection:
            now = self._now()
            found = {
                task_id: claims.ask_again(connection, account=account, task_id=task_id, now=now)
                for task_id in task_ids
            }
        archived = tuple(task_id for task_id, state in found.items() if state is State.ARCHIVED)
        not_known = tuple(task_id for task_id, state in found.items() if state is None)
        return RetryResult(len(found) - len(archived) - len(not_known), not_known, archived)

    def ids_in(self, state: State, *, account: str, most: int | None = None) -> list[str]:
        """The ids of the tasks in `state`, nearest deadline first; all of them, or `most`."""
        with self._connections.read() as connection:
            return views.ids_in(connection, account=account, state=state, most=most)

    def first_started_at(self) -> int | None:
        """When a daemon first worked on this ledger (Unix ms); None when none ever has."""
        with self._connections.read() as connection:
            return fact(connection, FIRST_STARTED_AT)

    def note(self, lease: Lease, *, event: str, detail: str) -> None:
        """Add a line to a task's history."""
        with self._connections.write() as connection:
            note(connection, lease.row_id, at=self._now(), event=event, detail=detail)


def _note_first_start(connection: sa.Connection, *, now: int) -> None:
    if fact(connection, FIRST_STARTED_AT) is None:
        set_fact(connection, FIRST_STARTED_AT, now)


def new_daemon_id() -> str:
    """A name for one run of a daemon, unique among all of them."""
    return uuid.uuid4().hex
