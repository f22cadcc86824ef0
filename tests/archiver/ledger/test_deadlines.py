"""What time alone does, and what people are told: deadlines, pruning, missed callbacks, `show` and `status`."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import sqlalchemy as sa

from archiver.failures import (
    ApiCredentialsRefused,
    ApiModelMissing,
    ApiTimeout,
    AssetGone,
    BucketMissing,
    NeverMedia,
    StoreError,
)
from archiver.ledger import Expiry
from archiver.ledger.daemons import Service
from archiver.ledger.databases.protocol import WRITE_SECONDS_MAX, Database
from archiver.ledger.deadlines import Deadlines
from archiver.model import Callback, DiscoveredBy, Problem, Stage, State, Status
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
    Place,
    answer,
    asset,
)


@pytest.fixture
def desk(place: Place) -> Iterator[Desk]:
    made = Desk(place)
    yield made
    made.close()


# --- deadlines --------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("past", [State.ARCHIVED, State.FAILED, State.UNKNOWN, State.LOST])
def test_a_deadline_means_nothing_to_what_is_settled(desk: Desk, past: State) -> None:
    desk.bring(past)
    before = desk.row()
    desk.clock.advance(365 * DAY)

    assert desk.ledger.deadlines.expire() == []
    assert desk.row() == before


def test_a_buried_id_that_nobody_confirmed_is_unknown_after_its_deadline_and_not_lost(desk: Desk) -> None:
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


def test_a_task_that_waited_behind_a_hold_is_lost_at_its_deadline_although_nobody_tried_it(
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
def test_a_running_task_that_nobody_could_ask_about_is_lost_at_its_deadline_and_not_failed(
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


@pytest.mark.sqlite_only("a thousand tasks one by one")
def test_a_thousand_deadlines_are_judged_500_at_a_time(desk: Desk) -> None:
    tasks = [answer(f"t{number}") for number in range(1000)]
    for half in (tasks[:500], tasks[500:]):
        desk.ledger.records.record(half, account=ACCOUNT, discovered_by=DiscoveredBy.SWEEP, rand=RAND)
    desk.clock.advance(30 * DAY)

    assert [len(desk.ledger.deadlines.expire()) for _ in range(3)] == [500, 500, 0]


# --- pruning ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small(place: Place) -> Iterator[Desk]:
    """A ledger that keeps at most 3 ids that nobody has confirmed."""
    made = Desk(place, unconfirmed_max=3)
    yield made
    made.close()


def test_ids_that_were_never_confirmed_are_kept_for_30_days(desk: Desk) -> None:
    desk.tell("old")
    desk.clock.advance(SECOND)
    desk.tell("young")
    for lease in desk.claim_all(Stage.VERIFY):
        desk.ledger.outcomes.not_found(lease, rand=RAND)
    desk.bring(State.RUNNING, "confirmed")
    desk.clock.now = START + 30 * DAY - 1
    assert desk.ledger.deadlines.prune() == 0

    desk.clock.advance(1)

    assert desk.ledger.deadlines.prune(by_age=False) == 0
    assert (desk.ledger.deadlines.prune(), desk.ledger.deadlines.prune()) == (1, 0)
    assert [row["task_id"] for row in desk.rows("SELECT task_id FROM tasks ORDER BY id")] == [
        "young",
        "confirmed",
    ]


def test_an_id_of_which_the_api_was_never_heard_is_asked_about_however_old_it_is(desk: Desk) -> None:
    """It was away for a month, or the clock was a year behind when the callback came."""
    desk.tell()
    desk.clock.advance(365 * DAY)
    assert [expiry.verdict for expiry in desk.ledger.deadlines.expire()] == [State.UNKNOWN]

    assert desk.ledger.deadlines.prune() == 0
    desk.ledger.outcomes.not_found(desk.claim(Stage.VERIFY), rand=RAND)
    assert desk.ledger.deadlines.prune() == 1


def test_above_the_most_the_oldest_unconfirmed_ids_are_dropped_and_counted(small: Desk) -> None:
    small.bring(State.ARCHIVED, "archived")
    for number in range(5):
        small.tell(f"t{number}")
        small.clock.advance(1)

    assert (small.ledger.dropped.take(), small.ledger.dropped.take()) == (2, 0)
    assert small.ledger.deadlines.prune() == 0
    left = [row["task_id"] for row in small.rows("SELECT task_id FROM tasks ORDER BY id")]
    assert left == ["archived", "t2", "t3", "t4"]


def test_above_the_most_a_flood_on_one_account_drops_no_id_of_another(small: Desk) -> None:
    small.ledger.callbacks.record([Callback("other", "genuine", Status.SUCCEEDED, FAMILY)])
    for number in range(4):
        small.clock.advance(1)
        small.tell(f"forged-{number}")

    assert small.ledger.dropped.take() == 2
    left = [row["task_id"] for row in small.rows("SELECT task_id FROM tasks ORDER BY id")]
    assert left == ["genuine", "forged-2", "forged-3"]


def test_above_the_most_what_the_api_has_denied_goes_before_what_is_older(small: Desk) -> None:
    small.tell("older")
    lease = small.claim(Stage.VERIFY)
    small.clock.advance(1)
    small.tell("denied")
    small.ledger.outcomes.not_found(small.claim(Stage.VERIFY), rand=RAND)
    small.ledger.outcomes.give_back(lease)
    small.clock.advance(10 * MINUTE)
    for number in range(2):
        small.clock.advance(1)
        small.tell(f"t{number}")

    assert small.ledger.dropped.take() == 1
    left = [row["task_id"] for row in small.rows("SELECT task_id FROM tasks ORDER BY id")]
    assert left == ["older", "t0", "t1"]


def test_dropping_an_id_takes_its_history_along(small: Desk) -> None:
    for number in range(4):
        small.ledger.registrations.register(f"t{number}", account=ACCOUNT, family=FAMILY)

    small.ledger.deadlines.prune()

    assert len(small.rows("SELECT * FROM history")) == 3


def test_an_id_that_is_being_asked_for_is_not_dropped_meanwhile(small: Desk) -> None:
    for number in range(3):
        small.tell(f"t{number}")
        small.clock.advance(1)
    (lease,) = small.ledger.claims.verify(count=1, offset=0, account=ACCOUNT)

    small.tell("t3")

    left = [row["task_id"] for row in small.rows("SELECT task_id FROM tasks ORDER BY id")]
    assert (lease.task_id, left) == ("t0", ["t0", "t2", "t3"])


def test_ids_are_never_too_many_however_fast_they_come(place: Place) -> None:
    desk = Desk(place, unconfirmed_max=1000)
    for batch in range(20):
        forged = [Callback(ACCOUNT, f"{batch}-{number}", Status.SUCCEEDED, FAMILY) for number in range(500)]
        desk.clock.advance(1)
        desk.ledger.callbacks.record(forged)
        assert sum(desk.counted().values()) <= 1000

    assert desk.ledger.dropped.take() == 19 * 500 - 500
    assert {row["task_id"] for row in desk.rows("SELECT task_id FROM tasks")} == {
        f"{batch}-{number}" for batch in (18, 19) for number in range(500)
    }
    desk.close()


def test_an_old_id_that_a_callback_names_again_is_asked_about_again_and_not_dropped(desk: Desk) -> None:
    desk.bring(State.UNKNOWN)
    desk.clock.advance(30 * DAY)
    desk.tell()

    assert desk.ledger.deadlines.prune() == 0
    desk.ledger.outcomes.not_found(desk.claim(Stage.VERIFY), rand=RAND)
    desk.clock.advance(30 * DAY)
    assert desk.ledger.deadlines.prune() == 1


def test_an_old_id_that_the_same_batch_names_again_is_not_what_makes_room_for_the_others(small: Desk) -> None:
    for number in range(3):
        small.tell(f"t{number}")
        small.clock.advance(1)

    small.ledger.callbacks.record(
        [Callback(ACCOUNT, task_id, Status.SUCCEEDED, FAMILY) for task_id in ("new-0", "t0", "new-1")]
    )

    left = {row["task_id"] for row in small.rows("SELECT task_id FROM tasks")}
    assert left == {"t0", "new-0", "new-1"}


class Interrupted:
    """A database in which something happens between a look and the transaction that it is for."""

    def __init__(self, database: Database, happens: Callable[[], object]) -> None:
        self._database = database
        self._happens = happens
        self.read = database.read
        self.name = database.name
        self.now = database.now
        self.begin_daemon = database.begin_daemon
        self.insert_new_ids = database.insert_new_ids
        self.has_one_writer = database.has_one_writer
        self.try_change = database.try_change
        self.keep_bounded = database.keep_bounded
        self.obstacle = database.obstacle
        self.disk = database.disk
        self.close = database.close

    def write(self, *, seconds_max: float = WRITE_SECONDS_MAX) -> AbstractContextManager[sa.Connection]:
        self._happens()
        return self._database.write(seconds_max=seconds_max)


def test_an_id_that_a_callback_names_while_it_is_being_dropped_stays(desk: Desk) -> None:
    desk.bring(State.UNKNOWN)
    desk.clock.advance(30 * DAY)
    database = Interrupted(desk.ledger.database, desk.tell)
    deadlines = Deadlines(database, now=desk.clock, unconfirmed_max=1000)

    assert deadlines.prune() == 0
    assert desk.state() is State.UNKNOWN


# --- missed callbacks -------------------------------------------------------------------------------------------

PATIENCE = 5 * MINUTE
MISSED = {(ACCOUNT, FAMILY): 1}


def found_by_sweep(desk: Desk, task_id: str = "t", *, finished_at: int = START + 1) -> None:
    desk.say(answer(task_id, updated_at=finished_at), by=DiscoveredBy.SWEEP)


def test_a_callback_is_missed_once_a_sweep_interval_after_the_sweep_found_the_task_finished(
    desk: Desk,
) -> None:
    found_by_sweep(desk)
    desk.clock.advance(PATIENCE - 1)
    assert desk.ledger.deadlines.count_missed(patience_ms=PATIENCE) == {}

    desk.clock.advance(1)

    assert desk.ledger.deadlines.count_missed(patience_ms=PATIENCE) == MISSED
    found_by_sweep(desk)
    desk.clock.advance(DAY)
    assert desk.ledger.deadlines.count_missed(patience_ms=PATIENCE) == {}
    assert desk.ledger.views.status().missed_callbacks == {FAMILY: 1}


@pytest.mark.parametrize("before", [State.REPORTED, State.RUNNING])
def test_a_task_that_was_known_but_not_known_to_have_finished_counts_too(desk: Desk, before: State) -> None:
    if before is State.RUNNING:
        desk.bring(before)
    else:
        desk.tell(status=Status.RUNNING)
    found_by_sweep(desk)
    desk.clock.advance(PATIENCE)

    assert desk.ledger.deadlines.count_missed(patience_ms=PATIENCE) == MISSED


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_callback_that_came_is_not_missed(desk: Desk, when: str) -> None:
    if when == "before":
        desk.tell()
    found_by_sweep(desk)
    if when == "after":
        desk.clock.advance(PATIENCE - 1)
        desk.tell()
    desk.clock.advance(PATIENCE)

    assert desk.ledger.deadlines.count_missed(patience_ms=PATIENCE) == {}


def test_a_callback_that_told_of_the_beginning_only_does_not_make_up_for_the_end(desk: Desk) -> None:
    found_by_sweep(desk)
    desk.tell(status=Status.RUNNING)
    desk.clock.advance(PATIENCE)

    assert desk.ledger.deadlines.count_missed(patience_ms=PATIENCE) == MISSED


def test_what_finished_before_the_ledgers_first_start_called_nobody_back(desk: Desk) -> None:
    found_by_sweep(desk, "history", finished_at=START - 1)
    desk.reopen()
    desk.clock.advance(PATIENCE)

    assert desk.ledger.deadlines.count_missed(patience_ms=PATIENCE) == {}


def test_what_a_single_question_finds_finished_is_no_missed_callback(desk: Desk) -> None:
    desk.tell(status=Status.RUNNING)
    desk.claim(Stage.VERIFY)
    desk.say(answer(), by=DiscoveredBy.CALLBACK, asked_as="t")
    desk.say(answer(), by=DiscoveredBy.SWEEP)
    desk.clock.advance(PATIENCE)

    assert desk.ledger.deadlines.count_missed(patience_ms=PATIENCE) == {}


# --- show and status --------------------------------------------------------------------------------------------


def test_show_tells_of_a_task_in_the_agreed_shape(desk: Desk) -> None:
    desk.tell()
    desk.say(answer(assets=(asset("0"), asset("0.watermark")), external_task_id="mine"))
    desk.fail(desk.claim(Stage.ARCHIVE), StoreError("500"))

    shown = desk.shown()

    assert shown.pop("history") == [
        {"at": "2026-09-21T14:13:20.000Z", "event": "task.moved", "detail": "reported → succeeded"},
        {"at": "2026-09-21T14:13:20.000Z", "event": "task.retried", "detail": "store_error: 500"},
    ]
    nothing = {"name": None, "key": None, "stored": False, "bytes": None, "sha256": None, "reason": None}
    nothing["link"] = None
    assert shown == {
        "task_id": "t",
        "account": ACCOUNT,
        "family": FAMILY,
        "external_task_id": "mine",
        "state": "succeeded",
        "reason": "store_error",
        "message": "500",
        "attempts": 1,
        "due_at": "2026-09-21T14:13:21.500Z",
        "created_at": "2026-09-21T14:13:20.000Z",
        "updated_at": "2026-09-21T14:13:44.000Z",
        "expires_at": "2026-10-21T14:13:20.000Z",
        "discovered_by": "callback",
        "callbacks": 1,
        "manifest_key": None,
        "amendment_keys": [],
        "assets": [{"stem": stem, "url": asset(stem).url, **nothing} for stem in ("0", "0.watermark")],
        "forwards": [],
    }


def test_an_archived_task_shows_where_it_is_and_no_trouble_any_more(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    desk.fail(desk.claim(Stage.ARCHIVE), StoreError("500"))
    desk.clock.advance(MINUTE)

    desk.archived(desk.claim(Stage.ARCHIVE))

    shown = desk.shown()
    assert (shown["state"], shown["reason"], shown["message"], shown["due_at"]) == (
        "archived",
        None,
        None,
        None,
    )
    assert shown["manifest_key"] == "f/manifest.json"
    assert (shown["assets"][0]["name"], shown["assets"][0]["url"]) == ("0.png", None)


def test_an_unexpected_error_is_written_down_however_strange_its_words(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    strange = ApiTimeout("\x00 \ud800 " + "x" * 10_000)

    desk.fail(desk.claim(Stage.ARCHIVE), strange)

    assert len(desk.shown()["message"]) <= 2000


def test_nobody_knows_an_id_that_never_came(desk: Desk) -> None:
    assert desk.ledger.views.show("t", account=ACCOUNT) is None
    desk.bring(State.RUNNING)
    assert desk.ledger.views.show("t", account="other") is None


def test_status_names_every_state_and_all_that_an_operator_needs(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED, "a")
    desk.clock.advance(1)
    desk.tell("b")
    token = desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)
    assert token is not None
    desk.ledger.sweeps.end(token, succeeded_at=START, full=True, oldest_first=False, last_page=None)
    desk.ledger.holds.set(BucketMissing("gone"), account=ACCOUNT, stage=Stage.ARCHIVE)
    desk.ledger.daemons.beat("d1", version="0.1.0", started_at=START, clock_skew_ms=-2500)

    view = desk.ledger.views.status()
    status: dict[str, Any] = view.as_json(several_accounts=False)

    assert [daemon["name"] for daemon in status.pop("daemons")] == ["d1"]
    (hold,) = status.pop("holds")
    assert hold.items() >= {"stage": "archive", "reason": "bucket_missing"}.items()
    assert (hold["since"], hold["what_to_do"]) == ("2026-09-21T14:13:20.001Z", BucketMissing.what_to_do)
    assert status == {
        "states": dict.fromkeys(State, 0) | {"succeeded": 1, "reported": 1},
        "earliest_deadline": "2026-10-21T14:13:20.000Z",
        "last_callback_at": "2026-09-21T14:13:20.001Z",
        "last_sweep": {FAMILY: "2026-09-21T14:13:20.000Z"},
        "missed_callbacks": {FAMILY: 0},
    }
    assert view.clock_skew_ms == -2500


def test_an_id_that_nobody_has_confirmed_has_no_deadline_to_warn_of(desk: Desk) -> None:
    desk.tell()
    desk.fail(desk.claim(Stage.VERIFY), ApiModelMissing("no such path"))
    assert desk.state() is State.BURIED

    assert desk.ledger.views.status().earliest_deadline is None


def test_a_fresh_ledger_has_nothing_to_say_and_says_it(desk: Desk) -> None:
    view = desk.ledger.views.status()

    assert view.clock_skew_ms is None
    assert view.as_json(several_accounts=False) == {
        "states": dict.fromkeys(State, 0),
        "earliest_deadline": None,
        "last_callback_at": None,
        "last_sweep": {},
        "missed_callbacks": {},
        "holds": [],
        "daemons": [],
    }


def test_a_daemon_is_listed_while_it_gives_signs_of_life(desk: Desk) -> None:
    desk.ledger.daemons.beat("d1", version="1", started_at=START)
    desk.clock.advance(119 * SECOND)
    desk.ledger.daemons.beat("d2", version="1", started_at=START)
    assert [daemon.name for daemon in desk.ledger.views.status().alive_daemons] == ["d1", "d2"]

    desk.clock.advance(SECOND)
    assert [daemon.name for daemon in desk.ledger.views.status().alive_daemons] == ["d2"]
    desk.ledger.daemons.leave("d2")
    assert desk.ledger.views.status().alive_daemons == ()
    desk.ledger.daemons.beat("d2", version="1", started_at=START)
    assert [daemon.name for daemon in desk.ledger.daemons.alive()] == ["d2"]


@pytest.mark.sqlite_only("on PostgreSQL daemons work beside each other")
def test_a_daemon_that_was_killed_is_not_listed_beside_the_next(desk: Desk) -> None:
    desk.ledger.daemons.beat("killed", version="1", started_at=START)
    desk.reopen()
    desk.ledger.daemons.beat("next", version="1", started_at=START)

    assert [daemon.name for daemon in desk.ledger.daemons.alive()] == ["next"]


def test_status_tells_scripts_what_each_daemon_does(desk: Desk) -> None:
    desk.ledger.daemons.beat("d1", version="0.1.0", started_at=START)
    desk.clock.advance(5 * SECOND)
    desk.ledger.daemons.beat(
        "d1", version="0.1.0", started_at=START, serves=[Service.WORK], accounts=["a"], leases=3
    )

    (daemon,) = desk.ledger.views.status().alive_daemons

    assert daemon.as_json() == {
        "serves": ["work"],
        "accounts": ["a"],
        "leases": 3,
        "name": "d1",
        "pid": os.getpid(),
        "version": "0.1.0",
        "since": "2026-09-21T14:13:20.000Z",
        "seen_at": "2026-09-21T14:13:25.000Z",
    }


def test_a_daemon_warns_until_it_says_otherwise(desk: Desk) -> None:
    warning = Problem("settings", "the clock is unchecked", "keep it right by NTP", ACCOUNT, START)
    desk.ledger.daemons.beat("d1", version="1", started_at=START)
    desk.ledger.daemons.warn("d1", [warning])
    desk.ledger.daemons.beat("d1", version="1", started_at=START)
    assert desk.ledger.views.status().alive_daemons[0].warnings == (warning,)

    desk.ledger.daemons.warn("d1", [])
    assert desk.ledger.views.status().alive_daemons[0].warnings == ()


def test_ids_in_a_state_come_nearest_deadline_first(desk: Desk) -> None:
    for number, task_id in enumerate("abc"):
        desk.say(answer(task_id, created_at=START - number))

    assert desk.ledger.views.ids_in(State.SUCCEEDED, account=ACCOUNT) == ["c", "b", "a"]
    assert desk.ledger.views.ids_in(State.SUCCEEDED, account=ACCOUNT, count_max=1) == ["c"]


# --- the sweep's lease ------------------------------------------------------------------------------------------


def test_one_sweeper_at_a_time_has_a_family(desk: Desk) -> None:
    begin = desk.ledger.sweeps.begin
    token = begin(account=ACCOUNT, family=FAMILY)
    assert token is not None
    assert begin(account=ACCOUNT, family=FAMILY) is None
    assert begin(account=ACCOUNT, family="images/omni-image") is not None

    for _ in range(3):
        desk.clock.advance(59 * SECOND)
        assert desk.ledger.sweeps.renew(token)
        assert begin(account=ACCOUNT, family=FAMILY) is None
    desk.clock.advance(65 * SECOND - 1)
    assert begin(account=ACCOUNT, family=FAMILY) is None
    desk.clock.advance(1)
    other = begin(account=ACCOUNT, family=FAMILY)

    assert other is not None
    assert not desk.ledger.sweeps.renew(token)


def test_a_sweeper_that_was_overtaken_writes_nothing_about_its_sweep(desk: Desk) -> None:
    token = desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)
    assert token is not None
    desk.clock.advance(65 * SECOND)
    desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)

    desk.ledger.sweeps.end(token, succeeded_at=START, full=True, oldest_first=True, last_page=3)

    memory = desk.ledger.sweeps.memory(account=ACCOUNT, family=FAMILY)
    assert (memory.last_success_at, memory.last_full_at, memory.oldest_first) == (None, None, False)
    assert desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY) is None


@pytest.mark.sqlite_only("a start frees leases on SQLite only")
def test_a_starting_daemon_takes_the_sweep_of_a_dead_one_over(desk: Desk) -> None:
    desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)

    desk.reopen()

    assert desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY) is not None


def test_waiting_counts_due_ids_by_family_and_says_which_families_the_api_has_confirmed(desk: Desk) -> None:
    desk.tell("a", family="images/editing/expand")
    desk.tell("b", family=None)
    desk.tell("c", family=None)
    desk.bring(State.RUNNING, "d")
    desk.clock.advance(MINUTE)
    desk.tell("listed", family="images/omni-image")
    query_individually = desk.ledger.claims.query_individually

    assert query_individually(account=ACCOUNT, family="images/omni-image", due_before=START) == 0
    assert query_individually(account=ACCOUNT, family="images/omni-image", due_before=desk.clock()) == 1
    waiting = desk.ledger.claims.pending(account=ACCOUNT, rows_max=100)
    assert waiting.by_family == {"images/editing/expand": 1, None: 2, FAMILY: 1}
    assert (waiting.confirmed, waiting.individually) == (frozenset({FAMILY}), 1)
    assert query_individually(account=ACCOUNT, family=None, due_before=desk.clock()) == 2
    assert desk.ledger.claims.pending(account=ACCOUNT, rows_max=2).individually == 2
