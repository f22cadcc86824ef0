"""Loops outlive unexpected errors; a loop that ends all the same ends the process."""

import dataclasses
import threading
from collections.abc import Callable

import pytest

from archiver.failures import (
    LedgerUnavailable,
)
from archiver.leases import LeaseKeeper
from archiver.model import Callback, Lease, Stage, Status
from tests.harness.engine import ACCOUNT, FAMILY, Died, Engine
from tests.harness.journal import Journal
from tests.harness.running_engine import PATIENCE_SECONDS, Running


def test_a_task_that_crashes_its_stage_is_retried_and_the_others_go_on(running: Running) -> None:
    running.engine.effects.plan["list"] = (False, ZeroDivisionError("a mistake of ours"))
    (crashing,) = running.called_back()
    running.journal.wait("task.retried", task_id=crashing, reason="unexpected")
    (other,) = running.called_back()
    running.wait_archived(other)

    assert "ZeroDivisionError" in running.journal.find("task.retried", task_id=crashing)[0]["exception"]
    running.advance(seconds=5)
    running.wait_archived(crashing)


def test_work_for_which_no_thread_can_be_had_is_given_back_and_costs_no_attempt(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = running.worker.archive_loop.pool  # what a system without threads to give does to it
    start, refused = pool.run, threading.Event()

    def run(work: Callable[[Lease], None], lease: Lease) -> None:
        if not refused.is_set():
            refused.set()
            raise RuntimeError("can't start new thread")
        start(work, lease)

    monkeypatch.setattr(pool, "run", run)
    ids = running.called_back(3)
    running.wait_archived(*ids)

    assert refused.is_set()
    assert {line["attempt"] for line in running.journal.find("task.archived")} == {1}


@pytest.mark.parametrize("stage", [Stage.VERIFY, Stage.ARCHIVE])
@pytest.mark.parametrize(
    ("error", "event"),
    [(ZeroDivisionError("x"), "worker.crashed"), (LedgerUnavailable("x"), "ledger.unavailable")],
)
def test_a_step_that_fails_does_not_end_its_loop(
    engine: Engine, journal: Journal, stage: Stage, error: Exception, event: str
) -> None:
    run = Running(engine, journal)
    run.ledger.questions.plan[f"any_due {stage}"] = (False, error)
    task_id = engine.sim.create_task(status="succeed")
    engine.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, FAMILY)])
    run.worker.start()
    journal.wait(event, loop=f"{stage}-loop")

    run.wait_archived(task_id)
    assert not run.died.is_set()
    assert run.worker.stop(seconds=PATIENCE_SECONDS)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it is what is tested
@pytest.mark.parametrize("stage", [Stage.VERIFY, Stage.ARCHIVE])
def test_a_loop_that_ends_all_the_same_ends_the_process(
    engine: Engine, journal: Journal, stage: Stage
) -> None:
    run = Running(engine, journal)
    run.ledger.questions.plan[f"any_due {stage}"] = (False, Died())
    run.worker.start()

    assert run.died.wait(PATIENCE_SECONDS)
    journal.wait("worker.crashed", loop=f"{stage}-loop", level="critical")
    run.worker.stop(seconds=PATIENCE_SECONDS)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it is what is tested
def test_a_renewal_that_ends_ends_the_process(engine: Engine, journal: Journal) -> None:
    class Broken(LeaseKeeper):
        def renew(self) -> None:
            raise Died

    engine.stages = dataclasses.replace(engine.stages, keeper=Broken(engine.ledger))
    run = Running(engine, journal, renew_seconds=0)
    run.worker.start()

    assert run.died.wait(PATIENCE_SECONDS)
    run.worker.stop(seconds=PATIENCE_SECONDS)
