"""The bucket's manifests give an empty or old ledger its tasks back."""

import dataclasses
import pathlib
from typing import Any

import pytest

from archiver.archive.manifest import INCOMPLETE_NAME
from archiver.audit.rebuild import Rebuild
from archiver.failures import BucketForbidden, LedgerUnavailable
from archiver.families import collection_of
from archiver.ledger import REBUILT_ROWS_MAX, REBUILT_TASKS_MAX
from archiver.model import DiscoveredBy, State, Status
from tests.harness.engine import Engine
from tests.harness.fake_store import FakeStore
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, START, Desk, answer
from tests.harness.patience import patient
from tests.harness.rebuilt import OURS, counted, rebuild, task, unworked
from tests.simulator import KlingSimulator
from tests.simulator.families import FAMILIES


def test_a_task_is_again_what_it_was_with_its_files_and_digests(desk: Desk, store: FakeStore) -> None:
    lies = task()
    lies.put(store, files=2, amended=1)

    counts, problems = rebuild(desk, store)

    assert (counted(counts), problems) == ({"folders": 1, "added": 1}, [])
    shown = desk.shown()
    assert (shown["state"], shown["created_at"]) == ("archived", "2026-09-21T14:13:20.000Z")
    assert (shown["manifest_key"], shown["discovered_by"]) == (f"{lies.folder}manifest.json", "callback")
    assert shown["amendment_keys"] == [f"{lies.folder}amendment-1.json"]
    assert [(file["name"], file["sha256"]) for file in shown["assets"]] == [
        (f"{number}.png", lies.asset(number).sha256) for number in range(3)
    ]
    assert [line["event"] for line in shown["history"]] == ["task.rebuilt"]
    found = desk.ledger.files.find(account=ACCOUNT, task_id="t", stem="2")
    assert found is not None
    assert found.stored is not None
    assert unworked(desk)


def test_the_ledger_of_a_real_archive_is_what_the_lost_one_was_for_every_family(
    tmp_path: pathlib.Path,
) -> None:
    families = [family for family in FAMILIES if collection_of(family) is None]
    with KlingSimulator() as sim, Engine(sim, tmp_path, families=families) as engine:
        archived = {engine.succeeded(family=family): family for family in families}
        for _ in archived:
            assert engine.attempt() is None
        before = {task_id: kept_of(engine, task_id) for task_id in archived}
        engine.restart(ledger_lost=True)

        run = Rebuild(patient(engine.store), engine.ledger, (OURS,))
        problems = list(run.run())
        after = {task_id: kept_of(engine, task_id) for task_id in archived}
        for task_id, family in archived.items():
            engine.verify(task_id, family=family)

        assert (counted(run.counts), problems) == ({"folders": len(families), "added": len(families)}, [])
        assert after == before
        assert engine.by_hand.rows("SELECT task FROM folder_work") == []
        assert engine.due() == 0


def kept_of(engine: Engine, task_id: str) -> dict[str, Any]:
    """What is to be the same: not what has happened to it."""
    shown = dict(engine.show(task_id))
    for name in ("history", "attempts", "callbacks", "message"):
        shown.pop(name)
    return shown


def test_a_later_answer_about_a_rebuilt_task_changes_nothing(desk: Desk, store: FakeStore) -> None:
    lies = task(created_at=START + 39 * DAY)
    lies.put(store)
    rebuild(desk, store)

    desk.say(answer(created_at=lies.created_at), by=DiscoveredBy.SWEEP)
    desk.tell()

    assert desk.state() is State.ARCHIVED
    assert unworked(desk)


def test_a_rebuild_may_be_repeated_and_reads_no_document_twice(desk: Desk, store: FakeStore) -> None:
    for number in range(REBUILT_TASKS_MAX + 3):
        task(f"t{number}").put(store)
    rebuild(desk, store)
    before = desk.rows("SELECT * FROM tasks ORDER BY id"), desk.rows("SELECT * FROM history ORDER BY id")
    store.hook = lambda operation, _: (operation != "read", None)

    counts, problems = rebuild(desk, store)

    count = REBUILT_TASKS_MAX + 3
    assert (counted(counts), problems) == ({"folders": count, "known": count}, [])
    assert before == (
        desk.rows("SELECT * FROM tasks ORDER BY id"),
        desk.rows("SELECT * FROM history ORDER BY id"),
    )


def test_an_interrupted_rebuild_has_kept_its_first_tasks_and_the_next_one_adds_the_rest(
    desk: Desk, store: FakeStore
) -> None:
    for number in range(2 * REBUILT_TASKS_MAX):
        task(f"t{number:03d}").put(store)
    add, times = desk.ledger.rebuilding.add, []

    def fail_the_second_time(*given: Any, **named: Any) -> Any:
        times.append(1)
        if len(times) > 1:
            raise LedgerUnavailable("the disk is full")
        return add(*given, **named)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(desk.ledger.rebuilding, "add", fail_the_second_time)
        with pytest.raises(LedgerUnavailable):
            rebuild(desk, store)
    kept = len(desk.rows("SELECT id FROM tasks"))
    counts, _ = rebuild(desk, store)

    assert kept == REBUILT_TASKS_MAX
    assert counted(counts) == {"folders": 2 * kept, "added": kept, "known": kept}


def test_a_store_that_fails_half_way_costs_nothing_that_was_read(desk: Desk, store: FakeStore) -> None:
    for number in range(5):
        task(f"t{number}").put(store)
    last = f"{task('t4').folder}manifest.json"
    store.hook = lambda operation, key: (
        True,
        BucketForbidden("403") if operation == "check" or (operation, key) == ("read", last) else None,
    )

    with pytest.raises(BucketForbidden):
        rebuild(desk, store)

    assert len(desk.rows("SELECT id FROM tasks")) == 4


def test_a_transaction_that_happened_though_it_failed_is_found_done(desk: Desk, store: FakeStore) -> None:
    task().put(store, amended=1)
    add = desk.ledger.rebuilding.add

    def happen_and_fail(*given: Any, **named: Any) -> None:
        add(*given, **named)
        raise LedgerUnavailable("no answer to COMMIT")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(desk.ledger.rebuilding, "add", happen_and_fail)
        with pytest.raises(LedgerUnavailable):
            rebuild(desk, store)

    assert counted(rebuild(desk, store)[0]) == {"folders": 1, "known": 1}


def test_known_tasks_are_left_unchanged(desk: Desk, store: FakeStore) -> None:
    for task_id in ("reported", "failed", "forgotten"):
        task(task_id, created_at=START + 39 * DAY).put(store)
    desk.bring(State.REPORTED, "reported")
    desk.bring(State.FAILED, "failed")
    desk.bring(State.FAILED, "forgotten")
    desk.ledger.tombstones.forget("forgotten", account=ACCOUNT)
    before = desk.rows("SELECT * FROM tasks ORDER BY id")

    counts, _ = rebuild(desk, store)

    assert counted(counts) == {
        "folders": 3,
        "in_work": 2,
        "in_work_states": {"failed": 1, "reported": 1},
        "forgotten": 1,
    }
    assert desk.rows("SELECT * FROM tasks ORDER BY id") == before


@pytest.mark.parametrize("state", [State.REPORTED, State.UNKNOWN, State.LOST, State.FAILED])
def test_a_task_that_an_old_copy_of_the_ledger_would_never_archive_is_archived_by_its_manifest(
    desk: Desk, store: FakeStore, state: State
) -> None:
    task().put(store)
    desk.clock.advance(-39 * DAY)
    if state is State.FAILED:
        desk.bring(State.RUNNING)
        desk.clock.advance(29 * DAY)
        desk.say(answer(status=Status.RUNNING))
        desk.clock.advance(DAY)
        desk.ledger.deadlines.expire()
        assert desk.row()["reason"] == "never_finished"
    else:
        desk.bring(state)
    if state is State.LOST:
        desk.say(answer())
        desk.write("UPDATE tasks SET due_at = NULL")
    desk.clock.advance(40 * DAY)

    counts, problems = rebuild(desk, store)

    assert (counted(counts), problems) == ({"folders": 1, "added": 1}, [])
    shown = desk.shown()
    assert (shown["state"], shown["reason"], len(shown["assets"])) == ("archived", None, 1)
    assert sum(desk.counts().values()) == 1
    assert counted(rebuild(desk, store)[0]) == {"folders": 1, "known": 1}


@pytest.mark.parametrize("times", [1, 2])
def test_of_two_folders_of_one_id_the_one_with_a_manifest_counts(
    desk: Desk, store: FakeStore, times: int
) -> None:
    earlier, whole = task(), task(created_at=START + DAY)
    earlier.put_object(store, "0.png", earlier.content(0))
    earlier.put_object(store, INCOMPLETE_NAME, earlier.manifest(earlier.asset(0), missing="1").to_bytes())
    if times == 2:
        rebuild(desk, store)
        assert desk.state() is State.LOST
    whole.put(store, files=2)

    rebuild(desk, store)

    assert desk.state() is State.ARCHIVED
    assert desk.row()["manifest_key"] == f"{whole.folder}manifest.json"


def test_no_transaction_writes_more_rows_than_callbacks_can_wait_for(desk: Desk, store: FakeStore) -> None:
    for number in range(30):
        task(f"{number:03d}").put(store, files=30)
    add, written = desk.ledger.rebuilding.add, []

    def watch(tasks: Any, **named: Any) -> Any:
        before = rows_of(desk)
        added = add(tasks, **named)
        written.append(rows_of(desk) - before)
        return added

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(desk.ledger.rebuilding, "add", watch)
        rebuild(desk, store)

    assert sum(written) == 30 * (30 + 2)
    assert max(written) <= REBUILT_ROWS_MAX


def rows_of(desk: Desk) -> int:
    tables = "SELECT id FROM tasks UNION ALL SELECT id FROM assets UNION ALL SELECT id FROM history"
    return len(desk.rows(tables))


def test_a_task_that_is_forgotten_or_swept_while_its_manifest_is_read_is_not_added(
    desk: Desk, store: FakeStore
) -> None:
    for task_id in ("a", "b", "c"):
        task(task_id).put(store)

    def meanwhile(operation: str, _key: str) -> tuple[bool, None]:
        if operation == "read" and not desk.rows("SELECT task_id FROM tasks"):
            desk.say(answer("a"))
            desk.say(answer("b"))
            desk.ledger.tombstones.forget("b", account=ACCOUNT)
        return True, None

    store.hook = meanwhile
    rebuild(desk, store, threads=1)

    assert desk.state("a") is State.SUCCEEDED
    assert {row["task_id"] for row in desk.rows("SELECT task_id FROM tasks")} == {"a", "c"}


def test_a_task_that_was_forgotten_under_its_external_id_stays_so(desk: Desk, store: FakeStore) -> None:
    desk.ledger.registrations.register("order-1", account=ACCOUNT, family=FAMILY)
    desk.ledger.tombstones.forget("order-1", account=ACCOUNT)
    lies = task()
    lies.put(store)
    named = dataclasses.replace(lies.manifest(lies.asset(0)), external_task_id="order-1")
    store.vanish(f"{lies.folder}manifest.json")
    lies.put_object(store, "manifest.json", named.to_bytes())

    assert counted(rebuild(desk, store)[0]) == {"folders": 1, "forgotten": 1}
    assert desk.rows("SELECT task_id FROM tasks") == []
