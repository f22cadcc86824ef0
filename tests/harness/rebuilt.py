"""What the tests of `rebuild` share: tasks in a bucket, one run, and what it counted."""

import dataclasses
from typing import Any

from archiver.audit.rebuild import Rebuild, RebuildCounts, RebuildProblem, RebuiltAccount
from archiver.model import Stage
from tests.harness.archived_tasks import ArchivedTask
from tests.harness.fake_store import FakeStore
from tests.harness.ledgers import ACCOUNT, DAY, Desk
from tests.harness.patience import patient

OURS = RebuiltAccount(ACCOUNT, frozenset({ACCOUNT, "former"}), "kling/")


def task(task_id: str = "t", **changed: Any) -> ArchivedTask:
    return ArchivedTask(task_id, prefix="kling/", **changed)


def rebuild(
    desk: Desk, store: FakeStore, *accounts: RebuiltAccount, **options: Any
) -> tuple[RebuildCounts, list[RebuildProblem]]:
    run = Rebuild(patient(store), desk.ledger, accounts or (OURS,), **options)
    problems = list(run.run())
    return run.counts, problems


def counted(counts: RebuildCounts) -> dict[str, Any]:
    """Those that are not 0."""
    return {name: count for name, count in dataclasses.asdict(counts).items() if count}


def unworked(desk: Desk) -> bool:
    """Whether the ledger has no work and no forwards."""
    desk.clock.advance(DAY)
    claimed = desk.claim_all(Stage.VERIFY) + desk.claim_all(Stage.ARCHIVE)
    return (
        not claimed
        and not desk.rows("SELECT id FROM forwards")
        and not desk.rows("SELECT id FROM folder_work")
    )
