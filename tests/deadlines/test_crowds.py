"""Tasks that cannot be archived, beside healthy ones. `make torture` has the same with thousands."""

import pytest

from archiver.model import State
from tests.deadlines.crowds import (
    SLOTS_OF_FIRST_TRIES,
    Order,
    banned,
    hold_storm,
    hopeless_crowd,
    lost_videos,
)

SLACK_SECONDS = 10


def test_a_healthy_task_behind_a_crowd_of_hopeless_ones_is_archived_as_soon_as_if_alone() -> None:
    alone = hopeless_crowd(0, 20, Order.ALONE)

    waits = hopeless_crowd(80, 20, Order.HOPELESS_FIRST)

    assert waits.archived == 20
    assert waits.longest <= alone.longest + SLACK_SECONDS


@pytest.mark.parametrize("order", [Order.HEALTHY_FIRST, Order.MIXED])
def test_healthy_tasks_that_come_with_a_crowd_wait_at_most_for_its_first_tries(order: Order) -> None:
    alone = hopeless_crowd(0, 20, Order.ALONE)

    waits = hopeless_crowd(80, 20, order)

    assert waits.archived == 20
    assert waits.longest <= alone.longest + 80 / SLOTS_OF_FIRST_TRIES + SLACK_SECONDS


def test_lost_videos_on_a_dripping_host_make_no_other_task_lost() -> None:
    figures = lost_videos(40, 20, hours=1, fresh_per_second=0.02)

    assert figures.near_in_time == 20
    assert figures.fresh.archived == figures.fresh.tasks
    assert figures.fresh.median <= SLACK_SECONDS


@pytest.mark.parametrize(("kind", "hours"), [("forbidden", 1.0), ("html", 1.0)])
def test_a_host_that_refuses_everything_for_an_hour_buries_no_task_and_delays_all_by_no_more_than_that(
    kind: str, hours: float
) -> None:
    during = banned(20, kind=kind, hours=hours, hours_after=-0.05)
    after = banned(20, kind=kind, hours=hours, hours_after=0.2)
    healthy = banned(20, kind=kind, hours=0, hours_after=hours)

    assert during.states[State.SUCCEEDED] == 20
    assert after.states[State.ARCHIVED] == 20
    assert after.longest <= 60
    # each of twelve sweeps an hour reads a page more; fresh URLs are asked for until the host is found out, not after
    assert during.api_calls <= healthy.api_calls + 12 * hours + 10


def test_tasks_that_each_set_a_hold_of_the_account_delay_the_healthy_ones_beside_them_by_seconds() -> None:
    waits = hold_storm(20, 60)

    assert waits.archived == 60
    assert waits.median <= SLACK_SECONDS
