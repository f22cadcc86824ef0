"""Judging lost answers costs little, however many creates and tasks there are."""

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from archiver.ledger.gateway_creates import doubts, lost_answers
from archiver.ledger.gateway_creates.by_time import (
    GROUP_MAX,
    MatchDoubt,
)
from archiver.ledger.gateway_creates.doubts import TASKS_MAX
from archiver.ledger.gateway_creates.lost_answers import CREATES_MAX
from tests.harness.ledgers import DAY, HOUR, MINUTE, START, Desk
from tests.harness.lost_answers import begin, create, doubted, found, joined, nothing_comes, pass_by, swept


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
