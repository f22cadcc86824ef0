"""Holds: what sets them, what probes them, what lifts them, and which failures are a task's own."""

from collections.abc import Callable

import pytest

from archiver.failures import ApiForbidden, BucketMissing, FetchFailed, StoreError
from archiver.families import FAMILIES
from archiver.ledger import HoldOutcome
from archiver.model import Callback, Lease, Stage, State
from tests.harness.ledgers import (
    ACCOUNT,
    DAY,
    FAMILY,
    MINUTE,
    SECOND,
    START,
    Desk,
    answer,
    claim_archive,
    steps,
)

MISSING = BucketMissing("no such bucket")
SLOTS = 8


def succeed(desk: Desk, lease: Lease) -> None:
    """What the worker does after a task was archived."""
    desk.archived(lease)
    if desk.ledger.holds.are_disprovable():
        desk.ledger.holds.release(account=ACCOUNT, stages=(Stage.ARCHIVE,), family=FAMILY)


def is_held(desk: Desk) -> bool:
    return desk.ledger.holds.any()


# --- a task that fails by itself --------------------------------------------------------------------------------


def test_a_failure_that_another_task_s_success_disproves_is_the_task_s_own_the_second_time(
    desk: Desk,
) -> None:
    desk.say(answer("poison", created_at=START - DAY))
    (poison,) = claim_archive(desk.ledger, count=1, account=ACCOUNT)
    assert desk.ledger.outcomes.hold(poison, MISSING) is HoldOutcome.NEW
    desk.say(answer("healthy"))
    desk.clock.advance(2 * SECOND)
    (probe,) = desk.claim_all(Stage.ARCHIVE)
    assert (probe.task_id, probe.is_probe) == ("healthy", True)
    succeed(desk, probe)

    waits = []
    for _ in range(6):
        desk.clock.now = desk.row("poison")["due_at"]
        desk.say(answer(f"healthy-{desk.clock()}"))
        for lease in desk.claim_all(Stage.ARCHIVE):
            if lease.task_id == "poison":
                assert desk.ledger.outcomes.hold(lease, MISSING) is HoldOutcome.OWN
            else:
                succeed(desk, lease)
        assert not is_held(desk)
        waits.append(desk.seconds_until_due("poison"))

    assert waits == [30, 60, 120, 240, 480, 900]
    assert (desk.row("poison")["attempts"], desk.row("poison")["reason"]) == (6, "bucket_missing")


@pytest.mark.parametrize("where", ["oldest", "newest", "mixed"])
@pytest.mark.sqlite_only("a day of claims: tens of thousands of statements")
def test_a_hundred_tasks_that_each_set_a_hold_delay_the_others_by_minutes_at_most(
    desk: Desk, where: str
) -> None:
    created_at: dict[str, Callable[[int], int]] = {
        "oldest": lambda number: START - DAY + number,
        "newest": lambda number: START + 1_500 * SECOND + number,
        "mixed": lambda number: START + number * 12 * SECOND,
    }
    for number in range(100):
        desk.say(answer(f"poison-{number}", created_at=created_at[where](number)))
    born: dict[str, int] = {}
    waits: list[float] = []
    held_seconds = 0
    for second in range(20 * 60):
        if second % 4 == 0:
            task_id = f"healthy-{second}"
            desk.say(answer(task_id, created_at=desk.clock()))
            born[task_id] = desk.clock()
        for lease in claim_archive(desk.ledger, count=SLOTS, account=ACCOUNT, started=second):
            if lease.task_id.startswith("poison"):
                desk.fail(lease, MISSING)
            else:
                succeed(desk, lease)
                waits.append((desk.clock() - born[lease.task_id]) / SECOND)
        held_seconds += is_held(desk)
        desk.clock.advance(SECOND)

    assert len(waits) >= 299
    assert max(waits) <= MINUTE / SECOND
    assert held_seconds <= 5 * 60


# --- an outage --------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_only("thousands of claims")
def test_an_outage_holds_at_its_first_failure_and_costs_no_task_an_attempt(desk: Desk) -> None:
    for number in range(20):
        desk.say(answer(f"t{number}"))
    for lease in claim_archive(desk.ledger, count=SLOTS, account=ACCOUNT):
        desk.fail(lease, MISSING)
    for _ in range(60 * 60):
        desk.clock.advance(SECOND)
        for lease in desk.claim_all(Stage.ARCHIVE):
            assert lease.is_probe
            desk.fail(lease, MISSING)
        assert is_held(desk)

    assert {desk.row(f"t{number}")["attempts"] for number in range(20)} == {0}


def test_an_outage_that_comes_again_is_a_hold_within_a_minute_although_every_task_was_blamed_in_the_first(
    desk: Desk,
) -> None:
    for number in range(6):
        desk.say(answer(f"t{number}"))
    for lease in desk.claim_all(Stage.ARCHIVE):
        desk.fail(lease, MISSING)
    desk.clock.advance(2 * SECOND)
    (probe,) = desk.claim_all(Stage.ARCHIVE)
    succeed(desk, probe)
    assert not is_held(desk)

    seconds = 0
    while not is_held(desk):
        for lease in desk.claim_all(Stage.ARCHIVE):
            desk.fail(lease, MISSING)
        desk.clock.advance(SECOND)
        seconds += 1
        assert seconds <= 60


def test_a_success_in_between_forgets_the_failures_before_it(desk: Desk) -> None:
    for task_id in ("poison", "other"):
        desk.say(answer(task_id))
    for lease in desk.claim_all(Stage.ARCHIVE):
        desk.fail(lease, MISSING)
    desk.clock.advance(2 * SECOND)
    (probe,) = desk.claim_all(Stage.ARCHIVE)
    other = ({"poison", "other"} - {probe.task_id}).pop()
    succeed(desk, probe)
    desk.clock.advance(MINUTE)
    desk.fail(desk.claim(Stage.ARCHIVE), MISSING)
    desk.say(answer("healthy"))
    succeed(desk, desk.claim(Stage.ARCHIVE))

    desk.clock.now = desk.row(other)["due_at"] + MINUTE
    desk.fail(desk.claim(Stage.ARCHIVE), MISSING)

    assert not is_held(desk)


# --- probes -----------------------------------------------------------------------------------------------------


def test_a_hold_is_probed_after_2_seconds_doubling_to_30(desk: Desk) -> None:
    for task_id in "ab":
        desk.say(answer(task_id))
    desk.fail(claim_archive(desk.ledger, count=1, account=ACCOUNT)[0], MISSING)
    probes = []
    for _ in range(3 * 60):
        desk.clock.advance(SECOND)
        for lease in desk.claim_all(Stage.ARCHIVE):
            assert lease.is_probe
            probes.append((desk.clock() - START) // SECOND)
            desk.fail(lease, MISSING)

    assert probes == [2, 6, 14, 30, 60, 90, 120, 150, 180]
    assert [desk.row(task_id)["attempts"] for task_id in "ab"] == [0, 0]


@pytest.mark.parametrize("error", [FetchFailed("503", host="cdn.klingai.com"), StoreError("500")])
def test_a_probe_that_says_nothing_about_the_hold_is_followed_by_another_soon(
    desk: Desk, error: FetchFailed | StoreError
) -> None:
    for task_id in "abc":
        desk.say(answer(task_id))
    desk.fail(claim_archive(desk.ledger, count=1, account=ACCOUNT)[0], MISSING)
    desk.clock.advance(2 * SECOND)
    desk.fail(desk.claim(Stage.ARCHIVE), error)

    desk.clock.advance(4 * SECOND)

    assert desk.claim(Stage.ARCHIVE).is_probe


@pytest.mark.sqlite_only("hundreds of claims")
def test_every_task_gets_its_turn_as_a_probe(desk: Desk) -> None:
    for number in range(30):
        desk.say(answer(f"t{number}", created_at=START + number))
    desk.fail(claim_archive(desk.ledger, count=1, account=ACCOUNT)[0], MISSING)
    probed: list[str] = []
    while len(probed) < 29:
        desk.clock.advance(SECOND)
        for lease in desk.claim_all(Stage.ARCHIVE):
            probed.append(lease.task_id)
            desk.fail(lease, MISSING)

    assert len(set(probed)) == 29


# --- families that the credentials may not use --------------------------------------------------------------------


def questions(desk: Desk, *, seconds: int) -> int:
    count = 0
    for _ in range(seconds // 10):
        for lease in desk.claim_all(Stage.VERIFY, count=20):
            count += 1
            desk.fail(lease, ApiForbidden("1103", family=lease.family or lease.family_hint))
        desk.clock.advance(10 * SECOND)
    return count


@pytest.mark.sqlite_only("a day of claims: tens of thousands of statements")
def test_forged_ids_of_forbidden_families_cost_one_question_an_hour_each(desk: Desk) -> None:
    forbidden = [family for family in FAMILIES if family.startswith("videos/")][:4]
    for family in forbidden:
        desk.tell("forged-" + family.replace("/", "."), family=family)
    questions(desk, seconds=2 * 3600)

    assert questions(desk, seconds=2 * 3600) <= 2 * len(forbidden)


@pytest.mark.sqlite_only("a day of claims: tens of thousands of statements")
def test_a_confirmed_task_of_a_held_family_is_probed_every_30_seconds_beside_forged_ids(desk: Desk) -> None:
    desk.tell("forged")
    questions(desk, seconds=2 * 3600)
    desk.bring(State.RUNNING, "genuine")
    desk.clock.advance(20 * SECOND)

    assert 18 <= questions(desk, seconds=10 * 60) <= 21


# --- a crowd behind a hold --------------------------------------------------------------------------------------


@pytest.mark.sqlite_only("counts SQLite's steps")
def test_ids_of_a_held_family_at_the_front_are_passed_over_once_and_taken_when_the_hold_is_lifted(
    desk: Desk,
) -> None:
    for batch in range(10):
        desk.ledger.callbacks.record(
            [Callback(ACCOUNT, f"held-{batch}-{number}", None, FAMILY) for number in range(500)]
        )
        desk.clock.advance(1)
    desk.tell("genuine", family="images/editing/expand")
    hold = ApiForbidden("1103", family=FAMILY)
    desk.ledger.holds.set(hold, account=ACCOUNT, stage=Stage.VERIFY)

    found: list[str] = []
    claims = 0
    while not found:
        found = [lease.task_id for lease in desk.claim_all(Stage.VERIFY)]
        claims += 1
        assert claims <= 3
    assert found == ["genuine"]
    desk.claim_all(Stage.VERIFY)
    desk.tell("next", family="images/editing/expand")
    assert steps(desk, lambda: desk.claim_all(Stage.VERIFY)) <= 300

    desk.ledger.holds.release(account=ACCOUNT, stages=(Stage.VERIFY,), family=FAMILY)
    assert [lease.task_id for lease in desk.claim_all(Stage.VERIFY, count=2)] == ["held-0-0", "held-0-1"]
