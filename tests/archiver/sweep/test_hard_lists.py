"""Lists that a sweep cannot read well: unreadable rows, pages that are too much, and too many pages."""

import pathlib
from typing import Any

import pytest
from structlog.typing import EventDict

from archiver.failures import ApiAnswerUnreadable, ApiServerError, ListTooLong
from archiver.families import COLLECTION_SWEEPS, TASKS
from archiver.kling import listing
from archiver.model import State, Status
from archiver.sweep.loop import PAGE_TRIES
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, HOUR
from tests.harness.questions import Questions
from tests.simulator import faults

pytestmark = pytest.mark.usefixtures("lines")

ALL_TASKS = COLLECTION_SWEEPS[TASKS]


def last_success_at(questions: Questions, family: str = FAMILY) -> int | None:
    return questions.desk.ledger.sweeps.memory(account=ACCOUNT, family=family).last_success_at


def remembered_rows(questions: Questions, family: str = FAMILY) -> int | None:
    return questions.desk.ledger.sweeps.memory(account=ACCOUNT, family=family).page_rows


def asked_sizes(questions: Questions) -> list[int]:
    """The page sizes of all questions for list pages, in order."""
    return [
        int(request.query.partition("pageSize=")[2])
        for request in questions.sim.log
        if request.kind == "list"
    ]


def garble(questions: Questions, *task_ids: str) -> None:
    """The API shows these as another version of it might."""
    for task_id in task_ids:
        questions.sim.override(task_id, {"task_id": f"prefix:{task_id}", "task_status": "succeed"})


# --- rows that cannot be read -----------------------------------------------------------------------------------------


def test_a_page_of_which_no_row_can_be_read_is_a_failed_sweep(questions: Questions) -> None:
    garble(questions, *questions.history(5))

    with pytest.raises(ApiAnswerUnreadable, match="5 of the 5 rows"):
        questions.sweeper.sweep(FAMILY, full=True)

    assert last_success_at(questions) is None


@pytest.mark.parametrize("garbled", [3, 4])
def test_a_page_of_which_most_rows_cannot_be_read_is_a_failed_sweep_that_records_the_others(
    questions: Questions, garbled: int
) -> None:
    ids = questions.history(5)
    garble(questions, *ids[:garbled])

    with pytest.raises(ApiAnswerUnreadable):
        questions.sweeper.sweep(FAMILY, full=True)

    assert questions.states(*ids[garbled:]) == {State.SUCCEEDED}
    assert last_success_at(questions) is None


def test_an_unreadable_page_hides_none_of_those_behind_it(questions: Questions) -> None:
    questions.sim.switches.list_page_rows_max = 10
    ids = questions.history(50)
    garble(questions, *ids[20:40])  # newest first: the second and the third page

    with pytest.raises(ApiAnswerUnreadable):
        questions.sweeper.sweep(FAMILY, full=True)

    assert questions.states(*ids[:20], *ids[40:]) == {State.SUCCEEDED}


def test_a_list_of_another_format_is_not_read_to_its_thousandth_page(questions: Questions) -> None:
    questions.sim.switches.list_page_rows_max = 1
    garble(questions, *questions.history(20))

    with pytest.raises(ApiAnswerUnreadable):
        questions.sweeper.sweep(FAMILY, full=True)

    assert questions.calls == {"list": 3}


def test_another_envelope_is_a_failed_sweep(questions: Questions) -> None:
    body = {"code": 0, "message": "", "request_id": "r", "data": {"total": 1, "items": [{"task_id": "t"}]}}
    questions.sim.fault("list", faults.Json(body))

    with pytest.raises(ApiAnswerUnreadable):
        questions.sweeper.sweep(FAMILY, full=True)

    assert last_success_at(questions) is None


def test_a_window_of_which_no_row_can_be_read_is_a_failed_sweep(tmp_path: pathlib.Path) -> None:
    with Questions(tmp_path, api_key=True) as made:
        made.sim.fault(
            "tasks",
            faults.Json({"code": 0, "message": "", "request_id": "r", "data": {"result": [{"x": 1}]}}),
        )

        with pytest.raises(ApiAnswerUnreadable):
            made.sweeper.sweep(ALL_TASKS, full=True)

        assert last_success_at(made, ALL_TASKS) is None


def test_a_full_sweep_with_unreadable_rows_is_not_repeated_within_a_day(
    questions: Questions,
) -> None:
    garble(questions, *questions.history(5))
    with pytest.raises(ApiAnswerUnreadable):
        questions.sweeper.sweep(FAMILY, full=True)

    assert not questions.sweeper.is_full_due(FAMILY)
    questions.clock.advance(DAY)
    assert questions.sweeper.is_full_due(FAMILY)


def test_list_matching_counts_and_says_that_a_page_cannot_be_read(
    questions: Questions, lines: list[EventDict]
) -> None:
    ids = questions.history(5)
    garble(questions, *ids)
    questions.tell(*ids)

    questions.list_matcher.match()

    assert [line["reason"] for line in lines if line["event"] == "list.unreadable"] == [
        "api_answer_unreadable"
    ]


# --- pages that are too slow or too large -----------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["newest_first", "oldest_first"])
@pytest.mark.parametrize(
    ("fault", "tries"),
    [
        (faults.server_error(), PAGE_TRIES),
        (faults.ErrorCode(400, 1201, "pageSize must be at most 125"), PAGE_TRIES),
        (faults.Json({"code": 0, "data": "x" * 100_000}), 1),
    ],
)
def test_a_page_that_is_too_much_is_asked_for_in_halves_and_what_works_is_remembered(
    questions: Questions, monkeypatch: pytest.MonkeyPatch, order: Any, fault: faults.Fault, tries: int
) -> None:
    monkeypatch.setattr(questions.client, "_body_bytes_max", 99_000)
    questions.sim.switches.list_order = order
    ids = questions.history(300, age=HOUR)
    for rows in (500, 250):
        questions.sim.fault("list", fault, match=f"pageSize={rows}")

    questions.sweeper.sweep(FAMILY, full=True)

    assert questions.states(*ids) == {State.SUCCEEDED}
    assert asked_sizes(questions)[: tries + 3] == [500] * tries + [30, 250, 125]
    assert set(asked_sizes(questions)[tries + 3 :]) == {125}
    assert remembered_rows(questions) == 125
    questions.sim.log.clear()
    questions.sweeper.sweep(FAMILY, full=False)
    assert set(asked_sizes(questions)) == {125}


def test_a_page_in_the_middle_that_is_too_much_lets_no_row_be_skipped_on_a_server_with_pages_of_its_own_size(
    questions: Questions,
) -> None:
    questions.sim.switches.list_page_rows_max = 10
    ids = questions.history(80)
    questions.sim.fault("list", faults.server_error(), match="pageNum=4&pageSize=500")

    questions.sweeper.sweep(FAMILY, full=True)

    assert questions.states(*ids) == {State.SUCCEEDED}


def test_an_outage_costs_one_question_more_and_makes_no_page_smaller(questions: Questions) -> None:
    questions.sim.fault("list", faults.server_error())

    with pytest.raises(ApiServerError):
        questions.sweeper.sweep(FAMILY, full=True)

    assert asked_sizes(questions) == [500] * PAGE_TRIES + [30]
    assert remembered_rows(questions) is None


def test_the_days_full_sweep_finds_out_that_pages_can_be_large_again(questions: Questions) -> None:
    questions.history(3)
    questions.sim.fault("list", faults.server_error(), match="pageSize=500")
    questions.sweeper.sweep(FAMILY, full=True)
    assert remembered_rows(questions) == 250

    questions.sim.clear_faults()
    questions.sweeper.sweep(FAMILY, full=False)
    assert remembered_rows(questions) == 250
    questions.sweeper.sweep(FAMILY, full=True)
    assert remembered_rows(questions) == 500


def test_list_matching_asks_for_as_many_rows_as_the_sweep_has_found_out(questions: Questions) -> None:
    questions.sim.fault("list", faults.server_error(), match="pageSize=500")
    questions.sweeper.sweep(FAMILY, full=True)
    questions.sim.log.clear()
    ids = questions.history(5)
    questions.tell(*ids, status=Status.SUCCEEDED)

    assert questions.list_matcher.match().count == 5
    assert asked_sizes(questions) == [250]


# --- more pages than can be asked for ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "is_success"), [("newest_first", True), ("oldest_first", False), ("shuffled", False)]
)
def test_a_list_whose_newest_tasks_lie_behind_its_last_page_is_a_failed_sweep_that_records_the_others(
    questions: Questions,
    lines: list[EventDict],
    monkeypatch: pytest.MonkeyPatch,
    order: Any,
    is_success: bool,
) -> None:
    monkeypatch.setattr(listing, "PAGES_MAX", 5)
    questions.sim.switches.list_page_rows_max = 10
    questions.sim.switches.list_order = order
    ids = questions.history(70, age=HOUR)
    if is_success:
        questions.sweeper.sweep(FAMILY, full=True)
    else:
        with pytest.raises(ListTooLong) as caught:
            questions.sweeper.sweep(FAMILY, full=True)
        assert questions.sweeper.note_failure(FAMILY, caught.value)
        (failed,) = [line for line in lines if line["event"] == "sweep.failed"]
        assert failed["reason"] == "api_list_too_long"

    assert (last_success_at(questions) is not None) is is_success
    assert len([line for line in lines if line["event"] == "sweep.overflowed"]) == 1
    if order == "oldest_first":
        assert questions.states(*ids[:50]) == {State.SUCCEEDED}


def test_a_task_that_an_overflowing_list_hides_is_verified_by_its_callback(
    questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGES_MAX", 5)
    questions.sim.switches.list_page_rows_max, questions.sim.switches.list_order = 10, "oldest_first"
    ids = questions.history(70, age=HOUR)
    with pytest.raises(ListTooLong):
        questions.sweeper.sweep(FAMILY, full=True)
    questions.tell(ids[-1])

    questions.verify_all()

    assert questions.states(ids[-1]) == {State.SUCCEEDED}
