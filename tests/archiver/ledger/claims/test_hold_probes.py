"""A hold stops its part of the work; one task at a time probes whether the hold can end."""

import pytest

from archiver.failures import (
    ApiCredentialsRefused,
    ApiForbidden,
    ApiServerError,
    BucketMissing,
    FetchRefused,
    HostRefusing,
)
from archiver.model import Stage, State, Status
from tests.harness.ledgers import (
    ACCOUNT,
    DAY,
    FAMILY,
    MINUTE,
    SECOND,
    START,
    Desk,
    answer,
    asset,
    claim_archive,
)

REFUSED = ApiCredentialsRefused("1002")


def two(desk: Desk) -> None:
    """Two tasks that wait for the archive stage, `a` since longer."""
    for task_id in "ab":
        desk.say(answer(task_id))
        desk.clock.advance(1)


def test_a_hold_stops_its_stage_and_costs_no_task_an_attempt(desk: Desk) -> None:
    two(desk)
    first = claim_archive(desk.ledger, count=1, account=ACCOUNT)[0]

    desk.fail(first, BucketMissing("no such bucket"))

    assert desk.claim_all(Stage.ARCHIVE) == []
    assert not desk.ledger.claims.any_due(Stage.ARCHIVE, account=ACCOUNT)
    assert [desk.row(task_id)["attempts"] for task_id in "ab"] == [0, 0]
    assert desk.row(first.task_id)["reason"] is None


def test_a_probe_that_succeeds_lets_everything_go_on_at_once(desk: Desk) -> None:
    two(desk)
    desk.fail(claim_archive(desk.ledger, count=1, account=ACCOUNT)[0], BucketMissing("no such bucket"))
    desk.clock.advance(30 * SECOND)
    desk.archived(desk.claim(Stage.ARCHIVE))

    gone = desk.ledger.holds.release(account=ACCOUNT, stages=(Stage.ARCHIVE,), family=FAMILY)

    assert gone == ["bucket_missing"]
    assert len(desk.claim_all(Stage.ARCHIVE)) == 1


@pytest.mark.sqlite_only("hours of claims: thousands of statements")
def test_a_poisonous_task_goes_further_back_each_time_and_never_keeps_the_others_for_long(desk: Desk) -> None:
    desk.say(answer("poison", created_at=START - 29 * DAY))  # the nearest deadline: always first
    healthy = 0
    held_seconds = 0
    for _ in range(500):
        desk.say(answer(f"healthy-{desk.clock()}"))
        desk.clock.advance(SECOND)
        held_seconds += desk.ledger.holds.any()
        for lease in desk.claim_all(Stage.ARCHIVE, count=4):
            if lease.task_id == "poison":
                desk.fail(lease, BucketMissing("only for this one"))
            else:
                desk.archived(lease)
                desk.ledger.holds.release(account=ACCOUNT, stages=(Stage.ARCHIVE,), family=FAMILY)
                healthy += 1

    assert healthy > 450
    assert held_seconds < 150


def test_a_poisonous_task_is_the_probe_only_where_there_is_no_other(desk: Desk) -> None:
    two(desk)
    poison = claim_archive(desk.ledger, count=1, account=ACCOUNT)[0]
    desk.fail(poison, BucketMissing("only for this one"))

    desk.clock.advance(MINUTE)
    probe = desk.claim(Stage.ARCHIVE)
    assert probe.task_id != poison.task_id
    desk.archived(probe)
    desk.clock.advance(MINUTE)
    assert desk.claim(Stage.ARCHIVE).task_id == poison.task_id


def test_in_an_outage_only_the_first_task_goes_further_back(desk: Desk) -> None:
    two(desk)
    for lease in desk.claim_all(Stage.ARCHIVE):
        desk.fail(lease, BucketMissing("no such bucket"))
    for _ in range(50):
        desk.clock.advance(30 * SECOND)
        desk.fail(desk.claim(Stage.ARCHIVE), BucketMissing("no such bucket"))
    desk.ledger.holds.release(account=ACCOUNT, stages=(Stage.ARCHIVE,), family=FAMILY)

    assert max(desk.seconds_until_due(task_id) for task_id in "ab") <= 30


def test_the_only_task_is_probed_as_often(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    probes = 0
    for _ in range(601):
        for lease in desk.claim_all(Stage.ARCHIVE):
            probes += lease.is_probe
            desk.clock.advance(300)
            desk.fail(lease, BucketMissing("no such bucket"))
        desk.clock.advance(SECOND)

    assert 21 <= probes <= 23


def test_a_hold_without_anything_to_probe_with_is_probed_by_the_next_that_comes(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    desk.fail(desk.claim(Stage.ARCHIVE), BucketMissing("no such bucket"))
    desk.clock.advance(30 * SECOND)
    desk.archived(desk.claim(Stage.ARCHIVE))
    desk.clock.advance(MINUTE)
    assert desk.claim_all(Stage.ARCHIVE) == []

    desk.say(answer("next"))

    assert desk.claim(Stage.ARCHIVE).is_probe


def test_probes_take_no_more_slots_than_there_are(desk: Desk) -> None:
    for host in ("one", "two", "three"):
        desk.say(answer(host, assets=(asset(url=f"https://{host}.klingai.com/0.png"),)))
        error = HostRefusing("refused", host=f"{host}.klingai.com")
        desk.ledger.holds.set(error, account=ACCOUNT, stage=Stage.ARCHIVE)
    desk.clock.advance(30 * SECOND)

    assert len(desk.claim_all(Stage.ARCHIVE, count=2)) == 2
    assert len(desk.claim_all(Stage.ARCHIVE, count=2)) == 1


def test_a_probe_counts_among_what_a_claim_may_take(desk: Desk) -> None:
    desk.say(answer("held", assets=(asset(url="https://one.klingai.com/0.png"),)))
    desk.say(answer("free", assets=(asset(url="https://two.klingai.com/0.png"),)))
    desk.tell("a", family="images/editing/expand")
    desk.tell("b", family="images/generations")
    error = HostRefusing("refused", host="one.klingai.com")
    desk.ledger.holds.set(error, account=ACCOUNT, stage=Stage.ARCHIVE)
    forbidden = ApiForbidden("1103", family="images/editing/expand")
    desk.ledger.holds.set(forbidden, account=ACCOUNT, stage=Stage.VERIFY)
    desk.clock.advance(30 * SECOND)

    for stage in (Stage.ARCHIVE, Stage.VERIFY):
        assert [lease.is_probe for lease in desk.claim_all(stage, count=1)] == [True]
        assert [lease.is_probe for lease in desk.claim_all(stage, count=1)] == [False]


def test_a_family_s_hold_stops_that_family_only(desk: Desk) -> None:
    desk.tell("a", family="images/generations")
    desk.tell("b", family="images/editing/expand")
    desk.tell("c", family=None)
    desk.say(answer("d", status=Status.RUNNING, family="images/generations"))
    desk.clock.advance(MINUTE)
    error = ApiForbidden("1103", family="images/generations")
    desk.ledger.holds.set(error, account=ACCOUNT, stage=Stage.VERIFY)

    assert [lease.task_id for lease in desk.claim_all(Stage.VERIFY)] == ["b", "c"]
    assert desk.ledger.holds.is_held(account=ACCOUNT, stage=Stage.VERIFY, family="images/generations")
    assert not desk.ledger.holds.is_held(account=ACCOUNT, stage=Stage.VERIFY, family="images/editing/expand")

    desk.clock.advance(30 * SECOND)
    (probe,) = [lease for lease in desk.claim_all(Stage.VERIFY) if lease.is_probe]
    assert probe.task_id == "d"


def test_a_family_s_hold_goes_when_that_family_works_again_and_not_before(desk: Desk) -> None:
    error = ApiForbidden("1103", family="images/generations")
    desk.ledger.holds.set(error, account=ACCOUNT, stage=Stage.VERIFY)
    release = desk.ledger.holds.release

    assert release(account=ACCOUNT, stages=(Stage.VERIFY,), family="images/editing/expand") == []
    assert release(account=ACCOUNT, stages=(Stage.ARCHIVE,), family="images/generations") == []
    assert release(account="other", stages=(Stage.VERIFY,), family="images/generations") == []
    assert release(account=ACCOUNT, stages=(Stage.VERIFY,), family="images/generations") == ["api_forbidden"]
    assert not desk.ledger.holds.any()


def test_a_host_s_hold_stops_that_host_only(desk: Desk) -> None:
    desk.say(answer("a", assets=(asset(url="https://one.klingai.com/0.png"),)))
    desk.say(answer("b", assets=(asset(url="https://two.klingai.com/0.png"),)))
    desk.say(answer("c", assets=(asset(url="no url at all"),)))
    for lease in desk.claim_all(Stage.ARCHIVE):
        desk.fail(lease, FetchRefused("HTTP 403", host=lease.asset_host))
    error = HostRefusing("refused", host="one.klingai.com")
    desk.ledger.holds.set(error, account=ACCOUNT, stage=Stage.ARCHIVE)
    desk.clock.advance(2 * SECOND - 1)

    assert sorted(lease.task_id for lease in desk.claim_all(Stage.ARCHIVE)) == ["b", "c"]
    assert desk.ledger.holds.release(account=ACCOUNT, stages=(Stage.ARCHIVE,), family=FAMILY) == []
    assert desk.ledger.holds.release_host(
        account=ACCOUNT, host="one.klingai.com", reasons=["host_refusing"]
    ) == ["host_refusing"]
    assert [lease.task_id for lease in desk.claim_all(Stage.ARCHIVE)] == ["a"]


def test_a_hold_is_of_one_stage_and_account(desk: Desk) -> None:
    desk.tell("a")
    desk.bring(State.SUCCEEDED, "b")
    desk.ledger.holds.set(REFUSED, account="other", stage=Stage.VERIFY)
    desk.ledger.holds.set(BucketMissing("gone"), account="other", stage=Stage.ARCHIVE)
    desk.ledger.holds.set(REFUSED, account=ACCOUNT, stage=Stage.SWEEP)

    assert desk.claim(Stage.VERIFY).task_id == "a"
    assert desk.claim(Stage.ARCHIVE).task_id == "b"


def test_a_hold_keeps_its_beginning_and_takes_the_newest_reason(desk: Desk) -> None:
    assert desk.ledger.holds.set(REFUSED, account=ACCOUNT, stage=Stage.VERIFY)
    desk.clock.advance(MINUTE)

    again = ApiServerError("maintenance")
    assert not desk.ledger.holds.set(again, account=ACCOUNT, stage=Stage.VERIFY)

    (hold,) = desk.ledger.holds.all()
    assert (hold.reason, hold.since) == ("api_server_error", START)


def test_a_hold_outlives_a_restart(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    desk.fail(desk.claim(Stage.ARCHIVE), BucketMissing("no such bucket"))

    desk.reopen()

    assert desk.claim_all(Stage.ARCHIVE) == []
