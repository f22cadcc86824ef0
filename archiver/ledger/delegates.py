"""The calls of `Ledger` as they were before it had parts, until every caller takes a part."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from archiver.failures import Bury, Failure, Hold, Retry
from archiver.ledger.accounts import Accounts
from archiver.ledger.callbacks import Callbacks
from archiver.ledger.claims import Claims, PendingCounts
from archiver.ledger.daemons import Daemons
from archiver.ledger.deadlines import Deadlines, Expiry
from archiver.ledger.holds import Holds
from archiver.ledger.outcomes import Outcomes
from archiver.ledger.records import KnownState, RecordedTask, Records
from archiver.ledger.registrations import ExistingTask, Registrations, RetryResult
from archiver.ledger.sweeps import SweepMemory, Sweeps
from archiver.ledger.tables.named_values import Availability
from archiver.ledger.views import Views
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


class CallableHolds(Holds):
    """`ledger.holds()`."""

    def __call__(self) -> list[dict[str, Any]]:
        return [hold.as_json() for hold in self.all()]


class CallableAccounts(Accounts):
    """`ledger.accounts()`."""

    def __call__(self) -> list[str]:
        return self.names()


class CallableDaemons(Daemons):
    """`ledger.daemons()`."""

    def __call__(self) -> list[dict[str, Any]]:
        return [daemon.as_json() for daemon in self.alive()]


class Delegates:
    """Each does what the method of the same kind does in its part."""

    callbacks: Callbacks
    registrations: Registrations
    claims: Claims
    records: Records
    outcomes: Outcomes
    holds: CallableHolds
    sweeps: Sweeps
    availability: Availability
    deadlines: Deadlines
    daemons: CallableDaemons
    accounts: CallableAccounts
    views: Views

    def ping(self) -> None:
        self.daemons.ping()

    def record_callbacks(self, notifications: Sequence[Callback]) -> list[CallbackOutcome]:
        return self.callbacks.record(notifications)

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
        return self.registrations.register(
            task_id,
            account=account,
            family=family,
            external_task_id=external_task_id,
            request=request,
            created_at=created_at,
        )

    def known(self, task_id: str, *, account: str) -> ExistingTask | None:
        return self.registrations.known(task_id, account=account)

    def withdraw(self, task_id: str, *, account: str) -> bool:
        return self.registrations.withdraw(task_id, account=account)

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
        return self.records.record(
            tasks, account=account, discovered_by=by, rand=rand, asked_as=asked_as, behind_ms=behind_ms
        )

    def enrol(self, found: Mapping[str, Sequence[str]], *, account: str) -> int:
        return self.registrations.enrol(found, account=account)

    def claim_archive(
        self, *, count: int, offset: int, account: str, hosts_avoided: Collection[str] = ()
    ) -> list[Lease]:
        return self.claims.archive(account=account, count=count, offset=offset, hosts_avoided=hosts_avoided)

    def claim_verify(
        self,
        *,
        count: int,
        offset: int,
        account: str,
        due_before: int | None = None,
        own_paths_only: bool = False,
    ) -> list[Lease]:
        return self.claims.verify(
            account=account,
            count=count,
            offset=offset,
            due_before=due_before,
            own_paths_only=own_paths_only,
        )

    def claim_batch(self, *, count: int, account: str, due_before: int | None = None) -> list[Lease]:
        return self.claims.batch(account=account, count=count, due_before=due_before)

    def work_due(self, stage: Stage, *, account: str) -> bool:
        return self.claims.any_due(stage, account=account)

    def renew(self, leases: Sequence[Lease]) -> set[int]:
        return self.claims.renew(leases)

    def assets(self, lease: Lease) -> tuple[LeasedAsset, ...] | None:
        return self.claims.assets(lease)

    def refresh_assets(self, lease: Lease, task: Task) -> None:
        self.records.refresh_assets(lease, task)

    def give_back(self, lease: Lease) -> None:
        self.outcomes.give_back(lease)

    def retry(
        self,
        lease: Lease,
        error: Exception,
        decision: Retry,
        *,
        stored: Sequence[StoredAsset] = (),
        failed: Mapping[str, Exception] | None = None,
    ) -> None:
        self.outcomes.retry(lease, error, decision, stored=stored, failed=failed)

    def hold(
        self, lease: Lease, error: Failure, decision: Hold, *, stored: Sequence[StoredAsset] = ()
    ) -> bool:
        return self.outcomes.hold(lease, error, decision, stored=stored)

    def bury(
        self,
        lease: Lease,
        error: Failure,
        decision: Bury,
        *,
        stored: Sequence[StoredAsset] = (),
        failed: Mapping[str, Exception] | None = None,
    ) -> None:
        self.outcomes.bury(lease, error, decision, stored=stored, failed=failed)

    def not_found(self, lease: Lease, *, rand: float) -> State:
        return self.outcomes.not_found(lease, rand=rand)

    def archived(
        self, lease: Lease, *, manifest_key: str, archived_at: int, stored: Sequence[StoredAsset]
    ) -> None:
        self.outcomes.archived(lease, manifest_key=manifest_key, archived_at=archived_at, stored=stored)

    def waiting(self, *, account: str, most: int) -> PendingCounts:
        return self.claims.pending(account=account, rows_max=most)

    def query_individually(self, *, account: str, family: str | None, due_before: int) -> int:
        return self.claims.query_individually(account=account, family=family, due_before=due_before)

    def settled(self, *, account: str, task_ids: Sequence[str]) -> dict[str, State]:
        return self.records.states(account=account, task_ids=task_ids)

    def standings(self, *, account: str, task_ids: Sequence[str]) -> dict[str, KnownState]:
        return self.records.known_states(account=account, task_ids=task_ids)

    def unoffered(self, *, account: str) -> dict[str, int]:
        return self.availability.unavailable(account=account)

    def note_offer(self, *, account: str, name: str, lacking_at: int | None) -> None:
        self.availability.note(account=account, name=name, unavailable_at=lacking_at)

    def sweep_memory(self, *, account: str, family: str) -> SweepMemory:
        return self.sweeps.memory(account=account, family=family)

    def sweep_begin(self, *, account: str, family: str) -> str | None:
        return self.sweeps.begin(account=account, family=family)

    def sweep_renew(self, token: str) -> bool:
        return self.sweeps.renew(token)

    def sweep_end(
        self, token: str, *, succeeded_at: int | None, full: bool, oldest_first: bool, last_page: int | None
    ) -> None:
        self.sweeps.end(
            token, succeeded_at=succeeded_at, full=full, oldest_first=oldest_first, last_page=last_page
        )

    def set_hold(self, error: Failure, *, account: str, stage: Stage) -> bool:
        return self.holds.set(error, account=account, stage=stage)

    def release_holds(
        self, *, account: str, stages: tuple[Stage, ...], family: str | None, host: str | None = None
    ) -> list[str]:
        return self.holds.release(account=account, stages=stages, family=family, host=host)

    def is_held(self, *, account: str, stage: Stage, family: str) -> bool:
        return self.holds.is_held(account=account, stage=stage, family=family)

    def has_holds(self) -> bool:
        return self.holds.any()

    def expire(self, *, but: Collection[str] = ()) -> list[Expiry]:
        return self.deadlines.expire(except_accounts=but)

    def prune(self, *, by_age: bool = True) -> int:
        return self.deadlines.prune(by_age=by_age)

    def bring_forward(self) -> int:
        return self.deadlines.bring_forward()

    def count_missed(self, *, patience_ms: int) -> dict[tuple[str, str], int]:
        return self.deadlines.count_missed(patience_ms=patience_ms)

    def beat(
        self, daemon_id: str, *, version: str, started_at: int, clock_skew_ms: int | None = None
    ) -> None:
        self.daemons.beat(daemon_id, version=version, started_at=started_at, clock_skew_ms=clock_skew_ms)

    def leave(self, daemon_id: str) -> None:
        self.daemons.leave(daemon_id)

    def stranded(self, *, known: Collection[str]) -> dict[str, int]:
        return self.accounts.stranded(known=known)

    def forget_holds(self, *, known: Collection[str]) -> None:
        self.accounts.forget_holds(known=known)

    def rename_account(self, old: str, new: str) -> int | None:
        return self.accounts.rename(old, new)

    def show(self, task_id: str, *, account: str) -> dict[str, Any] | None:
        task = self.views.show(task_id, account=account)
        return None if task is None else task.as_json()

    def status(self, *, accounts: Collection[str] | None = None) -> dict[str, Any]:
        status = self.views.status(accounts=accounts)
        skew_ms = status.clock_skew_ms
        return {
            **status.as_json(several_accounts=True),
            "holds": [hold.as_json() for hold in status.holds],
            "clock_skew_seconds": None if skew_ms is None else skew_ms / 1000,
        }

    def retry_tasks(self, task_ids: Sequence[str], *, account: str) -> RetryResult:
        return self.registrations.retry(task_ids, account=account)

    def ids_in(self, state: State, *, account: str, most: int | None = None) -> list[str]:
        return self.views.ids_in(state, account=account, count_max=most)

    def first_started_at(self) -> int | None:
        return self.daemons.first_started_at()
