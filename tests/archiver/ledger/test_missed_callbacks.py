"""Finished tasks that the sweep found, and that no callback has named: each counts as one missed callback."""

import pytest

from archiver.model import DiscoveredBy, Stage, State, Status
from tests.harness.ledgers import (
    ACCOUNT,
    DAY,
    FAMILY,
    MINUTE,
    START,
    Desk,
    answer,
)

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


def test_a_task_that_finished_before_the_ledgers_first_start_misses_no_callback(desk: Desk) -> None:
    found_by_sweep(desk, "history", finished_at=START - 1)
    desk.reopen()
    desk.clock.advance(PATIENCE)

    assert desk.ledger.deadlines.count_missed(patience_ms=PATIENCE) == {}


def test_a_task_that_a_single_query_finds_finished_misses_no_callback(desk: Desk) -> None:
    desk.tell(status=Status.RUNNING)
    desk.claim(Stage.VERIFY)
    desk.say(answer(), by=DiscoveredBy.CALLBACK, asked_as="t")
    desk.say(answer(), by=DiscoveredBy.SWEEP)
    desk.clock.advance(PATIENCE)

    assert desk.ledger.deadlines.count_missed(patience_ms=PATIENCE) == {}
