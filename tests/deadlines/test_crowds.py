"""Tasks that cannot be archived, beside healthy ones. `make torture` has the same with thousands."""

import pytest

from tests.deadlines.crowds import (
    SLOTS_OF_FIRST_TRIES,
    Order,
    hopeless_crowd,
    lost_videos,
)

SLACK_SECONDS = 10


def test_a_healthy_task_behind_a_crowd_of_hopeless_ones_is_archived_as_soon_as_if_alone() -> None:
    alone = hopeless_crowd(0, 20, Order.ALONE)

    waits = hopeless_crowd(200, 20, Order.HOPELESS_FIRST)

    assert waits.archived == 20
    assert waits.longest <= alone.longest + SLACK_SECONDS


@pytest.mark.parametrize("order", [Order.HEALTHY_FIRST, Order.MIXED])
def test_healthy_tasks_that_come_with_a_crowd_wait_at_most_for_its_first_tries(order: Order) -> None:
    alone = hopeless_crowd(0, 20, Order.ALONE)

    waits = hopeless_crowd(200, 20, order)

    assert waits.archived == 20
    assert waits.longest <= alone.longest + 200 / SLOTS_OF_FIRST_TRIES + SLACK_SECONDS


def test_lost_videos_on_a_dripping_host_make_no_other_task_lost() -> None:
    figures = lost_videos(40, 20, hours=1, fresh_per_second=0.02)

    assert figures.near_in_time == 20
    assert figures.fresh.archived == figures.fresh.tasks
    assert figures.fresh.median <= SLACK_SECONDS
