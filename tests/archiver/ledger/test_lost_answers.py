"""Creates of the gateway whose answer and callback were lost, without an external id: only time can lead to their
tasks. A client is told where nothing else can have made the task, and else an operator is."""

import dataclasses
import re
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from archiver.ledger import DoubtedCreates
from archiver.ledger.gateway_creates import doubts, lost_answers
from archiver.ledger.gateway_creates.by_time import (
    AFTER_MS,
    CLOCKS_MS,
    GROUP_MAX,
    MADE_AFTER_MS,
    MATCHED_MS,
    PATIENCE_MS,
    UNSWEPT_MS,
    MatchDoubt,
)
from archiver.ledger.gateway_creates.doubts import TASKS_MAX
from archiver.ledger.gateway_creates.joining import JoinedBy
from archiver.ledger.gateway_creates.lost_answers import CREATES_MAX
from archiver.ledger.gateway_creates.registering import CreatedTask, GatewayCreate
from archiver.model import Callback, DiscoveredBy, Stage, State, Status
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, HOUR, MINUTE, SECOND, START, Desk, answer

URL = "https://app.example.com/cb"
OTHER_URL = "https://other.example.com/cb"


def create(reference: str = "r-1", url: str | None = URL, **fields: Any) -> GatewayCreate:
    known: dict[str, Any] = {"external_task_id": None, "request": {"prompt": "a fox"}} | fields
    return GatewayCreate(reference, ACCOUNT, FAMILY, client_callback_url=url, **known)


def begin(desk: Desk, *creates: GatewayCreate) -> None:
    desk.ledger.gateway_creates.commit(begun=creates or [create()])


def found(desk: Desk, task_id: str = "t", status: Status = Status.SUCCEEDED, **fields: Any) -> None:
    """The sweep finds this task."""
    fields = {"created_at": START + SECOND} | fields
    desk.say(answer(task_id, status, **fields), by=DiscoveredBy.SWEEP)


def swept(desk: Desk, family: str = FAMILY) -> None:
    """A sweep that begins now reads the whole list."""
    sweeps = desk.ledger.sweeps
    token = sweeps.begin(account=ACCOUNT, family=family)
    assert token is not None
    sweeps.end(token, succeeded_at=desk.clock(), full=False, oldest_first=False, last_page=None)


def pass_by(desk: Desk) -> None:
    """So long that another application would have shown itself, and then a sweep."""
    desk.clock.advance(MATCHED_MS)
    swept(desk)


def joined(desk: Desk) -> list[str]:
    matches, _ = desk.ledger.gateway_creates.match_by_time()
    assert {match.by for match in matches} <= {JoinedBy.TIME}
    return [match.task_id for match in matches]


def doubted(desk: Desk) -> list[tuple[MatchDoubt, int, tuple[str, ...]]]:
    matches, doubted_creates = desk.ledger.gateway_creates.match_by_time()
    assert matches == []
    return [(doubt.reason, doubt.count, doubt.task_ids) for doubt in doubted_creates]


def nothing_comes(desk: Desk) -> bool:
    return desk.ledger.gateway_creates.match_by_time() == ([], [])


def told(desk: Desk, task_id: str = "t") -> tuple[str | None, str | None]:
    row = desk.row(task_id)
    return row["client_callback_url"], row["request"]


def references(desk: Desk) -> dict[str, str]:
    rows = desk.rows("SELECT reference, state FROM gateway_creates ORDER BY reference")
    return {row["reference"]: row["state"] for row in rows}


# --- what is matched --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.ARCHIVED, State.FAILED, State.LOST])
def test_a_client_is_told_of_the_only_task_that_its_lost_create_can_have_made(
    desk: Desk, state: State
) -> None:
    begin(desk)
    found(desk, status=Status.FAILED if state is State.FAILED else Status.SUCCEEDED)
    if state is State.ARCHIVED:
        desk.archived(desk.claim(Stage.ARCHIVE))
    pass_by(desk)
    if state is State.LOST:
        desk.write("UPDATE tasks SET state = 'lost', reason = 'deadline_passed', succeeded_at = NULL")
    desk.reopen()

    assert joined(desk) == ["t"]
    assert joined(desk) == []

    assert told(desk) == (URL, None), "no manifest may have another's prompt"
    assert "task.joined" in [line["event"] for line in desk.shown()["history"]]
    assert references(desk) == {"r-1": "matched"}
    forwards = desk.rows("SELECT target, event, state FROM forwards")
    ended = (
        [] if state is State.SUCCEEDED else [{"target": "client", "event": str(state), "state": "waiting"}]
    )
    assert forwards == ended


def test_a_task_that_is_archived_after_its_match_is_told_then(desk: Desk) -> None:
    begin(desk)
    found(desk)
    pass_by(desk)
    assert joined(desk) == ["t"]

    desk.archived(desk.claim(Stage.ARCHIVE))

    (forward,) = desk.rows("SELECT target, event FROM forwards")
    assert forward == {"target": "client", "event": "archived"}


def test_several_lost_creates_of_one_application_share_the_tasks_of_their_time(desk: Desk) -> None:
    begin(desk, *(create(f"r-{number}") for number in range(3)))
    found(desk, "t-0", created_at=START)
    found(desk, "t-1", created_at=START + 1)
    pass_by(desk)

    assert joined(desk) == ["t-0", "t-1"]
    assert references(desk) == {"r-0": "matched", "r-1": "matched", "r-2": "open"}
    assert joined(desk) == []


def test_creates_of_two_applications_at_different_times_are_told_each_of_its_own(desk: Desk) -> None:
    begin(desk, create("r-1"))
    found(desk, "t-1", created_at=desk.clock() + SECOND)
    desk.clock.advance(MADE_AFTER_MS + CLOCKS_MS + 2 * SECOND)
    begin(desk, create("r-2", OTHER_URL))
    found(desk, "t-2", created_at=desk.clock() + SECOND)
    pass_by(desk)

    assert sorted(joined(desk)) == ["t-1", "t-2"]
    assert (told(desk, "t-1")[0], told(desk, "t-2")[0]) == (URL, OTHER_URL)


def test_tasks_whose_makers_are_known_do_not_stand_in_the_way(desk: Desk) -> None:
    """Of the gateway, whatever their clients; and those with an external id of another's."""
    answered = [create("r-2", OTHER_URL), create("r-3", None)]
    begin(desk, create(), *answered)
    desk.ledger.gateway_creates.commit(
        created=[CreatedTask(of, f"made-{number}") for number, of in enumerate(answered)]
    )
    found(desk, "made-0")
    found(desk, "made-1")
    found(desk, "with-id", external_task_id="theirs")
    found(desk, "elsewhere", family="images/omni-image")
    found(desk)
    pass_by(desk)

    assert joined(desk) == ["t"]


def test_a_task_of_the_new_standard_is_matched_after_a_sweep_of_its_collection(desk: Desk) -> None:
    begin(desk, dataclasses.replace(create(), family="tasks/video"))
    found(desk, family="tasks/video")
    pass_by(desk)
    assert joined(desk) == []
    swept(desk, "tasks/all")

    assert joined(desk) == ["t"]


# --- what waits -------------------------------------------------------------------------------------------------


def test_nothing_is_matched_before_a_sweep_that_began_an_hour_after_the_create(desk: Desk) -> None:
    begin(desk)
    found(desk)
    swept(desk)
    assert joined(desk) == []
    desk.clock.advance(MATCHED_MS - 1)
    swept(desk)
    assert joined(desk) == []
    desk.clock.advance(1)
    assert joined(desk) == []
    swept(desk)

    assert joined(desk) == ["t"]


def test_a_task_that_runs_is_left_to_its_callback_until_it_has_ended(desk: Desk) -> None:
    begin(desk)
    found(desk, status=Status.RUNNING)
    pass_by(desk)
    assert joined(desk) == []
    ended_at = desk.clock() + MINUTE
    desk.clock.advance(MINUTE)
    found(desk, updated_at=ended_at)
    desk.clock.advance(PATIENCE_MS - 1)
    assert joined(desk) == []
    desk.clock.advance(1)

    assert joined(desk) == ["t"]


def test_a_create_under_way_at_the_same_time_is_waited_for(desk: Desk) -> None:
    begin(desk)
    desk.clock.advance(AFTER_MS - PATIENCE_MS)
    found(desk, created_at=desk.clock())
    begin(desk, create("r-2", OTHER_URL))
    desk.clock.advance(MATCHED_MS - MINUTE)
    swept(desk)
    assert nothing_comes(desk)

    desk.ledger.gateway_creates.commit(created=[CreatedTask(create("r-2", OTHER_URL), "made")])

    assert joined(desk) == ["t"]


# --- what time does not prove -----------------------------------------------------------------------------------


def test_of_clients_with_different_urls_none_is_told(desk: Desk) -> None:
    begin(desk, create("r-1"), create("r-2", OTHER_URL))
    found(desk)
    pass_by(desk)

    assert doubted(desk) == [(MatchDoubt.CLIENTS, 2, ("t",))]
    assert doubted(desk) == []
    assert told(desk) == (None, None)
    assert "task.doubted" in [line["event"] for line in desk.shown()["history"]]


@pytest.mark.parametrize("without_url", ["nobody to be told", "Kling tells the client"])
def test_a_create_without_our_url_may_have_made_the_task_as_well(desk: Desk, without_url: str) -> None:
    begin(desk)
    if without_url == "nobody to be told":
        begin(desk, create("r-2", None))
    else:
        desk.ledger.gateway_creates.abandon(create("r-2"))
    found(desk)
    pass_by(desk)

    assert doubted(desk) == [(MatchDoubt.CLIENTS, 1, ("t",))]


def test_more_tasks_than_lost_creates_are_another_applications_in_part(desk: Desk) -> None:
    begin(desk)
    found(desk, "t-1")
    found(desk, "t-2")
    pass_by(desk)

    assert doubted(desk) == [(MatchDoubt.TASKS, 1, ("t-1", "t-2"))]


def test_three_tasks_of_which_one_create_would_have_made_two_are_not_explained(desk: Desk) -> None:
    begin(desk, create("r-1"))
    found(desk, "t-1", created_at=START)
    found(desk, "t-2", created_at=START + 1)
    desk.clock.advance(6 * MINUTE)
    begin(desk, create("r-2"), create("r-3"))
    found(desk, "t-3", created_at=START + 6 * MINUTE)
    pass_by(desk)

    assert doubted(desk) == [(MatchDoubt.TASKS, 3, ("t-1", "t-2", "t-3"))]


STRANGERS: dict[str, dict[str, Any]] = {
    "a day before": {"created_at": START - DAY + SECOND},
    "a day after": {"created_at": START + DAY},
    "outside of any create's time": {"created_at": START - CLOCKS_MS - 1},
}


@pytest.mark.parametrize("when", STRANGERS)
def test_an_application_that_creates_past_the_gateway_may_have_made_the_task(desk: Desk, when: str) -> None:
    begin(desk)
    found(desk)
    desk.clock.advance(DAY)
    found(desk, "strange", **STRANGERS[when])
    swept(desk)

    assert doubted(desk) == [(MatchDoubt.APPLICATIONS, 1, ("t",))]


def test_a_callback_without_a_reference_shows_another_application(desk: Desk) -> None:
    begin(desk)
    found(desk)
    desk.tell("strange")
    found(desk, "strange")
    pass_by(desk)

    assert doubted(desk) == [(MatchDoubt.APPLICATIONS, 1, ("t",))]


@pytest.mark.parametrize("known_by", ["callback", "registration"])
def test_a_task_that_its_maker_has_named_is_not_matched(desk: Desk, known_by: str) -> None:
    begin(desk)
    if known_by == "callback":
        desk.tell()
    else:
        desk.ledger.registrations.register("t", account=ACCOUNT, family=FAMILY)
    found(desk)
    pass_by(desk)

    assert nothing_comes(desk)
    assert told(desk) == (None, None)


def test_an_application_of_long_ago_does_not_count(desk: Desk) -> None:
    begin(desk)
    found(desk)
    desk.clock.advance(2 * DAY)
    found(desk, "before", created_at=START - DAY)
    found(desk, "after", created_at=START + DAY + 2 * SECOND)
    swept(desk)

    assert joined(desk) == ["t"]


def test_a_create_that_kling_answered_with_an_error_is_matched_with_nothing(desk: Desk) -> None:
    begin(desk)
    desk.ledger.gateway_creates.commit(answered=["r-1"])
    found(desk)
    pass_by(desk)

    assert nothing_comes(desk)
    desk.ledger.callbacks.record([Callback(ACCOUNT, "t", Status.SUCCEEDED, FAMILY, create_reference="r-1")])
    assert told(desk)[0] == URL


def test_tasks_of_another_time_account_or_unknown_time_are_not_matched(desk: Desk) -> None:
    begin(desk)
    found(desk, "early", created_at=START - CLOCKS_MS - 1)
    found(desk, "timeless", created_at=None, updated_at=START + SECOND)
    desk.ledger.records.record(
        [answer("theirs", created_at=START)], account="eu", discovered_by=DiscoveredBy.SWEEP, rand=0.5
    )
    pass_by(desk)
    found(desk, "late", created_at=START + MADE_AFTER_MS + 1)

    assert nothing_comes(desk)


def test_of_another_applications_tasks_in_an_outage_none_goes_to_the_gateways_client(desk: Desk) -> None:
    for number in range(30):
        begin(desk, create(f"r-{number}"))
        if number % 6 == 0:
            found(desk, f"direct-{number}", created_at=desk.clock() + SECOND)
        desk.clock.advance(2 * MINUTE)
    pass_by(desk)

    ((doubt, _, ids),) = doubted(desk)
    assert doubt is MatchDoubt.FEW
    assert ids == tuple(f"direct-{number}" for number in range(0, 30, 6))


def test_creates_without_any_task_count_for_the_outage_though_they_share_none(desk: Desk) -> None:
    begin(desk)
    found(desk)
    for number in range(2):
        desk.clock.advance(30 * MINUTE)
        begin(desk, create(f"barren-{number}"))
    pass_by(desk)

    assert doubted(desk) == [(MatchDoubt.FEW, 1, ("t",))]


def test_an_application_that_goes_on_within_the_hour_shows_itself(desk: Desk) -> None:
    begin(desk)
    found(desk)
    desk.clock.advance(MATCHED_MS)
    found(desk, "next", created_at=desk.clock() - MINUTE)
    swept(desk)

    assert doubted(desk) == [(MatchDoubt.APPLICATIONS, 1, ("t",))]


@pytest.mark.parametrize("skew_ms", [-CLOCKS_MS, CLOCKS_MS])
def test_a_clock_that_is_wrong_by_less_than_the_daemon_warns_of_hides_no_task(
    desk: Desk, skew_ms: int
) -> None:
    begin(desk)
    found(desk, created_at=START + skew_ms)
    pass_by(desk)

    assert joined(desk) == ["t"]


@pytest.mark.parametrize("number", [0, CREATES_MAX])
def test_creates_that_have_made_nothing_do_not_keep_another_from_its_turn(desk: Desk, number: int) -> None:
    """Neither those before it nor those after it."""
    begin(desk, *(create(f"before-{one:03}") for one in range(number)), create("elsewhere"))
    desk.clock.advance(2 * HOUR)
    begin(desk)
    found(desk, created_at=desk.clock())
    desk.clock.advance(2 * HOUR)
    begin(desk, *(create(f"after-{one:03}") for one in range(CREATES_MAX)))
    pass_by(desk)

    rounds = [joined(desk) for _ in range(2)]

    assert [task_id for round_ in rounds for task_id in round_] == ["t"]


@pytest.mark.parametrize("what", ["creates", "tasks"])
def test_a_group_that_is_too_large_is_doubted_and_names_some_of_its_tasks(desk: Desk, what: str) -> None:
    creates = GROUP_MAX + 1 if what == "creates" else 1
    tasks = GROUP_MAX + 1 if what == "tasks" else 1
    begin(desk, *(create(f"r-{number:02}") for number in range(creates)))
    for number in range(tasks):
        found(desk, f"t-{number:02}", created_at=START)
    pass_by(desk)

    ((doubt, count, ids),) = doubted(desk)

    assert (doubt, count, len(ids)) == (MatchDoubt.MANY, creates, min(tasks, TASKS_MAX))
    lines = desk.rows("SELECT count(*) AS n FROM history WHERE event = 'task.doubted'")
    assert lines == [{"n": len(ids)}]
    assert nothing_comes(desk)


def test_where_there_are_too_many_tasks_to_be_read_creates_are_doubted_at_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_answers, "TASKS_MAX", 2)
    begin(desk)
    found(desk, "t-1")
    found(desk, "t-2")
    desk.clock.advance(DAY)
    found(desk, "t-3", created_at=desk.clock())
    swept(desk)

    assert doubted(desk) == [(MatchDoubt.MANY, 1, ("t-1", "t-2"))]
    assert nothing_comes(desk)


@pytest.mark.parametrize("limit", ["SCANNED_MAX", "MAKERS_MAX"])
def test_the_same_holds_for_all_tasks_and_for_creates(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(lost_answers, limit, 1)
    begin(desk, create("r-1"), create("r-2"))
    found(desk, "t-1")
    found(desk, "t-2")
    pass_by(desk)

    ((doubt, count, _),) = doubted(desk)
    assert (doubt, count) == (MatchDoubt.MANY, 2)


def test_a_task_that_does_not_end_puts_the_others_of_its_time_in_doubt_until_it_does(desk: Desk) -> None:
    begin(desk, create("r-1"), create("r-2"))
    found(desk, "t-1")
    found(desk, "stuck", Status.RUNNING)
    desk.clock.advance(MATCHED_MS + UNSWEPT_MS - 1)
    swept(desk)
    assert nothing_comes(desk)
    desk.clock.advance(1)
    assert doubted(desk) == [(MatchDoubt.UNDECIDED, 2, ("t-1", "stuck"))]
    assert nothing_comes(desk)

    desk.ledger.acknowledgements.acknowledge(["t-1"], account=ACCOUNT)
    found(desk, "late", Status.RUNNING, created_at=START + 2 * SECOND)
    assert doubted(desk) == [(MatchDoubt.UNDECIDED, 0, ("late",))], "only what is new"
    unseen = "SELECT count(*) AS n FROM gateway_creates WHERE unseen_since IS NOT NULL"
    assert desk.rows(unseen) == [{"n": 0}], "still acknowledged"
    desk.ledger.callbacks.record([Callback(ACCOUNT, "late", Status.RUNNING, FAMILY, create_reference="r-x")])
    desk.ledger.tombstones.forget("late", account=ACCOUNT)

    found(desk, "stuck", updated_at=desk.clock())
    desk.clock.advance(PATIENCE_MS)

    assert sorted(joined(desk)) == ["stuck", "t-1"]


def test_creates_that_follow_each_other_without_a_pause_are_doubted_all_the_same(desk: Desk) -> None:
    heard = 0
    for number in range(40):
        begin(desk, create(f"r-{number}"))
        found(desk, f"d-{number}", created_at=desk.clock() + SECOND)
        desk.clock.advance(4 * MINUTE)
        swept(desk)
        heard += sum(count for _, count, _ in doubted(desk))
    assert heard == 11, "those sent two hours ago or earlier"


def test_a_write_is_short_and_the_next_round_goes_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubts, "WRITTEN_MAX", 2)
    for number in range(5):
        begin(desk, create(f"r-{number}"))
        found(desk, f"t-{number}", created_at=desk.clock())
        desk.clock.advance(30 * MINUTE)
    pass_by(desk)

    assert [joined(desk) for _ in range(4)] == [["t-0", "t-1"], ["t-2", "t-3"], ["t-4"], []]


@pytest.mark.sqlite_only("the same statements on both")
def test_more_creates_and_tasks_take_no_more_statements(desk: Desk) -> None:
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    counts = []
    for number in (2, 40):
        begin(desk, *(create(f"{number}-{one}") for one in range(number)))
        for one in range(number + 1):
            found(desk, f"{number}-t-{one}", created_at=desk.clock())
        pass_by(desk)
        statements.clear()
        event.listen(sa.Engine, "before_cursor_execute", note)
        try:
            ((doubt, _, _),) = doubted(desk)
        finally:
            event.remove(sa.Engine, "before_cursor_execute", note)
        assert doubt is MatchDoubt.TASKS
        counts.append(len(statements))
        desk.clock.advance(3 * DAY)
    assert counts[0] == counts[1] < 30


def test_a_create_that_no_sweep_follows_is_in_doubt_after_an_hour(desk: Desk) -> None:
    begin(desk)
    desk.clock.advance(AFTER_MS + UNSWEPT_MS - 1)
    assert doubted(desk) == []
    desk.clock.advance(1)
    assert doubted(desk) == [(MatchDoubt.UNSWEPT, 1, ())]
    swept(desk)
    assert doubted(desk) == []
    assert desk.rows("SELECT doubt, unseen_since FROM gateway_creates") == [
        {"doubt": None, "unseen_since": None}
    ]


# --- what comes after -------------------------------------------------------------------------------------------


def test_a_late_callback_is_believed_more_than_time(desk: Desk) -> None:
    begin(desk)
    found(desk)
    pass_by(desk)
    assert joined(desk) == ["t"]

    for task_id in ("t", "mine", "mine"):
        callback = Callback(ACCOUNT, task_id, Status.SUCCEEDED, FAMILY, create_reference="r-1")
        desk.ledger.callbacks.record([callback])

    assert told(desk) == (URL, None)
    assert told(desk, "mine") == (URL, '{"prompt": "a fox"}')
    assert references(desk) == {}


def test_a_late_registration_completes_what_time_has_matched(desk: Desk) -> None:
    begin(desk)
    found(desk)
    pass_by(desk)
    assert joined(desk) == ["t"]

    assert desk.ledger.gateway_creates.commit(created=[CreatedTask(create(), "t")]) == [False]

    assert told(desk) == (URL, '{"prompt": "a fox"}')
    assert references(desk) == {}


def test_a_doubt_is_not_judged_again_when_a_callback_has_settled_one_of_two_clients(desk: Desk) -> None:
    begin(desk, create("r-1"), create("r-2", OTHER_URL))
    found(desk, "t-1")
    found(desk, "t-2")
    pass_by(desk)
    assert doubted(desk) == [(MatchDoubt.CLIENTS, 2, ("t-1", "t-2"))]

    callback = Callback(ACCOUNT, "t-1", Status.SUCCEEDED, FAMILY, create_reference="r-2")
    desk.ledger.callbacks.record([callback])

    assert nothing_comes(desk)
    assert told(desk, "t-1")[0] == OTHER_URL
    callback = Callback(ACCOUNT, "t-2", Status.SUCCEEDED, FAMILY, create_reference="r-1")
    desk.ledger.callbacks.record([callback])
    assert told(desk, "t-2")[0] == URL


def test_a_forgotten_task_is_matched_with_nothing(desk: Desk) -> None:
    begin(desk)
    found(desk)
    pass_by(desk)
    desk.ledger.tombstones.forget("t", account=ACCOUNT)

    assert nothing_comes(desk)


@pytest.mark.parametrize("is_certain", [True, False])
def test_forgetting_a_task_forgets_the_prompts_of_the_creates_that_may_have_made_it(
    desk: Desk, is_certain: bool
) -> None:
    begin(desk, create("r-1"), *([] if is_certain else [create("r-2", OTHER_URL)]))
    found(desk)
    pass_by(desk)
    desk.ledger.gateway_creates.match_by_time()

    desk.ledger.tombstones.forget("t", account=ACCOUNT)

    rows = desk.rows("SELECT request, client_callback_url FROM gateway_creates ORDER BY reference")
    assert {row["request"] for row in rows} == {None}
    assert rows[0]["client_callback_url"] == URL, "its own task may still be found by its callback"


def test_old_matches_are_dropped_and_are_not_given_up(desk: Desk) -> None:
    begin(desk)
    found(desk)
    pass_by(desk)
    assert joined(desk) == ["t"]
    desk.clock.advance(7 * DAY + HOUR)

    assert desk.ledger.gateway_creates.prune() == []
    assert references(desk) == {}


@pytest.mark.sqlite_only("how SQLite goes about it")
def test_a_look_at_lost_answers_reads_the_tasks_of_a_time_and_not_all(desk: Desk) -> None:
    begin(desk)
    found(desk)
    found(desk, "doubted", created_at=START + 1)
    pass_by(desk)
    statements: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith("SELECT"):
            statements.append((statement, parameters))

    event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        desk.ledger.gateway_creates.match_by_time()
        desk.ledger.gateway_creates.commit(refused=["r-1"], begun=[create("r-2"), create("r-3")])
        pass_by(desk)
        desk.write("UPDATE gateway_creates SET created_at = created_at - ?", MATCHED_MS)
        assert joined(desk) == ["doubted", "t"]
    finally:
        event.remove(sa.Engine, "before_cursor_execute", note)

    plans = {
        row["detail"]
        for statement, parameters in statements
        for row in desk.rows(f"EXPLAIN QUERY PLAN {statement}", *parameters)
        if re.match(r"(SCAN|SEARCH) (tasks|gateway_creates)", row["detail"])
    }
    columns = "account=? AND family=? AND state=? AND deadline_at>? AND deadline_at<?"
    assert f"SEARCH tasks USING INDEX tasks_by_family ({columns})" in plans
    scans = [plan for plan in plans if plan.startswith("SCAN")]
    assert scans == []


def test_what_is_doubted_says_whose_it_is(desk: Desk) -> None:
    begin(desk, create("r-1"), create("r-2", OTHER_URL))
    found(desk)
    pass_by(desk)

    _, doubted_creates = desk.ledger.gateway_creates.match_by_time()

    assert doubted_creates == [DoubtedCreates(ACCOUNT, FAMILY, MatchDoubt.CLIENTS, 2, ("t",))]
