"""What comes after a match or a doubt: callbacks, registrations, forgotten tasks, old age."""

import pytest

from archiver.ledger.gateway_creates.by_time import (
    MatchDoubt,
)
from archiver.ledger.gateway_creates.registering import CreatedTask
from archiver.model import Callback, Status
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, HOUR, Desk
from tests.harness.lost_answers import (
    OTHER_URL,
    URL,
    begin,
    create,
    doubted,
    found,
    joined,
    nothing_comes,
    pass_by,
    references,
    told,
)


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
