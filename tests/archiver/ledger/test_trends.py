"""What the console's charts show, without a look at the tasks."""

import pytest

from archiver.ledger.status import trends
from archiver.model import State
from tests.harness.ledgers import DAY, HOUR, START, Desk, answer

FIRST_HOUR = START // HOUR * HOUR


def hours(desk: Desk) -> list[tuple[int, int]]:
    """Hours since the first, and how many tasks were archived in each."""
    return [
        ((view.hour_at - FIRST_HOUR) // HOUR, view.archived) for view in desk.ledger.trends.charts().hours
    ]


def test_an_hour_counts_the_tasks_archived_in_it_also_while_no_daemon_looked(desk: Desk) -> None:
    assert hours(desk) == []
    desk.bring(State.ARCHIVED, "before")
    desk.ledger.trends.note_hour()
    assert hours(desk) == [(0, 0)]

    desk.bring(State.ARCHIVED, "a")
    desk.bring(State.ARCHIVED, "b")
    desk.ledger.trends.note_hour()  # of the same hour: nothing new
    desk.clock.advance(HOUR)
    desk.ledger.trends.note_hour()
    desk.bring(State.ARCHIVED, "c")
    desk.clock.advance(3 * HOUR)  # no daemon runs
    assert hours(desk) == [(0, 2), (1, 1), (2, 0), (3, 0), (4, 0)]

    desk.ledger.trends.note_hour()
    desk.bring(State.ARCHIVED, "d")
    assert hours(desk) == [(0, 2), (1, 1), (2, 0), (3, 0), (4, 1)]


def test_a_day_has_24_hours_and_old_hours_are_dropped(desk: Desk) -> None:
    for _ in range(200):
        desk.ledger.trends.note_hour()
        desk.clock.advance(HOUR)
    desk.ledger.trends.note_hour()

    assert [hour for hour, _ in hours(desk)] == list(range(177, 201))
    assert len(desk.rows("SELECT hour_at FROM hourly_counts")) == 8 * 24 + 1


def test_hours_of_a_clock_that_was_set_back_are_dropped(desk: Desk) -> None:
    desk.clock.advance(DAY)
    desk.ledger.trends.note_hour()
    desk.clock.advance(-DAY)
    assert hours(desk) == []

    desk.ledger.trends.note_hour()

    assert [row["hour_at"] for row in desk.rows("SELECT hour_at FROM hourly_counts")] == [FIRST_HOUR]


def test_the_nearest_deadlines_are_those_of_tasks_that_are_not_in_the_bucket(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.bring(State.FAILED, "failed")
    desk.bring(State.ARCHIVED, "archived")
    desk.bring(State.BURIED, "buried")
    desk.bring(State.REPORTED, "reported")
    for days in (3, 1, 2):
        desk.say(answer(f"t{days}", created_at=START - days * DAY))

    nearest = desk.ledger.trends.charts().deadlines

    assert [(at - START) // DAY for at in nearest] == [27, 28, 29, 30]
    monkeypatch.setattr(trends, "DEADLINES_MAX", 2)
    assert desk.ledger.trends.charts().deadlines == nearest[:2]
