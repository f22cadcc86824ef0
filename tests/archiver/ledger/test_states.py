"""State only moves forward: every transition of the table, and the refusal of every other one."""

import itertools
import sqlite3

import pytest
import sqlalchemy as sa

from archiver.failures import ApiTimeout, AssetGone, Bury, NeverMedia, StoreError
from archiver.ledger import RecordOutcome
from archiver.model import TRANSITIONS, DiscoveredBy, Stage, State, Status
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
    asset,
    stored,
)

PASTS = list(State)
"""Every state a task may be found in."""


# --- the API's word ------------------------------------------------------------------------------------------

SAID = {
    State.RUNNING: answer(status=Status.RUNNING),
    State.SUCCEEDED: answer(),
    State.FAILED: answer(status=Status.FAILED, message="policy"),
    State.BURIED: answer(assets=()),
}
"""What the API says → the state a fresh task would take."""

BY_TIME = {(State.BURIED, State.RUNNING), (State.BURIED, State.SUCCEEDED), (State.SUCCEEDED, State.BURIED)}
"""Allowed by the table, but not by a mere answer: burials wait for their time, and what has succeeded is buried by the
archive stage alone."""


@pytest.mark.parametrize(("past", "target"), list(itertools.product(PASTS, SAID)))
def test_the_word_of_the_api_moves_a_task_exactly_as_the_table_says(
    desk: Desk, past: State, target: State
) -> None:
    desk.bring(past)
    moves = target in TRANSITIONS[past] and (past, target) not in BY_TIME

    recorded = desk.say(SAID[target])

    assert desk.state() is (target if moves else past)
    assert recorded.state is desk.state()
    assert recorded.outcome is (RecordOutcome.MOVED if moves else RecordOutcome.UNCHANGED)


@pytest.mark.parametrize("target", list(SAID))
def test_a_new_task_takes_the_state_of_the_answer(desk: Desk, target: State) -> None:
    recorded = desk.say(SAID[target], by=DiscoveredBy.SWEEP)

    assert (recorded.outcome, desk.state()) == (RecordOutcome.NEW, target)


@pytest.mark.parametrize("past", [State.SUCCEEDED, State.ARCHIVED, State.FAILED, State.LOST])
@pytest.mark.parametrize("status", [Status.RUNNING, Status.FAILED])
def test_late_news_never_undo_what_is_settled(desk: Desk, past: State, status: Status) -> None:
    desk.bring(past)
    before = desk.row()

    desk.say(answer(status=status), by=DiscoveredBy.SWEEP)

    assert desk.row() == before


def test_a_succeeded_task_whose_row_comes_without_results_keeps_its_urls_and_its_lease(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    lease = desk.claim(Stage.ARCHIVE)

    desk.say(answer(assets=()), by=DiscoveredBy.SWEEP)

    assert [leased.asset.url for leased in desk.ledger.claims.assets(lease) or ()] == [
        "https://cdn.klingai.com/0.png"
    ]
    desk.archived(lease)
    assert desk.state() is State.ARCHIVED


def test_an_archived_task_is_changed_by_nothing_the_api_says(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    before = desk.row(), desk.rows("SELECT * FROM assets")

    for said in SAID.values():
        desk.say(said, by=DiscoveredBy.SWEEP)

    assert (desk.row(), desk.rows("SELECT * FROM assets")) == before


def test_a_failed_task_is_moved_by_the_api_saying_succeed(desk: Desk) -> None:
    desk.bring(State.FAILED)

    desk.say(answer())

    assert (desk.state(), desk.row()["reason"]) == (State.SUCCEEDED, None)
    assert desk.claim(Stage.ARCHIVE).assets[0].asset.stem == "0"


# --- running -----------------------------------------------------------------------------------------------


def test_a_running_task_is_asked_for_after_10_seconds_doubling_to_5_minutes(desk: Desk) -> None:
    desk.bring(State.RUNNING)
    waits = [desk.seconds_until_due()]
    for _ in range(7):
        desk.clock.advance(10 * MINUTE)
        desk.claim(Stage.VERIFY)
        desk.say(answer(status=Status.RUNNING))
        waits.append(desk.seconds_until_due())

    assert waits == [seconds * 0.75 for seconds in (10, 20, 40, 80, 160, 300, 300, 300)]


def test_a_sweep_that_sees_a_running_task_run_does_not_postpone_the_next_question(desk: Desk) -> None:
    desk.bring(State.RUNNING)
    before = desk.row()

    desk.clock.advance(SECOND)
    desk.say(answer(status=Status.RUNNING), by=DiscoveredBy.SWEEP)

    assert desk.row() == before


def test_a_running_task_is_asked_for_at_once_when_a_callback_says_that_it_ended(desk: Desk) -> None:
    desk.bring(State.RUNNING)

    desk.tell(status=Status.RUNNING)
    assert desk.seconds_until_due() == 7.5
    desk.tell(status=Status.SUCCEEDED)
    assert desk.seconds_until_due() == 0


def test_a_repeated_callback_does_not_make_us_ask_again(desk: Desk) -> None:
    desk.bring(State.RUNNING)
    desk.tell()
    desk.claim(Stage.VERIFY)
    desk.clock.advance(SECOND)
    desk.say(answer(status=Status.RUNNING))
    waited = desk.seconds_until_due()

    desk.tell()

    assert desk.seconds_until_due() == waited > 0


def test_a_callback_that_overtakes_the_answer_shortens_the_next_wait(desk: Desk) -> None:
    desk.bring(State.RUNNING)
    for _ in range(5):
        desk.clock.advance(10 * MINUTE)
        desk.claim(Stage.VERIFY)
        desk.say(answer(status=Status.RUNNING))
    assert desk.seconds_until_due() == 225
    desk.clock.advance(10 * MINUTE)
    desk.claim(Stage.VERIFY)

    desk.clock.advance(1)
    desk.tell()  # while the question is on its way
    desk.say(answer(status=Status.RUNNING))

    assert desk.seconds_until_due() == 7.5


def test_the_reason_why_a_query_failed_is_forgotten_after_an_answer(desk: Desk) -> None:
    desk.bring(State.RUNNING)
    desk.clock.advance(MINUTE)
    desk.fail(desk.claim(Stage.VERIFY), ApiTimeout("no answer"))
    assert desk.shown()["reason"] == "api_timeout"

    desk.clock.advance(MINUTE)
    desk.claim(Stage.VERIFY)
    desk.say(answer(status=Status.RUNNING))

    assert (desk.shown()["reason"], desk.shown()["message"]) == (None, None)


# --- buried ------------------------------------------------------------------------------------------------


def test_a_sweep_does_not_end_a_burial_before_its_time(desk: Desk) -> None:
    desk.bring(State.BURIED)

    desk.clock.advance(DAY - 1)
    desk.say(answer(), by=DiscoveredBy.SWEEP)
    assert desk.state() is State.BURIED
    desk.clock.advance(1)
    desk.say(answer(), by=DiscoveredBy.SWEEP)
    assert desk.state() is State.SUCCEEDED


@pytest.mark.parametrize(
    ("days_left", "wait"), [(30, DAY), (4, DAY), (2, DAY // 2), (1 / 24, 15 * MINUTE), (-1, 15 * MINUTE)]
)
def test_a_burial_lasts_a_quarter_of_the_time_left_within_15_minutes_and_a_day(
    desk: Desk, days_left: float, wait: int
) -> None:
    desk.say(answer(created_at=START - 30 * DAY + int(days_left * DAY)))

    desk.fail(desk.claim(Stage.ARCHIVE), NeverMedia("a web page"))

    assert desk.row()["due_at"] == START + wait


def test_a_buried_task_that_is_due_is_asked_for_and_then_archived_afresh(desk: Desk) -> None:
    desk.bring(State.BURIED)
    desk.clock.advance(DAY)

    lease = desk.claim(Stage.VERIFY)
    assert (lease.state, lease.confirmed) == (State.BURIED, True)
    desk.say(answer(assets=(asset(url="https://cdn.klingai.com/fresh.png"),)))

    assert [leased.asset.url for leased in desk.claim(Stage.ARCHIVE).assets] == [
        "https://cdn.klingai.com/fresh.png"
    ]


def test_a_buried_task_that_is_asked_for_and_found_no_better_waits_again(desk: Desk) -> None:
    desk.say(answer(assets=()))
    assert desk.row()["reason"] == "results_missing"
    desk.clock.advance(DAY)
    desk.claim(Stage.VERIFY)

    desk.say(answer(assets=()))

    assert (desk.state(), desk.row()["lease_token"], desk.seconds_until_due()) == (
        State.BURIED,
        None,
        DAY / SECOND,
    )


def test_results_that_appear_later_end_a_burial_in_any_answer(desk: Desk) -> None:
    desk.say(answer(assets=()))

    desk.say(answer(), by=DiscoveredBy.SWEEP)

    assert desk.state() is State.SUCCEEDED


@pytest.mark.parametrize("buried_for", ["not_media", "results_missing"])
def test_a_late_processing_does_not_turn_a_buried_success_into_a_running_task(
    desk: Desk, buried_for: str
) -> None:
    if buried_for == "not_media":
        desk.bring(State.BURIED)
    else:
        desk.say(answer(assets=()))
    desk.clock.advance(DAY)
    desk.claim(Stage.VERIFY)

    desk.say(answer(status=Status.RUNNING))

    assert (desk.state(), desk.row()["reason"]) == (State.BURIED, buried_for)


def test_a_buried_task_that_the_api_no_longer_knows_stays_buried(desk: Desk) -> None:
    desk.bring(State.BURIED)
    desk.clock.advance(DAY)

    assert desk.ledger.outcomes.not_found(desk.claim(Stage.VERIFY), rand=RAND) is State.BURIED
    assert (desk.row()["reason"], desk.seconds_until_due()) == ("not_media", DAY / SECOND)


def test_a_question_that_fails_does_not_hide_why_a_task_was_buried(desk: Desk) -> None:
    desk.bring(State.BURIED)
    desk.clock.advance(DAY)

    desk.fail(desk.claim(Stage.VERIFY), ApiTimeout("no answer"))

    assert (desk.state(), desk.shown()["reason"], desk.shown()["message"]) == (
        State.BURIED,
        "not_media",
        "a web page",
    )
    assert desk.seconds_until_due() == 3


def test_an_id_that_cannot_be_queried_is_buried_although_it_was_never_confirmed(desk: Desk) -> None:
    desk.tell()
    lease = desk.claim(Stage.VERIFY)
    desk.ledger.outcomes.bury(lease, NeverMedia("not really"), Bury(due_at=START + HOUR))
    assert desk.state() is State.BURIED

    desk.say(answer(), by=DiscoveredBy.SWEEP)

    assert desk.state() is State.SUCCEEDED


# --- retry -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("past", [past for past in PASTS if past is not State.ARCHIVED])
def test_retry_makes_a_task_due_at_once(desk: Desk, past: State) -> None:
    desk.bring(past)
    desk.clock.advance(1)

    retried = desk.ledger.registrations.retry(["t", "nobody"], account=ACCOUNT)

    assert (retried.retried, retried.not_known, retried.archived) == (1, ("nobody",), ())
    stage = Stage.ARCHIVE if past in (State.SUCCEEDED, State.LOST) else Stage.VERIFY
    assert desk.claim(stage).task_id == "t"


def test_retry_leaves_an_archived_task_alone(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    before = desk.row()

    assert desk.ledger.registrations.retry(["t"], account=ACCOUNT).archived == ("t",)
    assert desk.row() == before


def test_retry_ends_a_burial(desk: Desk) -> None:
    desk.bring(State.BURIED)
    desk.ledger.registrations.retry(["t"], account=ACCOUNT)

    desk.claim(Stage.VERIFY)
    desk.say(answer())

    assert desk.state() is State.SUCCEEDED


def test_retry_starts_the_grace_of_an_unknown_id_again(desk: Desk) -> None:
    desk.bring(State.UNKNOWN)
    desk.ledger.registrations.retry(["t"], account=ACCOUNT)
    assert desk.state() is State.REPORTED

    assert desk.ledger.outcomes.not_found(desk.claim(Stage.VERIFY), rand=RAND) is State.REPORTED
    assert desk.seconds_until_due() == 1.5


def test_retry_takes_external_ids_and_prefers_the_id_itself(desk: Desk) -> None:
    desk.say(answer("a", status=Status.RUNNING, external_task_id="b"))
    desk.say(answer("b", status=Status.RUNNING, external_task_id="mine"))

    desk.ledger.registrations.retry(["b"], account=ACCOUNT)
    assert [desk.seconds_until_due(task_id) for task_id in "ab"] == [7.5, 0]
    desk.ledger.registrations.retry(["mine"], account=ACCOUNT)
    assert [desk.seconds_until_due(task_id) for task_id in "ab"] == [7.5, 0]


def test_retry_does_not_disturb_who_works_on_the_task(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    lease = desk.claim(Stage.ARCHIVE)

    assert desk.ledger.registrations.retry(["t"], account=ACCOUNT).retried == 1

    assert desk.claim_all(Stage.ARCHIVE) == []
    desk.archived(lease)


SAYINGS = {"failed": answer(status=Status.FAILED), "processing": answer(status=Status.RUNNING)}


@pytest.mark.parametrize("saying", [*SAYINGS, "not found", "no answer", "invalid", "nothing: it crashed"])
def test_a_failed_task_stays_failed_whatever_a_retry_brings_but_success(desk: Desk, saying: str) -> None:
    desk.bring(State.FAILED)
    desk.ledger.registrations.retry(["t"], account=ACCOUNT)
    lease = desk.claim(Stage.VERIFY)
    assert lease.state is State.FAILED

    match saying:
        case "not found":
            assert desk.ledger.outcomes.not_found(lease, rand=RAND) is State.FAILED
        case "no answer":
            desk.fail(lease, ApiTimeout("no answer"))
        case "invalid":
            desk.ledger.outcomes.bury(lease, NeverMedia("1200"), Bury(due_at=START + HOUR))
        case "nothing: it crashed":
            desk.clock.advance(MINUTE)
        case _:
            desk.say(SAYINGS[saying])

    row = desk.row()
    assert (row["state"], row["reason"], row["message"]) == ("failed", "failed_upstream", "policy")
    tried_again = saying in ("no answer", "nothing: it crashed")
    assert (row["queue"], row["due_at"] is None) == ("verify" if tried_again else None, not tried_again)
    desk.clock.advance(60 * DAY)
    assert desk.ledger.deadlines.expire() == []


def test_a_retried_failed_task_that_succeeded_after_all_is_archived(desk: Desk) -> None:
    desk.bring(State.FAILED)
    desk.ledger.registrations.retry(["t"], account=ACCOUNT)
    desk.claim(Stage.VERIFY)

    desk.say(answer())

    assert desk.claim(Stage.ARCHIVE).state is State.SUCCEEDED


# --- unknown ids -------------------------------------------------------------------------------------------


def test_an_unknown_id_is_asked_for_at_2_4_8_to_120_seconds_for_10_minutes_and_then_daily(desk: Desk) -> None:
    desk.tell()
    waits, asked = [], 0
    while desk.state() is State.REPORTED:
        state = desk.ledger.outcomes.not_found(desk.claim(Stage.VERIFY), rand=RAND)
        asked += 1
        if state is State.REPORTED:
            waits.append(desk.seconds_until_due() / 0.75)
            desk.clock.now = desk.row()["due_at"]

    assert waits[:8] == [2, 4, 8, 16, 32, 64, 120, 120]
    assert 10 * MINUTE <= desk.clock() - START < 12 * MINUTE
    assert desk.seconds_until_due() == DAY / SECOND
    assert desk.shown()["reason"] == "task_not_found"


def test_grace_starts_at_the_first_definite_answer_however_long_the_api_was_silent(desk: Desk) -> None:
    desk.tell()
    for _ in range(5):
        desk.fail(desk.claim(Stage.VERIFY), ApiTimeout("no answer"))
        desk.clock.advance(HOUR)

    assert desk.ledger.outcomes.not_found(desk.claim(Stage.VERIFY), rand=RAND) is State.REPORTED


def test_callbacks_about_an_unknown_id_make_us_ask_at_most_once_in_10_minutes(desk: Desk) -> None:
    desk.bring(State.UNKNOWN)
    asked_at = desk.clock()
    for _ in range(60):
        desk.clock.advance(30 * SECOND)
        desk.tell()
        for lease in desk.claim_all(Stage.VERIFY):
            assert desk.clock() - asked_at >= 10 * MINUTE
            asked_at = desk.clock()
            assert desk.ledger.outcomes.not_found(lease, rand=RAND) is State.UNKNOWN

    assert desk.row()["asked"] == 2 + 3
    assert desk.row()["callbacks"] == 61


def test_an_unknown_id_that_a_sweep_finds_is_known_from_then_on(desk: Desk) -> None:
    desk.bring(State.UNKNOWN)

    desk.say(answer(), by=DiscoveredBy.SWEEP)

    assert (desk.state(), desk.shown()["discovered_by"]) == (State.SUCCEEDED, "callback")


def test_a_registration_asks_afresh_for_an_unknown_id(desk: Desk) -> None:
    desk.bring(State.UNKNOWN)

    assert not desk.ledger.registrations.register("t", account=ACCOUNT, family="images/editing/expand")

    lease = desk.claim(Stage.VERIFY)
    assert (lease.state, lease.family_hint, lease.asked) == (State.REPORTED, "images/editing/expand", 0)
    assert desk.ledger.outcomes.not_found(lease, rand=RAND) is State.REPORTED


@pytest.mark.parametrize("past", [State.RUNNING, State.BURIED])
def test_what_the_api_once_confirmed_never_becomes_unknown(desk: Desk, past: State) -> None:
    desk.bring(past)
    for _ in range(20):
        desk.clock.now = desk.row()["due_at"]
        assert desk.ledger.outcomes.not_found(desk.claim(Stage.VERIFY), rand=RAND) is past


# --- the shape of a row --------------------------------------------------------------------------------------

BROKEN = [
    ("succeeded", "queue = NULL, due_at = NULL"),
    ("succeeded", "queue = 'verify'"),
    ("succeeded", "due_at = NULL"),
    ("succeeded", "family = NULL"),
    ("succeeded", "document = NULL"),
    ("succeeded", "created_at = NULL"),
    ("succeeded", "confirmed_at = NULL"),
    ("succeeded", "manifest_key = 'k'"),
    ("succeeded", "archived_at = 1"),
    ("succeeded", "lease_token = 'x'"),
    ("succeeded", "lease_until = 1"),
    ("succeeded", "attempts = -1"),
    ("succeeded", "state = 'archived'"),
    ("succeeded", "state = 'failed'"),
    ("succeeded", "state = 'lost'"),
    ("succeeded", "state = 'done'"),
    ("archived", "manifest_key = NULL"),
    ("archived", "archived_at = NULL"),
    ("archived", "queue = 'archive', due_at = 1"),
    ("archived", "due_at = 1"),
    ("archived", "lease_token = 'x', lease_until = 1"),
    ("running", "queue = 'inquire'"),
    ("running", "queue = NULL, due_at = NULL"),
    ("running", "due_at = NULL"),
    ("reported", "queue = 'verify'"),
    ("reported", "queue = NULL, due_at = NULL"),
    ("reported", "state = 'running'"),
    ("reported", "confirmed_at = 1"),
    ("unknown", "due_at = NULL"),
    ("buried", "reason = NULL"),
    ("buried", "due_at = NULL"),
    ("buried", "queue = 'archive'"),
    ("failed", "reason = NULL"),
    ("failed", "family = NULL"),
    ("failed", "queue = 'archive', due_at = 1"),
    ("lost", "queue = NULL, due_at = NULL"),
    ("lost", "reason = NULL"),
]


@pytest.mark.parametrize(("past", "change"), BROKEN)
@pytest.mark.sqlite_only("test_postgres compares the constraints")
def test_a_row_of_a_wrong_shape_cannot_be_committed(desk: Desk, past: str, change: str) -> None:
    desk.bring(State(past))

    with pytest.raises((sqlite3.IntegrityError, sa.exc.IntegrityError), match=r"(?i)check constraint"):
        desk.write(f"UPDATE tasks SET {change}")  # noqa: S608 -- from the table above


def test_an_asset_is_stored_wholly_or_not_at_all(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    for column in ("name", "key", "bytes", "sha256", "content_type", "source_url"):
        with pytest.raises((sqlite3.IntegrityError, sa.exc.IntegrityError), match="stored_whole"):
            desk.write(f"UPDATE assets SET {column} = NULL")  # noqa: S608 -- one of the above


@pytest.mark.parametrize("past", PASTS)
def test_a_waiting_task_names_its_stage_and_its_due_time(desk: Desk, past: State) -> None:
    desk.bring(past)
    queues = {
        State.REPORTED: "inquire",
        State.UNKNOWN: "inquire",
        State.RUNNING: "verify",
        State.BURIED: "verify",
        State.SUCCEEDED: "archive",
        State.LOST: "archive",
    }

    row = desk.row()
    assert row["queue"] == queues.get(past)
    assert (row["due_at"] is not None) == (past in queues)
    assert row["lease_token"] is None


# --- what an attempt leaves ------------------------------------------------------------------------------------


def test_what_was_stored_before_a_failure_is_kept(desk: Desk) -> None:

    desk.say(answer(assets=(asset("0"), asset("1"))))
    lease = desk.claim(Stage.ARCHIVE)
    error = AssetGone("404")

    desk.ledger.outcomes.bury(
        lease, error, Bury(due_at=START + HOUR), stored=[stored("0")], failed={"1": StoreError("500")}
    )

    shown = [(asset["name"], asset["stored"], asset["reason"]) for asset in desk.shown()["assets"]]
    assert shown == [("0.png", True, None), (None, False, "store_error")]
    assert FAMILY in str(desk.shown()["assets"][0]["key"])
