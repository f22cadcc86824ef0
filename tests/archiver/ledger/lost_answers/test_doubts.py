"""What time does not prove: creates whose answers were lost, and tasks that something else may have made."""

from typing import Any

import pytest

from archiver.ledger import DoubtedCreates
from archiver.ledger.gateway_creates.by_time import (
    AFTER_MS,
    CLOCKS_MS,
    MADE_AFTER_MS,
    MATCHED_MS,
    PATIENCE_MS,
    UNSWEPT_MS,
    MatchDoubt,
)
from archiver.model import Callback, DiscoveredBy, Status
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, MINUTE, SECOND, START, Desk, answer
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
    swept,
    told,
)


def test_of_clients_with_different_urls_none_is_told(desk: Desk) -> None:
    begin(desk, create("r-1"), create("r-2", OTHER_URL))
    found(desk)
    pass_by(desk)

    assert doubted(desk) == [(MatchDoubt.CLIENTS, 2, ("t",))]
    assert doubted(desk) == []
    assert told(desk) == (None, None)
    assert "task.doubted" in [line["event"] for line in desk.shown()["history"]]


@pytest.mark.parametrize("without_url", ["no client to tell", "Kling tells the client"])
def test_a_create_without_our_url_may_have_made_the_task_as_well(desk: Desk, without_url: str) -> None:
    begin(desk)
    if without_url == "no client to tell":
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


def test_what_is_doubted_says_whose_it_is(desk: Desk) -> None:
    begin(desk, create("r-1"), create("r-2", OTHER_URL))
    found(desk)
    pass_by(desk)

    _, doubted_creates = desk.ledger.gateway_creates.match_by_time()

    assert doubted_creates == [DoubtedCreates(ACCOUNT, FAMILY, MatchDoubt.CLIENTS, 2, ("t",))]
