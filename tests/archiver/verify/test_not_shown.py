"""Ids that the API denies in other words than documented: gateways do, of unknown ids and in a bad hour of all."""

import pathlib
from collections.abc import Iterator

import pytest

from archiver.failures import ApiRefusedWithoutCode, TaskNotShown
from archiver.kling.limiter import Priority
from archiver.model import Stage, State
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, HOUR, MINUTE, SECOND
from tests.harness.questions import Questions
from tests.simulator import faults

IN_OTHER_WORDS: dict[str, faults.Fault] = {
    "404 and a page": faults.Html(404),
    "410 and nothing": faults.Empty(410),
    "404, 1203": faults.ErrorCode(404, 1203),
    "404, its own code": faults.ErrorCode(404, 404),
    "data null": faults.Json({"code": 0, "message": "", "request_id": "r", "data": None}),
    "data empty": faults.Json({"code": 0, "message": "", "request_id": "r", "data": []}),
}


@pytest.fixture
def questions(tmp_path: pathlib.Path) -> Iterator[Questions]:
    with Questions(tmp_path, families=(FAMILY,)) as made:
        yield made


def live(questions: Questions, task_id: str, *, milliseconds: int, is_well: bool) -> int:
    """Ask for an id whenever it is due, while other tasks are shown (`is_well`); how often."""
    asked, end = 0, questions.clock() + milliseconds
    rows = "SELECT due_at FROM tasks WHERE task_id = ? AND queue IN ('verify', 'inquire')"
    while questions.clock() < end and (found := questions.desk.rows(rows, task_id)):
        questions.clock.advance(max(0, min(found[0]["due_at"], end) - questions.clock()))
        if is_well:
            questions.client.query(FAMILY, questions.sim.create_task(), priority=Priority.VERIFY)
        if questions.desk.ledger.claims.any_due(Stage.VERIFY, account=ACCOUNT):
            questions.ask_due()
            asked += 1
        questions.desk.ledger.deadlines.expire()
        questions.desk.ledger.deadlines.prune()
    return asked


@pytest.mark.parametrize("words", IN_OTHER_WORDS)
def test_an_id_that_is_denied_in_other_words_while_others_are_shown_is_unknown_after_its_grace(
    questions: Questions, words: str
) -> None:
    questions.sim.fault("query", IN_OTHER_WORDS[words], match="forged")
    questions.tell("forged")

    live(questions, "forged", milliseconds=9 * MINUTE, is_well=True)
    assert questions.desk.state("forged") is State.REPORTED
    live(questions, "forged", milliseconds=5 * MINUTE, is_well=True)
    assert questions.desk.state("forged") is State.UNKNOWN


@pytest.mark.parametrize(("is_well", "questions_max"), [(True, 45), (False, 80)])
def test_an_id_that_is_denied_in_other_words_is_asked_for_ever_more_rarely_and_dropped_after_its_days(
    questions: Questions,
    is_well: bool,
    questions_max: int,
) -> None:
    questions.sim.fault("query", faults.Html(404), match="forged")
    questions.tell("forged")

    assert 31 <= live(questions, "forged", milliseconds=40 * DAY, is_well=is_well) <= questions_max
    assert questions.desk.rows("SELECT * FROM tasks") == []


@pytest.mark.parametrize("words", IN_OTHER_WORDS)
def test_a_gateways_bad_hour_ends_no_genuine_id(questions: Questions, words: str) -> None:
    other, task_id = questions.history(2)
    questions.tell(other)
    questions.ask_due()
    questions.clock.advance(SECOND)
    questions.sim.fault("query", IN_OTHER_WORDS[words])
    questions.sim.fault("list", IN_OTHER_WORDS[words])
    questions.tell(task_id)

    live(questions, task_id, milliseconds=HOUR, is_well=False)
    assert questions.desk.state(task_id) is State.REPORTED
    questions.sim.clear_faults()
    live(questions, task_id, milliseconds=HOUR, is_well=False)

    assert questions.desk.state(task_id) is State.SUCCEEDED


@pytest.mark.parametrize("words", IN_OTHER_WORDS)
def test_a_task_that_the_api_has_confirmed_is_neither_unknown_nor_buried_by_it(
    questions: Questions, words: str
) -> None:
    (task_id,) = questions.history(1, status="processing")
    questions.tell(task_id)
    assert questions.ask_due() is State.RUNNING
    questions.sim.fault("query", IN_OTHER_WORDS[words], match=task_id)

    live(questions, task_id, milliseconds=HOUR, is_well=True)

    shown = questions.desk.shown(task_id)
    assert (shown["state"], shown["reason"]) == ("running", "task_not_shown")


@pytest.mark.parametrize("words", IN_OTHER_WORDS)
def test_a_server_that_is_none_of_kling_s_ends_no_id_and_no_hold_in_days(
    questions: Questions, words: str
) -> None:
    (task_id,) = questions.history(1)
    for endpoint in ("query", "list"):
        questions.sim.fault(endpoint, IN_OTHER_WORDS[words])
    questions.tell(task_id)
    holds = questions.desk.ledger.holds
    for _ in range(3 * 24):
        holds.set_by_look(ApiRefusedWithoutCode("404 to a list"), account=ACCOUNT, stages=[Stage.VERIFY])
        (lease,) = questions.desk.ledger.claims.verify(account=ACCOUNT, count=1, offset=0) or (None,)
        if lease is not None:
            assert isinstance(questions.ask(lease), TaskNotShown)
        questions.clock.advance(HOUR)
    assert questions.desk.state(task_id) is State.REPORTED

    questions.sim.clear_faults()
    holds.release_by_look(account=ACCOUNT, stages=[Stage.VERIFY])
    live(questions, task_id, milliseconds=HOUR, is_well=False)
    assert questions.desk.state(task_id) is State.SUCCEEDED


def test_a_denial_in_other_words_proves_nothing_about_the_api(questions: Questions) -> None:
    questions.sim.fault("query", faults.Html(404))
    questions.tell("forged")
    asked = questions.verifier.ask(questions.desk.claim(Stage.VERIFY))

    assert not asked.is_proof


def test_a_list_that_shows_tasks_vouches_for_its_family(questions: Questions) -> None:
    questions.sim.fault("query", faults.Html(404))
    questions.history(3)
    questions.tell("forged")
    questions.ask_due()
    questions.clock.advance(11 * MINUTE)
    questions.sweeper.sweep(FAMILY, full=False)

    assert questions.ask_due() is State.UNKNOWN


def test_a_family_that_answers_badly_is_not_vouched_for_by_another(tmp_path: pathlib.Path) -> None:
    other = "images/omni-image"
    with Questions(tmp_path, families=(FAMILY, other)) as made:
        made.sim.fault("query", faults.Html(404), match=FAMILY)
        made.tell("forged")
        for _ in range(3):
            made.ask_due()
            made.clock.advance(11 * MINUTE)

        assert made.sim.paths[f"/v1/{other}/forged"] == 3
        assert made.desk.state("forged") is State.REPORTED
