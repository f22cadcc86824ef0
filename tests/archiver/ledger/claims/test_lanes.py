"""Which tasks a claim takes: every lane and every kind of id gets its share of the slots."""

import pytest

from archiver.failures import (
    StoreError,
)
from archiver.model import DiscoveredBy, Lane, Stage, State, Status
from tests.harness.ledgers import (
    ACCOUNT,
    DAY,
    MINUTE,
    SECOND,
    START,
    Desk,
    answer,
    asset,
    claim_archive,
)


def test_a_backlog_never_delays_a_fresh_task_and_failing_tasks_never_starve_healthy_ones(desk: Desk) -> None:
    for number in range(10):
        desk.say(answer(f"old-{number}", created_at=START - 20 * DAY + number))
    for _ in range(3):
        for lease in desk.claim_all(Stage.ARCHIVE, count=10):
            desk.fail(lease, StoreError("500"))
        desk.clock.advance(MINUTE)
    for number in range(10):
        desk.say(answer(f"untried-{number}", created_at=START - 10 * DAY + number))
        desk.clock.advance(1)
    desk.say(answer("fresh"))

    claimed = [lease.task_id for lease in desk.claim_all(Stage.ARCHIVE, count=8)]

    assert {"old-0", "old-1", "old-2", "old-3", "untried-0", "untried-1", "fresh"} <= set(claimed)
    assert len(claimed) == 8


def test_a_fresh_task_goes_before_a_backlog_that_was_found_after_it(desk: Desk) -> None:
    for number in range(20):  # the sweep reads from the newest end; in the midst of it comes a callback
        if number == 10:
            desk.say(answer("fresh"))
        desk.say(answer(f"found-{number}", created_at=START - DAY - number), by=DiscoveredBy.SWEEP)
        desk.clock.advance(SECOND)

    claimed = [
        claim_archive(desk.ledger, count=1, account=ACCOUNT, started=slot)[0].task_id for slot in range(4)
    ]

    assert "fresh" in claimed


def test_one_slot_at_a_time_every_lane_gets_its_turn(desk: Desk) -> None:
    for number in range(6):
        desk.say(answer(f"old-{number}", created_at=START - 20 * DAY + number))
        desk.clock.advance(1)
    desk.say(answer("fresh"))

    claimed = [
        claim_archive(desk.ledger, count=1, account=ACCOUNT, started=slot)[0].task_id for slot in range(4)
    ]

    assert "fresh" in claimed
    assert claimed[0] == "old-0"


def test_known_ids_are_asked_for_first_then_first_come_first_served(desk: Desk) -> None:
    for task_id in ("first", "second", "third"):
        desk.tell(task_id)
        desk.clock.advance(1)
    desk.bring(State.RUNNING, "known")
    desk.clock.advance(MINUTE)

    order = [desk.ledger.claims.verify(count=1, offset=slot, account=ACCOUNT)[0].task_id for slot in range(4)]

    assert order == ["known", "first", "second", "third"]


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_however_many_running_tasks_are_due_each_fourth_question_is_an_unconfirmed_ids(
    desk: Desk, threads: int
) -> None:
    for number in range(40):
        desk.say(answer(f"running-{number}", Status.RUNNING))
    desk.clock.advance(MINUTE)
    for number in range(4):
        desk.tell(f"new-{number}")

    claimed: list[str] = []
    while len(claimed) < 12:
        leases = desk.ledger.claims.verify(count=threads, offset=len(claimed), account=ACCOUNT)
        assert len(leases) == threads
        claimed += [lease.task_id for lease in leases]

    assert [task_id for task_id in claimed if task_id.startswith("new")] == ["new-0", "new-1", "new-2"]


def test_slots_that_one_kind_of_id_leaves_free_go_to_the_other(desk: Desk) -> None:
    desk.say(answer("running", Status.RUNNING))
    desk.clock.advance(MINUTE)
    desk.tell("new-0")
    desk.tell("new-1")
    claims = desk.ledger.claims

    assert len(claims.verify(count=3, offset=0, account=ACCOUNT)) == 3
    assert claims.verify(count=3, offset=0, account=ACCOUNT) == []


def test_each_fourth_batch_is_of_unconfirmed_ids_while_running_tasks_are_due(desk: Desk) -> None:
    for number in range(40):
        desk.say(answer(f"running-{number}", Status.RUNNING, family="tasks/image"))
    desk.clock.advance(MINUTE)
    desk.tell("new", family=None)

    batches = [desk.ledger.claims.batch(count=5, offset=number, account=ACCOUNT) for number in range(4)]

    assert [batch[0].confirmed for batch in batches] == [True, True, True, False]


def test_ids_that_came_after_a_list_was_read_are_left_to_the_next_list(desk: Desk) -> None:
    desk.tell("before")
    desk.clock.advance(1)
    read_at = desk.clock()
    desk.clock.advance(1)
    desk.tell("after")

    claimed = desk.ledger.claims.verify(count=5, offset=0, due_before=read_at, account=ACCOUNT)

    assert [lease.task_id for lease in claimed] == ["before"]


def test_tasks_of_avoided_hosts_are_left_where_they_are(desk: Desk) -> None:
    desk.say(answer("a", assets=(asset(url="https://one.klingai.com/0.png"),)))
    desk.say(answer("b", assets=(asset(url="https://two.klingai.com/0.png"),)))
    desk.say(answer("c", assets=(asset(url="no url at all"),)))

    claimed = desk.ledger.claims.archive(
        slots={Lane.DEADLINE: 9}, count_max=9, hosts_avoided={"one.klingai.com"}, account=ACCOUNT
    )

    assert sorted(lease.task_id for lease in claimed) == ["b", "c"]
