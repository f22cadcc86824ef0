"""Ids that the API has not confirmed: how long they are kept, and how many."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import sqlalchemy as sa

from archiver.ledger.databases.protocol import WRITE_SECONDS_MAX, Database
from archiver.ledger.deadlines import Deadlines
from archiver.model import Callback, Stage, State, Status
from tests.harness.ledgers import (
    ACCOUNT,
    DAY,
    FAMILY,
    MINUTE,
    RAND,
    SECOND,
    START,
    Desk,
    Place,
)


@pytest.fixture
def small(place: Place) -> Iterator[Desk]:
    """A ledger that keeps at most 3 unconfirmed ids."""
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
