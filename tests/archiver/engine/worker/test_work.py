"""The worker takes work from callback to manifest, and goes on by itself after hosts, store or API have failed."""

import threading

import pytest

from archiver.engine.host_watch import DOWN_IN_A_ROW, REFUSED_IN_A_ROW
from archiver.failures import (
    BucketMissing,
    HostDown,
    LedgerUnavailable,
)
from archiver.model import Callback, DiscoveredBy, Stage, Status
from tests.harness.engine import ACCOUNT, FAMILY, Engine
from tests.harness.journal import Journal
from tests.harness.running_engine import OTHER_FAMILY, PATIENCE_SECONDS, SLOTS, Gate, Running
from tests.simulator import faults


def test_a_callback_becomes_objects_and_a_manifest(running: Running) -> None:
    task_id = running.sim.create_task(images=2, watermark=True)
    running.sim.succeed(task_id)
    running.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, FAMILY)])
    running.worker.wake(Stage.VERIFY)

    running.wait_archived(task_id)
    running.engine.assert_archived(task_id)


def test_a_sweep_finds_a_task_without_a_callback(engine: Engine, journal: Journal) -> None:
    task_id = engine.sim.create_task(family=OTHER_FAMILY, status="succeed")
    run = Running(engine, journal)
    run.worker.start()

    run.wait_archived(task_id)
    assert run.worker.stop(seconds=PATIENCE_SECONDS)
    assert engine.show(task_id)["discovered_by"] == DiscoveredBy.SWEEP


def test_many_ids_that_only_tasks_knows_are_queried_together(running_by_api_key: Running) -> None:
    run = running_by_api_key
    ids = [run.sim.create_task(family="tasks/video", status="succeed") for _ in range(50)]
    run.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, None) for task_id in ids])
    run.worker.wake(Stage.VERIFY)
    run.wait_archived(*ids)

    for task_id in ids:
        run.engine.assert_archived(task_id, "tasks/video")
    assert run.sim.requests["tasks"] == 3
    assert run.sim.requests["query"] == 0


def test_an_outage_of_tasks_delays_each_id_and_ends_by_itself(running_by_api_key: Running) -> None:
    run = running_by_api_key
    run.sim.fault("tasks", faults.server_error())
    ids = [run.sim.create_task(family="tasks/image", status="succeed") for _ in range(3)]
    run.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, None) for task_id in ids])
    run.worker.wake(Stage.VERIFY)
    for task_id in ids:
        run.journal.wait("task.retried", task_id=task_id, reason="api_server_error")
    run.sim.clear_faults()
    run.advance(seconds=60)
    run.wait_archived(*ids)

    assert [run.engine.show(task_id)["family"] for task_id in ids] == ["tasks/image"] * 3


def test_a_failing_host_gets_a_quarter_of_the_slots(running: Running) -> None:
    running.sim.fault("cdn", faults.Raw(500), times=1)
    (failing,) = running.called_back()
    running.journal.wait("task.retried", task_id=failing)
    gate = Gate(running.sim)
    others = running.called_back(SLOTS)
    running.ledger.wait_idle()

    assert len(running.engine.keeper.held()) == SLOTS // 4
    gate.open()
    running.wait_archived(*others)
    running.advance(seconds=60)
    running.wait_archived(failing)


def test_a_host_without_an_answer_to_five_tasks_is_held_and_a_fresh_task_is_tried_once_all_the_same(
    running: Running,
) -> None:
    running.sim.fault("cdn", faults.Raw(503))
    for number in range(DOWN_IN_A_ROW):
        running.called_back()
        if number < DOWN_IN_A_ROW - 1:
            running.journal.wait("task.retried", times=number + 1, reason="fetch_failed")
    running.journal.wait("hold.set", reason="host_down", host="127.0.0.1")
    fetched = running.sim.requests["cdn"]
    running.called_back(3)
    running.wait_quiet()
    assert running.sim.requests["cdn"] == fetched + 3
    running.advance(seconds=1)
    running.wait_quiet()
    assert running.sim.requests["cdn"] == fetched + 3

    running.sim.clear_faults("cdn")
    running.advance(seconds=31)
    running.journal.wait("hold.released", reason="host_down")
    running.pass_minutes(3)
    running.journal.wait("task.archived", times=DOWN_IN_A_ROW + 3)
    assert running.holds() == []


def test_a_host_that_refuses_ten_tasks_is_held_without_a_burial_until_the_first_whole_file(
    running: Running,
) -> None:
    running.sim.fault("cdn", faults.Raw(403))
    for number in range(REFUSED_IN_A_ROW):
        running.called_back()
        if number < REFUSED_IN_A_ROW - 1:
            running.journal.wait("task.retried", times=number + 1, reason="fetch_refused")
    running.journal.wait("hold.set", reason="host_refusing", host="127.0.0.1")
    running.called_back(20)
    running.wait_quiet()
    assert running.fresh_urls_asked_for() < REFUSED_IN_A_ROW
    assert running.journal.find("task.buried") == []

    running.sim.clear_faults("cdn")
    running.advance(seconds=31)
    running.journal.wait("hold.released", reason="host_refusing")
    running.pass_minutes(3)
    running.journal.wait("task.archived", times=REFUSED_IN_A_ROW + 20)
    assert running.holds() == []


def test_a_ledger_that_cannot_end_a_host_s_hold_now_crashes_nothing_and_the_next_file_ends_it(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds = running.engine.ledger.holds
    holds.set(HostDown("simulated", host="127.0.0.1"), account=ACCOUNT, stage=Stage.ARCHIVE)

    def unavailable(**_: object) -> list[str]:
        raise LedgerUnavailable("simulated")

    with monkeypatch.context() as patch:
        patch.setattr(holds, "release_host", unavailable)
        running.wait_archived(*running.called_back())
        running.journal.wait("ledger.unavailable", loop="hold-release")
        running.wait_quiet()
    running.wait_archived(*running.called_back())
    running.journal.wait("hold.released", reason="host_down")

    assert running.journal.find("worker.crashed") == []


def test_a_missing_bucket_holds_the_archive_probes_it_in_30_seconds_at_most_and_goes_on_by_itself(
    running: Running,
) -> None:
    missing = threading.Event()
    missing.set()
    listed = threading.Semaphore(0)

    def hook(operation: str, key: str) -> tuple[bool, BaseException | None]:
        if missing.is_set():
            listed.release()
            return False, BucketMissing("bucket results: no such bucket")
        return running.engine.effects(operation, key)

    def tried() -> int:
        count = 0
        while listed.acquire(blocking=False):
            count += 1
        return count

    running.engine.store.hook = hook
    running.called_back()
    running.journal.wait("hold.set", stage="archive", reason="bucket_missing")
    running.called_back(4)
    running.wait_quiet()
    assert tried() == 1
    for wait in (2, 4, 8, 16, 30, 30):
        running.advance(seconds=wait - 1)
        running.wait_quiet()
        assert tried() == 0
        running.advance(seconds=1)
        assert listed.acquire(timeout=PATIENCE_SECONDS)
        running.wait_quiet()
        assert tried() == 0

    missing.clear()
    running.advance(seconds=31)
    running.journal.wait("hold.released", reason="bucket_missing")
    running.wait_quiet()  # what goes on at once holds leases, which the next advance would end
    running.advance(seconds=31)
    running.journal.wait("task.archived", times=5)
    assert running.holds() == []
    assert {line["attempt"] for line in running.journal.find("task.archived")} == {1}


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (401, 1000, "api_credentials_refused"),
        (401, 1002, "api_credentials_refused"),
        (429, 1101, "api_account_in_arrears"),
        (429, 1304, "api_address_not_allowed"),
    ],
)
def test_refused_credentials_hold_verify_and_sweep_and_both_go_on_when_one_is_let_in(
    engine: Engine, journal: Journal, status: int, code: int, reason: str
) -> None:
    sim = engine.sim
    sim.fault("query", faults.ErrorCode(status, code))
    sim.fault("list", faults.ErrorCode(status, code))
    run = Running(engine, journal)
    missed = sim.create_task(family=OTHER_FAMILY, status="succeed")
    named = sim.create_task(status="succeed")
    engine.ledger.callbacks.record([Callback(ACCOUNT, named, Status.SUCCEEDED, FAMILY)])
    run.worker.start()
    journal.wait("hold.set", stage="verify", reason=reason)
    journal.wait("hold.set", stage="sweep", reason=reason)
    assert run.holds() == [("sweep", reason), ("verify", reason)]
    assert engine.show(named)["state"] == "reported"

    sim.clear_faults()
    engine.clock.advance(seconds=31)
    run.worker.wake(Stage.VERIFY)
    run.wait_archived(named, missed)
    assert run.worker.stop(seconds=PATIENCE_SECONDS)
    assert run.holds() == []
