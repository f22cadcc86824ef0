"""The lease of a family, and the ids that wait for a query."""

import pytest

from archiver.model import State
from tests.harness.ledgers import (
    ACCOUNT,
    FAMILY,
    MINUTE,
    SECOND,
    START,
    Desk,
)


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
