"""The sweep finds what callbacks missed: the real client against a simulated account, every page counted."""

import pathlib
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.typing import EventDict

from archiver.failures import ApiCredentialsRefused, ApiServerError
from archiver.ledger import RecordedTask
from archiver.model import Stage, State, Status, Task
from archiver.sweep.counts import CountedIds, SweepCounts, SweepEnd
from archiver.sweep.loop import PAGE_TRIES
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, HOUR, MINUTE, SECOND
from tests.harness.questions import Questions
from tests.simulator import LoggedRequest, faults

pytestmark = pytest.mark.usefixtures("lines")

PATIENCE = 5 * MINUTE


@pytest.fixture
def paged(questions: Questions) -> Questions:
    """The list comes in pages of 10."""
    questions.sim.switches.list_page_rows_max = 10
    return questions


# --- what it finds --------------------------------------------------------------------------------------------------


def test_the_first_start_archives_history_without_a_single_callback(questions: Questions) -> None:
    ids = questions.history(700, age=DAY)
    failed = questions.history(3, status="failed")
    running = questions.history(2, status="processing")

    counts = questions.sweeper.sweep(FAMILY, full=True)

    assert (counts.end, counts.found, counts.rows) == (SweepEnd.FINISHED, 705, 705)
    assert questions.states(*ids[:500]) == questions.states(*ids[500:]) == {State.SUCCEEDED}
    assert questions.states(*failed) == {State.FAILED}
    assert questions.states(*running) == {State.RUNNING}
    assert questions.desk.shown(ids[0])["discovered_by"] == "sweep"


def test_a_sweep_moves_what_callbacks_had_named(questions: Questions) -> None:
    ids = questions.history(3, status="processing")
    questions.tell(*ids, status=Status.RUNNING)
    for task_id in ids:
        questions.sim.succeed(task_id)

    counts = questions.sweeper.sweep(FAMILY, full=False)

    assert (counts.found, counts.moved) == (0, 3)
    assert questions.states(*ids) == {State.SUCCEEDED}


def test_a_sweep_finds_an_id_that_was_given_up_as_unknown(questions: Questions) -> None:
    questions.desk.bring(State.UNKNOWN, "known-later")
    questions.sim.create_task(task_id="known-later", status="succeed")

    questions.sweeper.sweep(FAMILY, full=False)

    assert questions.desk.state("known-later") is State.SUCCEEDED


def test_what_is_first_seen_after_its_deadline_is_passed_by_and_counted(questions: Questions) -> None:
    questions.sim.switches.purge_rows = False
    old = questions.history(5, age=31 * DAY)
    young = questions.history(5)

    counts = questions.sweeper.sweep(FAMILY, full=True)

    assert (counts.found, counts.passed_by) == (5, 5)
    assert questions.desk.ledger.records.states(account=ACCOUNT, task_ids=old) == {}
    assert questions.states(*young) == {State.SUCCEEDED}


def test_a_fast_clock_passes_by_no_task_that_is_still_available(tmp_path: pathlib.Path) -> None:
    with Questions(tmp_path, api_key=True) as made:  # a token would be refused
        made.sim.switches.purge_rows, made.sim.switches.list_page_rows_max = False, 10
        ids = made.history(45, age=29 * DAY)
        made.clock.advance(40 * DAY)
        made.sim.advance(-40 * DAY / SECOND)  # the API's own clock has not moved

        counts = made.sweeper.sweep(FAMILY, full=True)

        assert (counts.found, counts.passed_by) == (45, 0)
        assert made.states(*ids) == {State.SUCCEEDED}


def test_a_full_sweep_by_a_clock_that_ran_ahead_does_not_put_off_the_next(questions: Questions) -> None:
    questions.clock.advance(40 * DAY)
    questions.sweeper.sweep(FAMILY, full=True)
    questions.clock.advance(-40 * DAY)

    questions.desk.ledger.deadlines.bring_forward()

    assert questions.sweeper.is_full_due(FAMILY)


def test_an_unreadable_row_is_logged_and_costs_no_other_row(
    questions: Questions, lines: list[EventDict]
) -> None:
    ids = questions.history(3)
    questions.sim.override(ids[1], {"task_id": ids[1], "task_status": "paused"})

    counts = questions.sweeper.sweep(FAMILY, full=False)

    assert (counts.found, counts.malformed) == (2, 1)
    (skipped,) = [line for line in lines if line["event"] == "sweep.row_skipped"]
    assert (skipped["count"], "paused" in skipped["message"]) == (1, True)


@pytest.mark.parametrize("order", ["newest_first", "oldest_first"])
def test_tasks_that_come_while_pages_are_read_hide_no_other(paged: Questions, order: str) -> None:
    paged.sim.switches.list_order = order  # type: ignore[assignment]  # one of the two above
    ids = paged.history(55, age=MINUTE)

    def one_more(request: LoggedRequest) -> None:
        if request.kind == "list":
            for _ in range(3):
                paged.sim.create_task()
            paged.clock.advance(SECOND)

    paged.sim.on_request(one_more)
    paged.sweeper.sweep(FAMILY, full=True)

    assert paged.states(*ids) == {State.SUCCEEDED}


# --- when it stops --------------------------------------------------------------------------------------------------


def settled_history(questions: Questions, count: int = 200) -> None:
    """Everything there is has been found and archived."""
    questions.history(count, age=HOUR)
    questions.sweeper.sweep(FAMILY, full=True)
    questions.archive_all()
    questions.sim.requests.clear()


@pytest.mark.parametrize(("order", "pages"), [("newest_first", 2), ("oldest_first", 2 + 2)])
def test_where_everything_is_settled_a_sweep_reads_two_pages(
    paged: Questions, order: str, pages: int
) -> None:
    """Oldest first, it looks at two more to see that no rows came after those it knows."""
    paged.sim.switches.list_order = order  # type: ignore[assignment]  # one of the two above
    settled_history(paged)

    counts = paged.sweeper.sweep(FAMILY, full=False)

    assert (counts.pages, counts.found, counts.moved) == (2, 0, 0)
    assert paged.calls == {"list": pages}


def test_an_open_task_makes_a_sweep_read_on_and_two_settled_pages_end_it(paged: Questions) -> None:
    paged.history(200, age=HOUR)
    open_ids = paged.sim.task_ids(FAMILY)[25:26]  # newest first: on the third page
    paged.sweeper.sweep(FAMILY, full=True)
    for lease in paged.desk.claim_all(Stage.ARCHIVE, count=500):
        if lease.task_id not in open_ids:
            paged.desk.ledger.outcomes.archived(lease, manifest_key="m", archived_at=paged.clock(), stored=[])
    paged.clock.advance(MINUTE)
    paged.sim.requests.clear()
    new = paged.history(30)

    counts = paged.sweeper.sweep(FAMILY, full=False)

    # Three pages of new ones, two settled ones: the open task behind them is known, and no business of the sweep's.
    assert paged.states(*new) == {State.SUCCEEDED}
    assert counts.pages == 5


def test_a_full_sweep_reads_on_to_the_horizon_however_settled_everything_is(paged: Questions) -> None:
    settled_history(paged, 100)

    assert paged.sweeper.sweep(FAMILY, full=True).rows == 100


def test_a_full_sweep_ends_two_pages_behind_the_horizon(paged: Questions) -> None:
    paged.sim.switches.purge_rows = False
    paged.history(300, age=40 * DAY)
    paged.history(20)

    counts = paged.sweeper.sweep(FAMILY, full=True)

    assert (counts.pages, counts.found, counts.passed_by) == (4, 20, 20)


def test_a_list_without_order_is_read_to_its_end_by_every_sweep(paged: Questions) -> None:
    paged.sim.switches.list_order = "shuffled"
    paged.history(100, age=HOUR)

    paged.sweeper.sweep(FAMILY, full=False)
    counts = paged.sweeper.sweep(FAMILY, full=False)

    assert counts.rows == 100
    assert paged.calls == {"list": 2 * 12}


def test_a_list_whose_order_was_found_out_is_read_from_that_end_next_time(paged: Questions) -> None:
    paged.sim.switches.list_order = "oldest_first"
    paged.history(95, age=HOUR)
    paged.sweeper.sweep(FAMILY, full=True)

    memory = paged.desk.ledger.sweeps.memory(account=ACCOUNT, family=FAMILY)

    assert (memory.oldest_first, memory.last_page) == (True, 10)


def test_a_full_sweep_is_due_at_first_and_then_once_a_day(questions: Questions) -> None:
    assert questions.sweeper.is_full_due(FAMILY)
    questions.sweeper.sweep(FAMILY, full=False)
    assert questions.sweeper.is_full_due(FAMILY)
    questions.sweeper.sweep(FAMILY, full=True)
    assert not questions.sweeper.is_full_due(FAMILY)
    questions.clock.advance(DAY - 1)
    questions.sweeper.sweep(FAMILY, full=False)
    assert not questions.sweeper.is_full_due(FAMILY)
    questions.clock.advance(1)
    assert questions.sweeper.is_full_due(FAMILY)


# --- one at a time ------------------------------------------------------------------------------------------------


def test_a_family_that_another_one_sweeps_is_left_to_it(questions: Questions) -> None:
    questions.history(3)
    questions.desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)

    assert questions.sweeper.sweep(FAMILY, full=True).end is SweepEnd.BUSY
    assert questions.calls == {}


def test_a_sweep_that_is_overtaken_stops_and_does_not_count_as_done(paged: Questions) -> None:
    paged.history(50)

    def overtake(request: LoggedRequest) -> None:
        if "pageNum=3" in request.query:
            paged.clock.advance(61 * SECOND)
            assert paged.desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY) is not None

    paged.sim.on_request(overtake)
    counts = paged.sweeper.sweep(FAMILY, full=True)

    assert (counts.end, counts.pages) == (SweepEnd.OVERTAKEN, 2)
    assert paged.desk.ledger.sweeps.memory(account=ACCOUNT, family=FAMILY).last_success_at is None


# --- what goes wrong ------------------------------------------------------------------------------------------------


def test_an_unavailable_page_is_requested_again(paged: Questions) -> None:
    paged.history(50)
    paged.sim.fault("list", faults.server_error(), match="pageNum=2", times=1)
    paged.sim.fault("list", faults.Html(), match="pageNum=4", times=PAGE_TRIES - 1)

    assert paged.sweeper.sweep(FAMILY, full=True).found == 50


def test_a_sweep_that_fails_keeps_what_it_read_and_gives_the_family_back(paged: Questions) -> None:
    paged.history(50)
    paged.sim.fault("list", faults.server_error(), match="pageNum=3")

    with pytest.raises(ApiServerError):
        paged.sweeper.sweep(FAMILY, full=True)

    assert len(paged.desk.rows("SELECT * FROM tasks")) == 20
    assert paged.sweeper.is_full_due(FAMILY)
    paged.sim.clear_faults()
    assert paged.sweeper.sweep(FAMILY, full=True).found == 30


def test_a_failure_of_the_account_is_not_retried_at_once(questions: Questions) -> None:
    questions.sim.fault("list", faults.ErrorCode(401, 1002))

    with pytest.raises(ApiCredentialsRefused):
        questions.sweeper.sweep(FAMILY, full=True)

    assert questions.calls == {"list": 1}


# --- missed callbacks ---------------------------------------------------------------------------------------------


def test_callbacks_that_never_came_are_counted_once_and_those_that_came_are_not(questions: Questions) -> None:
    questions.history(5, age=HOUR)  # finished before anybody was here
    questions.clock.advance(MINUTE)
    told = questions.history(3, status="processing")
    missed = questions.history(2, status="processing")
    for task_id in told + missed:
        questions.sim.succeed(task_id)
    questions.tell(*told)

    for _ in range(4):
        questions.sweeper.sweep(FAMILY, full=True)
        questions.clock.advance(PATIENCE)
        questions.desk.ledger.deadlines.count_missed(patience_ms=PATIENCE)

    assert questions.desk.ledger.views.status().missed_callbacks == {FAMILY: 2}


def test_a_callback_that_comes_within_the_interval_is_late_and_not_missed(questions: Questions) -> None:
    (task_id,) = questions.history(1, status="processing")
    questions.clock.advance(MINUTE)
    questions.sim.succeed(task_id)
    questions.sweeper.sweep(FAMILY, full=False)
    questions.archive_all()
    questions.clock.advance(PATIENCE - 1)
    questions.tell(task_id)
    questions.clock.advance(MINUTE)

    assert questions.desk.ledger.deadlines.count_missed(patience_ms=PATIENCE) == {}


# --- dry run --------------------------------------------------------------------------------------------------------


def forecast(questions: Questions, *, full: bool = True) -> SweepCounts:
    *_, counts = questions.sweeper.forecast(FAMILY, full=full, counted=CountedIds())
    return counts


def test_a_dry_run_says_what_a_sweep_would_bring_and_writes_nothing(questions: Questions) -> None:
    questions.sim.switches.purge_rows = False
    questions.history(2, age=40 * DAY)
    questions.history(3, status="failed")
    questions.history(4, status="processing")
    for _ in range(5):
        questions.sim.create_task(images=2, watermark=True, status="succeed")

    counts = forecast(questions)

    assert (counts.found, counts.passed_by, counts.to_archive, counts.files) == (12, 2, 5, 20)
    assert questions.desk.rows("SELECT * FROM tasks") == []
    assert questions.desk.rows("SELECT * FROM sweeps") == []
    assert questions.sweeper.sweep(FAMILY, full=True).found == 12


def test_a_dry_run_counts_what_is_known_but_not_in_the_bucket(questions: Questions) -> None:
    ids = questions.history(3)
    questions.sweeper.sweep(FAMILY, full=True)
    lease = questions.desk.claim_all(Stage.ARCHIVE, count=1)[0]
    questions.desk.ledger.outcomes.archived(lease, manifest_key="m", archived_at=0, stored=[])

    counts = forecast(questions)

    assert (counts.found, counts.to_archive, len(ids)) == (0, 2, 3)


def test_a_dry_run_counts_rows_that_shift_from_page_to_page_once(paged: Questions) -> None:
    paged.history(50, age=MINUTE)

    def push(request: LoggedRequest) -> None:
        if "pageNum=1" not in request.query:
            paged.sim.create_task()

    paged.sim.on_request(push)

    assert forecast(paged).to_archive == 50


def test_a_dry_run_remembers_no_more_ids_than_it_may() -> None:
    counted = CountedIds(ids_max=2)

    assert [counted.add(task_id) for task_id in ("a", "b", "a", "c", "c", "b")] == [
        True,
        True,
        False,
        True,
        True,
        False,
    ]


def test_a_dry_run_stops_where_a_sweep_would(paged: Questions) -> None:
    settled_history(paged)

    assert forecast(paged, full=False).pages == 2


def test_a_row_that_the_ledger_cannot_take_costs_no_other_row_of_its_page(
    questions: Questions, lines: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = questions.history(20)
    ledger, poison = questions.desk.ledger, ids[7]
    record = ledger.records.record

    def refuse(tasks: Sequence[Task], **named: Any) -> list[RecordedTask]:
        if poison in {task.task_id for task in tasks}:
            raise ValueError("a shape that no CHECK allows")
        return record(tasks, **named)

    monkeypatch.setattr(ledger.records, "record", refuse)
    counts = questions.sweeper.sweep(FAMILY, full=True)

    assert counts.found == 19
    assert questions.states(*(one for one in ids if one != poison)) == {State.SUCCEEDED}
    assert [line["task_id"] for line in lines if line["event"] == "task.unrecorded"] == [poison]
