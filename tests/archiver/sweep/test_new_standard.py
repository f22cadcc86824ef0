"""The sweep of `/tasks` and `/solutions` finds what no callback named, and no list below `/v1/` shows."""

import sqlite3
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from structlog.typing import EventDict

from archiver.model import Stage, State
from archiver.sweep.counts import SweepEnd
from archiver.sweep.dry_run import DryRun
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, HOUR, MINUTE, SECOND
from tests.harness.questions import Questions
from tests.simulator import LoggedRequest

pytestmark = pytest.mark.usefixtures("lines")

VIDEO, SOLUTION, TASKS, SOLUTIONS = "tasks/video", "solutions/virtual_try_on", "tasks/all", "solutions/all"


@pytest.fixture
def questions(open_account: Callable[..., Questions]) -> Questions:
    """An account whose four image families are configured."""
    return open_account()


def events(lines: list[EventDict], name: str) -> list[EventDict]:
    return [line for line in lines if line["event"] == name]


def test_the_sweep_of_tasks_finds_videos_where_a_video_family_is_configured(
    open_account: Callable[..., Questions],
) -> None:
    questions = open_account(FAMILY, VIDEO)
    ids = questions.history(3, family=VIDEO)
    counts = questions.sweeper.sweep(TASKS, full=True)

    assert (counts.end, counts.found, counts.rows) == (SweepEnd.FINISHED, 3, 3)
    assert questions.states(*ids) == {State.SUCCEEDED}
    assert questions.desk.shown(ids[0])["discovered_by"] == "sweep"


def test_the_sweep_of_tasks_passes_by_what_no_configured_family_makes(questions: Questions) -> None:
    questions.history(3, family=VIDEO)
    questions.history(1, family="audio/text-to-audio")
    questions.history(1, family=VIDEO, status="failed")
    counts = questions.sweeper.sweep(TASKS, full=True)

    assert (counts.found, counts.rows) == (0, 5)
    assert questions.desk.rows("SELECT * FROM tasks") == []


def test_a_legacy_task_that_the_sweep_of_tasks_finds_is_read_by_its_own_path(questions: Questions) -> None:
    task_id = questions.sim.create_task(images=2, indexes=[4, 2], status="succeed")
    counts = questions.sweeper.sweep(TASKS, full=True)
    assert (counts.found, questions.states(task_id)) == (1, {State.REPORTED})
    questions.verify_all()

    shown = questions.desk.shown(task_id)
    (lease,) = questions.desk.claim_all(Stage.ARCHIVE)
    assert (shown["state"], shown["family"], shown["discovered_by"]) == ("succeeded", FAMILY, "sweep")
    assert lease.document["task_id"] == task_id
    assert [asset.asset.index for asset in lease.assets] == [4, 2]


@pytest.mark.parametrize("family", [VIDEO, FAMILY])
def test_the_sweep_of_tasks_brings_back_an_id_that_was_given_up(questions: Questions, family: str) -> None:
    questions.tell("930810057590833241", family=None)
    for _ in range(20):
        questions.verify_all()
        questions.clock.advance(MINUTE)
    assert questions.states("930810057590833241") == {State.UNKNOWN}
    questions.sim.create_task(family=family, task_id="930810057590833241", status="succeed")
    questions.sweeper.sweep(TASKS, full=True)
    questions.verify_all()

    # Videos are not configured, but a callback's task is archived whatever its family.
    assert questions.states("930810057590833241") == {State.SUCCEEDED}


@pytest.mark.parametrize("window_time", ["created_at", "updated_at"])
def test_a_task_that_ran_at_one_sweep_is_found_finished_by_a_later_one(
    open_account: Callable[..., Questions], window_time: str
) -> None:
    questions = open_account(VIDEO)
    questions.sim.switches.window_time = "created_at" if window_time == "created_at" else "updated_at"
    task_id = questions.sim.create_task(family=VIDEO)
    questions.sweeper.sweep(TASKS, full=True)
    questions.clock.advance(5 * HOUR)
    questions.sweeper.sweep(TASKS, full=False)
    questions.sim.succeed(task_id)
    questions.clock.advance(5 * MINUTE)
    questions.sweeper.sweep(TASKS, full=False)

    assert questions.states(task_id) == {State.SUCCEEDED}


@pytest.mark.parametrize("order", ["newest_first", "oldest_first", "shuffled"])
@pytest.mark.parametrize("cursor_pages", [None, 2])
@pytest.mark.parametrize("bounds", [(True, True), (False, False)])
def test_neither_order_nor_bounds_nor_the_life_of_a_cursor_cost_a_task(
    open_account: Callable[..., Questions],
    order: str,
    cursor_pages: int | None,
    bounds: tuple[bool, bool],
) -> None:
    questions = open_account(VIDEO)
    switches = questions.sim.switches
    switches.list_order = order  # type: ignore[assignment]  # one of its words
    switches.cursor_pages_max, switches.window_bounds, switches.list_page_rows_max = cursor_pages, bounds, 10
    ids = questions.history(50, family=VIDEO, age=MINUTE)
    counts = questions.sweeper.sweep(TASKS, full=True)

    assert counts.found == 50
    assert questions.states(*ids) == {State.SUCCEEDED}


def test_an_incremental_sweep_of_tasks_reads_hours_and_not_days(
    open_account: Callable[..., Questions],
) -> None:
    questions = open_account(VIDEO)
    questions.sim.switches.list_page_rows_max = 10
    questions.history(100, family=VIDEO, age=2 * DAY)
    assert questions.sweeper.sweep(TASKS, full=True).pages == 10
    questions.clock.advance(5 * MINUTE)

    assert questions.sweeper.sweep(TASKS, full=False).pages == 1
    assert questions.sweeper.is_full_due(TASKS) is False


def test_a_clock_hours_ahead_of_the_apis_keeps_no_task_from_an_incremental_sweep(
    open_account: Callable[..., Questions],
) -> None:
    questions = open_account(VIDEO)
    questions.ahead_ms = 8 * HOUR
    questions.sweeper.sweep(TASKS, full=True)
    task_id = questions.sim.create_task(family=VIDEO, status="succeed")
    questions.clock.advance(5 * MINUTE)

    assert questions.sweeper.sweep(TASKS, full=False).found == 1
    assert questions.states(task_id) == {State.SUCCEEDED}


@pytest.mark.parametrize("family", [FAMILY, VIDEO])
def test_a_page_of_more_rows_than_were_asked_for_fails_no_sweep(
    open_account: Callable[..., Questions], family: str
) -> None:
    def keep_small(_: object, cursor: sqlite3.Cursor, statement: str, *__: object) -> None:
        # So that it needs no page of 250,000. SQLAlchemy itself splits what inserts many rows.
        limit = 32_766 if statement.startswith("INSERT") else 600
        cursor.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, limit)

    questions = open_account(FAMILY, VIDEO)
    questions.sim.switches.limit_ignored = True
    questions.history(700, family=family)
    event.listen(sa.Engine, "before_cursor_execute", keep_small)
    try:
        counts = questions.sweeper.sweep(TASKS, full=True)
    finally:
        event.remove(sa.Engine, "before_cursor_execute", keep_small)

    assert (counts.end, counts.pages, counts.found) == (SweepEnd.FINISHED, 1, 700)


def test_a_task_that_is_too_old_is_passed_by(open_account: Callable[..., Questions]) -> None:
    questions = open_account(VIDEO)
    questions.sim.switches.purge_rows = False
    questions.sim.switches.window_time = "updated_at"
    old = questions.sim.create_task(family=VIDEO, created_at=questions.clock() - 31 * DAY)
    questions.sim.succeed(old)
    counts = questions.sweeper.sweep(TASKS, full=True)

    assert (counts.passed_by, counts.found) == (1, 0)
    assert questions.desk.rows("SELECT * FROM tasks") == []


def test_an_unreadable_row_is_logged_and_fails_no_page(
    open_account: Callable[..., Questions], lines: list[EventDict]
) -> None:
    questions = open_account(VIDEO)
    broken, sound = questions.history(2, family=VIDEO)
    questions.sim.override(broken, {"id": broken, "status": "odd"})
    counts = questions.sweeper.sweep(TASKS, full=True)

    assert (counts.malformed, counts.found) == (1, 1)
    assert questions.states(sound) == {State.SUCCEEDED}
    assert [line["count"] for line in events(lines, "sweep.row_skipped")] == [1]


def test_the_sweep_of_solutions_finds_them_under_their_name(open_account: Callable[..., Questions]) -> None:
    questions = open_account(FAMILY, SOLUTION)
    questions.sim.switches.tasks_show = frozenset({"legacy", "new", "solution"})
    finished, running = (
        questions.history(1, family=SOLUTION),
        questions.history(1, family=SOLUTION, status="processing"),
    )
    questions.clock.advance(SECOND)
    for name in (SOLUTIONS, TASKS):
        questions.sweeper.sweep(name, full=True)
    questions.verify_all()

    assert (questions.states(*finished), questions.states(*running)) == ({State.SUCCEEDED}, {State.RUNNING})
    assert questions.desk.shown(finished[0])["family"] == SOLUTION


@pytest.mark.parametrize("name", [TASKS, SOLUTIONS])
def test_an_empty_window_has_no_row_and_no_warning(
    open_account: Callable[..., Questions], name: str, lines: list[EventDict]
) -> None:
    questions = open_account(FAMILY, SOLUTION)

    counts = questions.sweeper.sweep(name, full=True)

    assert (counts.end, counts.rows, counts.malformed) == (SweepEnd.FINISHED, 0, 0)
    assert [line for line in lines if line["log_level"] in ("warning", "error")] == []


def test_a_dry_run_counts_a_task_once_though_list_and_tasks_show_it(questions: Questions) -> None:
    questions.history(3)
    run = DryRun(questions.sweeper, (FAMILY, TASKS), is_full=True)
    for _ in run.pages():
        pass

    assert [forecast.counts.to_archive for forecast in run.forecasts] == [3, 0]
    assert [forecast.counts.files for forecast in run.forecasts] == [3, 0]
    assert questions.desk.rows("SELECT * FROM tasks") == []


def test_a_sweep_that_is_overtaken_stops_and_says_so(open_account: Callable[..., Questions]) -> None:
    questions = open_account(VIDEO)
    questions.sim.switches.list_page_rows_max = 1
    questions.history(3, family=VIDEO)

    def overtake(_request: LoggedRequest) -> None:
        if questions.sim.requests["tasks"] == 2:
            questions.clock.advance(2 * MINUTE)
            questions.desk.ledger.sweeps.begin(account=ACCOUNT, family=TASKS)

    questions.sim.on_request(overtake)
    assert questions.sweeper.sweep(TASKS, full=True).end is SweepEnd.OVERTAKEN


def test_a_callback_that_the_sweep_was_faster_than_is_missed_only_if_it_never_comes(
    open_account: Callable[..., Questions],
) -> None:
    questions = open_account(VIDEO)
    heard, unheard = questions.sim.create_task(family=VIDEO), questions.sim.create_task(family=VIDEO)
    questions.clock.advance(MINUTE)
    for task_id in (heard, unheard):
        questions.sim.succeed(task_id)
    questions.sweeper.sweep(TASKS, full=True)
    questions.tell(heard, family=VIDEO)
    questions.clock.advance(5 * MINUTE)

    assert questions.desk.ledger.deadlines.count_missed(patience_ms=5 * MINUTE) == {(ACCOUNT, VIDEO): 1}
