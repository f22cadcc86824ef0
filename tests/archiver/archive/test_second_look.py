"""Second looks as a specification: what was archived is seen again in the bucket, and what is missing there is said."""

import pytest

from archiver.archive.second_look import ROUND_CALLS_MAX, SecondLook
from archiver.failures import BucketMissing, StoreUnreachable
from archiver.ledger import Acknowledged
from archiver.model import Stage
from archiver.problems import Expected, find_problems
from tests.harness.engine import ACCOUNT, Engine
from tests.harness.journal import Journal

MINUTE = 60.0


def archived(engine: Engine, *, images: int = 1) -> str:
    task_id = engine.succeeded(images=images)
    assert engine.attempt() is None
    return task_id


def look(engine: Engine, *, minutes: float = 20) -> list[str]:
    """All second looks that are due after so many minutes; the requests that they make."""
    engine.clock.advance(seconds=minutes * MINUTE)
    before = len(engine.effects.seen)
    while engine.second_look.look_once():
        pass
    return [label.partition(" #")[0] for label in engine.effects.seen[before:]]


def problems(engine: Engine) -> list[str]:
    found = find_problems(engine.ledger.views.status(), Expected({ACCOUNT: ()}, 300_000))
    return [problem.message for problem in found if problem.code == "objects_missing"]


def seen_again(engine: Engine, task_id: str) -> bool:
    with engine.ledger.database.read() as connection:
        query = "SELECT seen_again_at FROM tasks WHERE task_id = ?"
        return connection.exec_driver_sql(query, (task_id,)).scalar() is not None


def events(engine: Engine, task_id: str) -> list[str]:
    return [line["event"] for line in engine.show(task_id)["history"]]


def test_one_listing_sees_all_that_was_archived_since(engine_of_each: Engine) -> None:
    engine = engine_of_each
    task_ids = [archived(engine) for _ in range(3)]

    assert look(engine, minutes=19) == []
    assert look(engine, minutes=1) == ["list_after"]

    assert all(seen_again(engine, task_id) for task_id in task_ids)
    assert look(engine, minutes=60) == []


def test_a_look_outlives_a_restart(engine: Engine) -> None:
    task_id = archived(engine)
    engine.restart()

    look(engine)

    assert seen_again(engine, task_id)


@pytest.mark.parametrize("name", ["0.png", "manifest.json"])
def test_a_missing_object_gets_a_second_head_after_ten_minutes_and_is_then_reported(
    engine_of_each: Engine, name: str, journal: Journal
) -> None:
    engine = engine_of_each
    task_id = archived(engine)
    engine.store.vanish(engine.folder(task_id) + name)

    assert look(engine) == ["list_after", f"head {name}"]
    assert "object.missing" not in events(engine, task_id)
    assert look(engine, minutes=9) == []
    assert look(engine, minutes=1) == [f"head {name}"]

    assert events(engine, task_id).count("object.missing") == 1
    (line,) = journal.find("object.missing")
    assert (line["level"], line["key"]) == ("error", engine.folder(task_id) + name)
    assert not seen_again(engine, task_id)


def test_an_object_that_a_listing_lacks_and_head_shows_is_there(engine: Engine) -> None:
    task_id = archived(engine)
    engine.store.unlisted.add(engine.folder(task_id) + "0.png")

    assert look(engine) == ["list_after", "head 0.png"]

    assert seen_again(engine, task_id)


def test_an_object_that_is_back_after_ten_minutes_is_seen_as_any(engine: Engine) -> None:
    task_id = archived(engine)
    key = engine.folder(task_id) + "0.png"
    found = engine.store.objects.pop(key)
    look(engine)
    engine.store.objects[key] = found

    assert look(engine, minutes=10) == ["head 0.png", "list_after"]

    assert seen_again(engine, task_id)
    assert "object.missing" not in events(engine, task_id)


def test_an_object_of_another_size_is_a_problem_at_once_and_nothing_is_overwritten(engine: Engine) -> None:
    task_id = archived(engine)
    engine.store.place(engine.folder(task_id) + "0.png", b"other")

    look(engine)
    look(engine, minutes=10)

    (message,) = problems(engine)
    assert task_id in message
    assert engine.store.content(engine.folder(task_id) + "0.png") == b"other"


def test_one_key_alone_costs_a_head(engine: Engine) -> None:
    task_id = archived(engine)
    key = engine.folder(task_id) + "0.png"
    engine.store.vanish(key)
    look(engine)
    look(engine, minutes=10)
    again = archived(engine)
    engine.store.vanish(engine.folder(again) + "0.png")
    look(engine)

    assert look(engine, minutes=10) == ["head 0.png"]


def test_a_listing_jumps_over_what_was_seen_before(engine: Engine) -> None:
    """Between two new tasks of a day lie 2,000 keys of others: they are not listed again."""
    first = archived(engine)
    folder = engine.folder(first)
    for number in range(2000):
        engine.store.place(f"{folder[:-1]}0{number:04}/0.png", b"seen", task_id="old")
    archived(engine)

    assert look(engine) == ["list_after", "list_after"]


def test_a_store_that_ignores_where_a_listing_begins_is_asked_by_head(engine: Engine) -> None:
    task_id = archived(engine)
    day = engine.folder(task_id).removesuffix(f"{task_id}/")
    for number in range(20):
        engine.store.place(f"{day}000{number}/0.png", b"first", task_id="old")
    listed = engine.store.list_after
    engine.store.list_after = lambda prefix, **options: listed(prefix, **options | {"after": ""})  # type: ignore[method-assign]  # such a store

    assert look(engine) == ["list_after", "head 0.png", "head manifest.json"]

    assert seen_again(engine, task_id)


def test_a_hold_of_the_store_stops_second_looks_too(engine: Engine) -> None:
    task_id = archived(engine)
    engine.ledger.holds.set(BucketMissing("simulated"), account=ACCOUNT, stage=Stage.ARCHIVE)

    assert look(engine) == []
    engine.ledger.holds.release(account=ACCOUNT, stages=(Stage.ARCHIVE,), family=None)

    assert look(engine, minutes=0) == ["list_after"]
    assert seen_again(engine, task_id)


def test_a_failed_look_is_repeated_and_shows_nothing_about_the_objects(engine: Engine) -> None:
    task_id = archived(engine)
    engine.effects.plan["list_after"] = (False, StoreUnreachable("simulated"))

    assert look(engine) == ["list_after"]
    assert look(engine, minutes=5) == ["list_after"]

    assert seen_again(engine, task_id)
    assert events(engine, task_id).count("object.missing") == 0


def test_an_emptied_bucket_costs_one_request_at_a_time_and_no_more_than_the_limit_of_a_minute(
    engine: Engine,
) -> None:
    """Three images a task: 120 keys are missing. The ledger keeps what a round leaves."""
    task_ids = [archived(engine, images=3) for _ in range(30)]
    for key in engine.store.all_keys():
        engine.store.vanish(key)
    pauses: list[str] = []

    def pause() -> bool:
        pauses.append("before a request")
        return True

    engine.clock.advance(seconds=20 * MINUTE)
    looked = SecondLook(engine.ledger, engine.store, engine.metrics, {ACCOUNT: print}, pause=pause)
    before = len(engine.effects.seen)

    assert looked.look_once()
    assert len(pauses) == len(engine.effects.seen) - before == ROUND_CALLS_MAX
    while looked.look_once():
        pass
    engine.clock.advance(seconds=10 * MINUTE)
    while looked.look_once():
        pass

    assert len(pauses) == len(engine.effects.seen) - before
    assert {events(engine, task_id).count("object.missing") for task_id in task_ids} == {4}
    assert problems(engine) == []
    engine.clock.advance(seconds=60 * MINUTE)
    assert "30 tasks" in problems(engine)[0]


def test_a_process_that_stops_leaves_the_rest_due(engine: Engine) -> None:
    task_id = archived(engine)
    engine.clock.advance(seconds=20 * MINUTE)
    stopping = SecondLook(engine.ledger, engine.store, engine.metrics, {ACCOUNT: print}, pause=lambda: False)

    stopping.look_once()

    assert look(engine, minutes=0) == ["list_after"]
    assert seen_again(engine, task_id)


def test_an_object_missing_for_an_hour_is_a_problem_until_it_is_acknowledged(engine: Engine) -> None:
    task_id = archived(engine)
    engine.store.vanish(engine.folder(task_id) + "0.png")
    look(engine)
    look(engine, minutes=10)
    assert problems(engine) == []

    engine.clock.advance(seconds=3600)
    (message,) = problems(engine)
    assert task_id in message

    outcome = engine.ledger.acknowledgements.acknowledge([task_id], account=ACCOUNT)
    assert outcome == {task_id: Acknowledged.DONE}
    assert problems(engine) == []
    outcome = engine.ledger.acknowledgements.acknowledge([task_id], account=ACCOUNT)
    assert outcome == {task_id: Acknowledged.ALREADY}
