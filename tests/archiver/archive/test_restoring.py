"""Objects that are missing in the bucket as a specification: put back once as they were, else said for good."""

import dataclasses
import json

import jsonschema
import pytest

from archiver.failures import ApiCredentialsRefused, FetchTimeout, StoreUnreachable
from archiver.model import Stage
from archiver.problems import Expected, find_problems
from tests.harness.engine import ACCOUNT, FAMILY, Died, Engine
from tests.harness.journal import Journal
from tests.harness.repository import DEPLOY
from tests.simulator import faults

SCHEMA = json.loads((DEPLOY / "manifest.schema.json").read_text())
EXPAND = "images/editing/expand"
"""Only rows of its list name the watermarked files."""
MINUTE, DAY = 60.0, 86_400.0


def archived(engine: Engine, *, images: int = 1) -> str:
    task_id = engine.succeeded(images=images)
    assert engine.attempt() is None
    return task_id


def find_missing(engine: Engine) -> None:
    """The look that is due, and the second HEAD ten minutes later."""
    for minutes in (20, 10):
        engine.clock.advance(seconds=minutes * MINUTE)
        while engine.second_look.look_once():
            pass


def restore(engine: Engine) -> None:
    """The API is asked, and then the worker has its turn."""
    questions = engine.stages.restore_questions
    while (lease := questions.claim()) is not None:
        questions.answer(lease)
    while engine.stages.folder_worker.work_once():
        pass


def problems(engine: Engine) -> list[str]:
    found = find_problems(engine.ledger.views.status(), Expected({ACCOUNT: ()}, 300_000))
    return [problem.message for problem in found if problem.code == "objects_missing"]


def events(engine: Engine, task_id: str, event: str) -> list[str]:
    return [line["detail"] for line in engine.show(task_id)["history"] if line["event"] == event]


def lose(engine: Engine, task_id: str, *names: str, family: str = FAMILY) -> None:
    for name in names:
        engine.store.vanish(engine.folder(task_id, family) + name)


@pytest.mark.parametrize(
    "names", [["0.png"], ["manifest.json"], ["0.png", "1.png", "manifest.json"]], ids=" ".join
)
def test_a_missing_object_is_restored_as_it_was(engine_of_each: Engine, names: list[str]) -> None:
    engine = engine_of_each
    task_id = archived(engine, images=2)
    before = engine.manifest(task_id)
    lose(engine, task_id, *names)

    find_missing(engine)
    restore(engine)

    engine.assert_archived(task_id)
    assert engine.manifest(task_id) | {"archived_at": ""} == before | {"archived_at": ""}
    assert len(events(engine, task_id, "object.restored")) == len(names)
    assert problems(engine) == []
    assert engine.ledger.folder_work.claim(account=ACCOUNT) is None


def test_an_amendment_that_is_missing_is_written_again(engine: Engine) -> None:
    task_id = engine.succeeded(family=EXPAND, images=1, watermark=True)
    assert engine.attempt() is None
    engine.verify(task_id, family=EXPAND, listed=True)
    restore(engine)
    key = engine.folder(task_id, EXPAND) + "amendment-1.json"
    before = json.loads(engine.store.content(key))
    lose(engine, task_id, "amendment-1.json", family=EXPAND)

    find_missing(engine)
    restore(engine)

    after = json.loads(engine.store.content(key))
    jsonschema.validate(after, SCHEMA)
    assert [asset["name"] for asset in after["assets"]] == [asset["name"] for asset in before["assets"]]
    assert after["amends"] == "manifest.json"


def test_a_restored_object_is_looked_at_again_and_left_alone_if_it_is_missing_twice(
    engine: Engine, journal: Journal
) -> None:
    task_id = archived(engine)
    lose(engine, task_id, "0.png")
    find_missing(engine)
    restore(engine)
    lose(engine, task_id, "0.png")
    fetches = engine.effects.seen.count("fetch #2")

    find_missing(engine)
    restore(engine)
    find_missing(engine)
    restore(engine)

    assert engine.names(task_id) == ["manifest.json"]
    assert engine.effects.seen.count("fetch #3") == 0
    assert fetches == 1
    states = [line["state"] for line in journal.find("object.missing")]
    assert states == ["wanted", "left_alone"]
    engine.clock.advance(seconds=DAY)
    assert problems(engine) == []


def test_upstream_bytes_that_differ_are_not_put_and_are_a_problem_at_once(
    engine: Engine, journal: Journal
) -> None:
    task_id = archived(engine)
    lose(engine, task_id, "0.png")
    with engine.ledger.database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE assets SET sha256 = ?", ("0" * 64,)
        )  # as if other bytes had been there

    find_missing(engine)
    restore(engine)

    assert engine.names(task_id) == ["manifest.json"]
    (message,) = problems(engine)
    assert task_id in message
    (line,) = journal.find("object.given_up")
    assert line["reason"] == "object_changed"
    engine.ledger.acknowledgements.acknowledge([task_id], account=ACCOUNT)
    assert problems(engine) == []


def test_a_file_that_is_gone_upstream_is_a_problem_at_once(engine: Engine) -> None:
    task_id = archived(engine)
    lose(engine, task_id, "0.png")
    find_missing(engine)
    engine.sim.fault("cdn", faults.Raw(404))

    restore(engine)

    assert len(problems(engine)) == 1
    assert events(engine, task_id, "object.given_up")[0].startswith(
        engine.folder(task_id) + "0.png: asset_gone"
    )


def test_a_manifest_is_not_restored_while_one_of_its_files_is_unavailable(engine: Engine) -> None:
    task_id = archived(engine, images=2)
    lose(engine, task_id, "0.png", "manifest.json")
    find_missing(engine)
    engine.sim.fault("cdn", faults.Raw(404))

    restore(engine)

    assert engine.names(task_id) == ["1.png"]
    assert len(events(engine, task_id, "object.given_up")) == 2


def test_a_task_that_the_api_denies_three_times_is_given_up(engine: Engine) -> None:
    task_id = archived(engine)
    lose(engine, task_id, "0.png")
    find_missing(engine)
    questions = dataclasses.replace(engine.stages.restore_questions, ask=lambda _lease: None)

    for count in (0, 0, 1):
        lease = questions.claim()
        assert lease is not None
        questions.answer(lease)
        assert len(events(engine, task_id, "object.given_up")) == count
        engine.clock.advance(seconds=5 * MINUTE)

    assert len(problems(engine)) == 1
    assert engine.ledger.folder_work.claim(account=ACCOUNT) is None


def test_a_task_that_the_api_does_not_show_is_given_up_once_its_deadline_has_passed(engine: Engine) -> None:
    """The API's words may mean that it is gone, or that a gateway has a bad hour."""
    task_id = archived(engine)
    lose(engine, task_id, "0.png")
    find_missing(engine)
    engine.sim.fault("query", faults.ErrorCode(404, 1203))

    for _ in range(5):
        restore(engine)
        engine.clock.advance(seconds=5 * MINUTE)
    assert events(engine, task_id, "object.given_up") == []
    engine.clock.advance(seconds=30 * DAY)
    restore(engine)

    assert len(events(engine, task_id, "object.given_up")) == 1


def test_a_failing_cdn_delays_a_restore(engine: Engine) -> None:
    task_id = archived(engine)
    lose(engine, task_id, "0.png")
    find_missing(engine)
    engine.effects.plan["fetch #2"] = (False, FetchTimeout("simulated"))

    restore(engine)
    assert engine.names(task_id) == ["manifest.json"]
    engine.clock.advance(seconds=16 * MINUTE)
    restore(engine)

    engine.assert_archived(task_id)


def test_a_failing_api_delays_a_restore(engine: Engine) -> None:
    task_id = archived(engine)
    lose(engine, task_id, "0.png")
    find_missing(engine)
    engine.sim.fault("query", faults.server_error(), times=1)

    restore(engine)
    assert engine.names(task_id) == ["manifest.json"]
    engine.clock.advance(seconds=MINUTE)
    restore(engine)

    engine.assert_archived(task_id)


@pytest.mark.parametrize("happens", [False, True], ids=["failed", "failed but happened"])
@pytest.mark.parametrize("effect", ["put 0.png #2", "put manifest.json #2", "head manifest.json #4"])
def test_a_failing_store_delays_a_restore(engine: Engine, effect: str, *, happens: bool) -> None:
    task_id = archived(engine)
    lose(engine, task_id, "0.png", "manifest.json")
    find_missing(engine)
    engine.effects.plan[effect] = (happens, StoreUnreachable("simulated"))

    restore(engine)
    engine.clock.advance(seconds=16 * MINUTE)
    restore(engine)

    assert effect not in engine.effects.plan
    engine.assert_archived(task_id)
    assert len(events(engine, task_id, "object.restored")) == 2


def test_a_crash_after_the_put_is_found_by_the_next_process(engine: Engine) -> None:
    task_id = archived(engine)
    lose(engine, task_id, "0.png")
    find_missing(engine)
    engine.effects.plan["put 0.png #2"] = (True, Died())
    with pytest.raises(Died):
        restore(engine)
    engine.restart()
    engine.clock.advance(seconds=MINUTE)

    restore(engine)

    engine.assert_archived(task_id)
    assert "fetch #3" not in engine.effects.seen


def test_urls_that_have_ended_are_asked_for_again(engine: Engine) -> None:
    """A hold of the store lasted for days between the question and the worker's turn."""
    task_id = archived(engine)
    lose(engine, task_id, "0.png")
    find_missing(engine)
    lease = engine.stages.restore_questions.claim()
    assert lease is not None
    engine.stages.restore_questions.answer(lease)
    engine.sim.revoke_urls(task_id)
    engine.clock.advance(seconds=2 * DAY)

    engine.stages.folder_worker.work_once()
    restore(engine)

    engine.assert_archived(task_id)


def test_a_question_waits_for_a_hold_of_verification(engine: Engine) -> None:
    task_id = archived(engine)
    lose(engine, task_id, "0.png")
    find_missing(engine)
    engine.ledger.holds.set(ApiCredentialsRefused("simulated"), account=ACCOUNT, stage=Stage.VERIFY)

    assert engine.stages.restore_questions.claim() is None
    engine.ledger.holds.release(account=ACCOUNT, stages=(Stage.VERIFY,), family=None)
    restore(engine)

    engine.assert_archived(task_id)
