"""What becomes of tasks whose deadline passes."""

import pytest

from archiver.failures import (
    ApiCredentialsRefused,
    AssetGone,
    BucketMissing,
    NeverMedia,
    StoreError,
)
from archiver.ledger import Expiry
from archiver.ledger.deadlines import EXPIRED_ROWS_MAX
from archiver.model import DiscoveredBy, Stage, State, Status
from tests.harness.ledgers import (
    ACCOUNT,
    DAY,
    FAMILY,
    HOUR,
    MINUTE,
    RAND,
    SECOND,
    START,
    Desk,
    answer,
)


def test_nothing_expires_before_its_deadline(desk: Desk) -> None:
    for state in (State.REPORTED, State.RUNNING, State.SUCCEEDED):
        desk.bring(state, state)
    desk.clock.now = START + 30 * DAY - 1

    assert desk.ledger.deadlines.expire() == []


@pytest.mark.parametrize(
    ("past", "verdict", "reason"),
    [
        (State.SUCCEEDED, State.LOST, "deadline_passed"),
        (State.BURIED, State.LOST, "not_media"),
        (State.RUNNING, State.LOST, "deadline_passed"),
        (State.REPORTED, State.UNKNOWN, "deadline_passed"),
    ],
)
def test_the_deadline_passes_its_verdict_once(desk: Desk, past: State, verdict: State, reason: str) -> None:
    desk.bring(past)
    desk.clock.now = START + 30 * DAY

    (expired,) = desk.ledger.deadlines.expire()

    family = None if past is State.REPORTED else FAMILY
    assert expired == Expiry(ACCOUNT, "t", family, verdict, reason)
    assert (desk.state(), desk.shown()["reason"]) == (verdict, reason)
    assert desk.ledger.deadlines.expire() == []


def test_a_mass_of_deadlines_passes_in_small_transactions(desk: Desk) -> None:
    """Callbacks wait for each of them."""
    overdue = [answer(f"t{number}", Status.RUNNING) for number in range(EXPIRED_ROWS_MAX + 2)]
    desk.ledger.records.record(overdue, account=ACCOUNT, discovered_by=DiscoveredBy.SWEEP, rand=RAND)
    desk.bring(State.SUCCEEDED)
    desk.clock.now = START + 30 * DAY

    counts = [len(desk.ledger.deadlines.expire()) for _ in range(3)]

    assert counts == [EXPIRED_ROWS_MAX, 3, 0]
    assert desk.state() is State.LOST


@pytest.mark.parametrize("past", [State.ARCHIVED, State.FAILED, State.UNKNOWN, State.LOST])
def test_a_deadline_means_nothing_to_what_is_settled(desk: Desk, past: State) -> None:
    desk.bring(past)
    before = desk.row()
    desk.clock.advance(365 * DAY)

    assert desk.ledger.deadlines.expire() == []
    assert desk.row() == before


def test_a_buried_id_that_the_api_never_confirmed_is_unknown_after_its_deadline_and_not_lost(
    desk: Desk,
) -> None:
    desk.tell()
    desk.fail(desk.claim(Stage.VERIFY), NeverMedia("cannot be asked for"))
    desk.clock.advance(30 * DAY)

    assert [expiry.verdict for expiry in desk.ledger.deadlines.expire()] == [State.UNKNOWN]


def test_a_task_that_is_being_tried_is_not_judged_meanwhile(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    desk.clock.now = START + 30 * DAY - SECOND
    lease = desk.claim(Stage.ARCHIVE)
    desk.clock.advance(2 * SECOND)

    assert desk.ledger.deadlines.expire() == []
    desk.archived(lease)
    assert desk.ledger.deadlines.expire() == []


def test_a_task_that_waited_behind_a_hold_is_lost_at_its_deadline_although_it_was_never_tried(
    desk: Desk,
) -> None:
    desk.bring(State.SUCCEEDED)
    desk.ledger.holds.set(BucketMissing("gone"), account=ACCOUNT, stage=Stage.ARCHIVE)
    desk.clock.advance(30 * DAY)

    assert [expiry.verdict for expiry in desk.ledger.deadlines.expire()] == [State.LOST]


def test_a_task_that_a_callback_names_after_its_deadline_gets_one_try(desk: Desk) -> None:
    desk.tell()
    desk.claim(Stage.VERIFY)
    desk.say(answer(created_at=START - 45 * DAY), asked_as="t")
    assert desk.ledger.deadlines.expire() == []

    desk.fail(desk.claim(Stage.ARCHIVE), StoreError("500"))

    assert [expiry.verdict for expiry in desk.ledger.deadlines.expire()] == [State.LOST]


def test_that_one_try_may_end_in_the_bucket(desk: Desk) -> None:
    desk.tell()
    desk.claim(Stage.VERIFY)
    desk.say(answer(created_at=START - 45 * DAY), asked_as="t")

    desk.archived(desk.claim(Stage.ARCHIVE))

    assert desk.ledger.deadlines.expire() == []


def test_a_lost_task_is_tried_hourly_for_3_days_then_daily_to_day_37_and_then_left(desk: Desk) -> None:
    desk.bring(State.LOST)
    deadline = desk.row()["deadline_at"]
    tried_at = []
    while desk.row()["due_at"] is not None:
        desk.clock.now = max(desk.clock.now, desk.row()["due_at"])
        lease = desk.claim(Stage.ARCHIVE)
        tried_at.append(desk.clock() - deadline)
        desk.fail(lease, StoreError("500"))

    assert tried_at[:73] == [number * HOUR for number in range(73)]
    assert tried_at[73:] == [number * DAY for number in range(4, 8)]
    assert (desk.state(), desk.ledger.deadlines.expire()) == (State.LOST, [])


def test_a_lost_task_that_is_gone_upstream_is_left_alone(desk: Desk) -> None:
    desk.bring(State.LOST)

    desk.fail(desk.claim(Stage.ARCHIVE), AssetGone("404"))

    desk.clock.advance(30 * DAY)
    assert (desk.state(), desk.claim_all(Stage.ARCHIVE)) == (State.LOST, [])


def test_what_was_buried_as_gone_is_lost_without_another_try(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    desk.fail(desk.claim(Stage.ARCHIVE), AssetGone("404"))
    desk.clock.advance(30 * DAY)

    assert [expiry.reason for expiry in desk.ledger.deadlines.expire()] == ["asset_gone"]
    assert desk.claim_all(Stage.ARCHIVE) == []


@pytest.mark.parametrize("way", ["bury", "hold", "retry"])
def test_a_lost_task_stays_lost_until_it_is_in_the_bucket(desk: Desk, way: str) -> None:
    desk.bring(State.LOST)
    errors = {"bury": NeverMedia("html"), "hold": BucketMissing("gone"), "retry": StoreError("500")}
    desk.fail(desk.claim(Stage.ARCHIVE), errors[way])
    assert desk.state() is State.LOST

    desk.clock.advance(HOUR)
    desk.archived(desk.claim(Stage.ARCHIVE))

    assert desk.state() is State.ARCHIVED


def test_a_running_task_past_its_deadline_that_still_runs_fails_as_never_finished(desk: Desk) -> None:
    desk.bring(State.RUNNING)
    desk.clock.advance(30 * DAY)
    desk.claim(Stage.VERIFY)
    assert desk.ledger.deadlines.expire() == []

    desk.say(answer(status=Status.RUNNING))

    assert [expiry.reason for expiry in desk.ledger.deadlines.expire()] == ["never_finished"]


def test_a_running_task_that_only_the_sweep_has_seen_lately_fails_as_never_finished(desk: Desk) -> None:
    desk.bring(State.RUNNING)
    desk.ledger.holds.set(ApiCredentialsRefused("401"), account=ACCOUNT, stage=Stage.VERIFY)
    for _ in range(30):
        desk.clock.advance(DAY)
        desk.write("UPDATE tasks SET due_at = ?", desk.clock() + MINUTE)
        desk.say(answer(status=Status.RUNNING), by=DiscoveredBy.SWEEP)

    assert [expiry.reason for expiry in desk.ledger.deadlines.expire()] == ["never_finished"]


@pytest.mark.sqlite_only("a month of claims: thousands of statements")
def test_a_running_task_whose_api_was_unreachable_is_lost_at_its_deadline_and_not_failed(
    desk: Desk,
) -> None:
    """The key was refused until day 30. Claims ask in vain; the task may well have succeeded."""
    desk.bring(State.RUNNING)
    while desk.clock() < START + 30 * DAY:
        desk.clock.advance(HOUR)
        for lease in desk.claim_all(Stage.VERIFY):
            desk.fail(lease, ApiCredentialsRefused("401"))

    (expired,) = desk.ledger.deadlines.expire()

    assert (expired.verdict, expired.reason) == (State.LOST, "api_credentials_refused")
    assert desk.seconds_until_due() == 0
    assert [lease.task_id for lease in desk.claim_all(Stage.ARCHIVE)] == ["t"]


def test_that_the_api_no_longer_knows_a_running_task_does_not_mean_that_it_never_finished(desk: Desk) -> None:
    """A key of another account was set: it knows none of our tasks."""
    desk.bring(State.RUNNING)
    desk.clock.now = START + 30 * DAY - HOUR
    desk.ledger.outcomes.not_found(desk.claim(Stage.VERIFY), rand=RAND)
    desk.clock.advance(HOUR)

    assert [expiry.verdict for expiry in desk.ledger.deadlines.expire()] == [State.LOST]


def test_a_task_lost_unasked_is_fetched_as_soon_as_an_answer_names_its_files(desk: Desk) -> None:
    desk.bring(State.RUNNING)
    desk.clock.now = START + 30 * DAY
    desk.ledger.deadlines.expire()

    desk.say(answer(), by=DiscoveredBy.SWEEP)

    assert [leased.asset.stem for leased in desk.claim(Stage.ARCHIVE).assets] == ["0"]
