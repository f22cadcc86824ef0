"""Creates of the gateway whose answers and callbacks were lost, without an external id: by their times alone they are
matched with tasks that nothing else can have made."""

import dataclasses

import pytest

from archiver.ledger.gateway_creates.by_time import (
    AFTER_MS,
    CLOCKS_MS,
    MADE_AFTER_MS,
    MATCHED_MS,
    PATIENCE_MS,
)
from archiver.ledger.gateway_creates.registering import CreatedTask
from archiver.model import Stage, State, Status
from tests.harness.ledgers import MINUTE, SECOND, START, Desk
from tests.harness.lost_answers import (
    OTHER_URL,
    URL,
    begin,
    create,
    found,
    joined,
    nothing_comes,
    pass_by,
    references,
    swept,
    told,
)


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


@pytest.mark.parametrize("skew_ms", [-CLOCKS_MS, CLOCKS_MS])
def test_a_clock_that_is_wrong_by_less_than_the_daemon_warns_of_hides_no_task(
    desk: Desk, skew_ms: int
) -> None:
    begin(desk)
    found(desk, created_at=START + skew_ms)
    pass_by(desk)

    assert joined(desk) == ["t"]
