"""Counts of tasks: what the transactions have counted is what is there, and to read it costs nothing."""

import json
from collections.abc import Iterator

import pytest

from archiver.model import State, Status
from tests.harness.histories import History
from tests.harness.ledgers import ACCOUNT, Desk, Place, answer


@pytest.fixture
def desk(place: Place) -> Iterator[Desk]:
    made = Desk(place, unconfirmed_max=25)
    yield made
    made.close()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.sqlite_only("test_two_databases has such histories on both")
def test_whatever_happens_the_counts_are_what_a_look_at_every_task_would_give(desk: Desk, seed: int) -> None:
    history = History(desk, seed)
    seen: set[State] = set()
    for step in range(400):
        history.go()
        if step % 20 == 0:
            desk.ledger.deadlines.fold_counts()
            assert desk.counts() == desk.counted()
            seen |= {State(state) for _, state, _ in desk.counted()}

    assert desk.counts() == desk.counted()
    assert seen >= {State.REPORTED, State.SUCCEEDED, State.ARCHIVED, State.FAILED, State.BURIED}


def test_what_status_counts_is_json_on_every_database(desk: Desk) -> None:
    desk.bring(State.RUNNING)
    shown = json.loads(json.dumps(desk.ledger.views.status().as_json(several_accounts=True)))

    assert shown["states"][State.RUNNING] == 1


def test_an_account_takes_its_counts_to_its_new_name(desk: Desk) -> None:
    desk.bring(State.RUNNING)

    desk.ledger.accounts.rename(ACCOUNT, "renamed")

    assert desk.ledger.accounts.stranded(known=()) == {"renamed": 1}
    assert desk.ledger.views.status().states[State.RUNNING] == 1


def test_folding_leaves_a_row_for_each_kind_of_task_and_the_same_counts(desk: Desk) -> None:
    for number in range(150):
        desk.say(answer(f"t{number}", Status.RUNNING))
        desk.say(answer(f"t{number}", Status.FAILED))
    assert len(desk.rows("SELECT id FROM task_counts")) == 450

    assert desk.ledger.deadlines.fold_counts() == 449

    assert desk.rows("SELECT account, state, tasks FROM task_counts") == [
        {"account": ACCOUNT, "state": "failed", "tasks": 150}
    ]
    assert desk.ledger.views.status().states[State.FAILED] == 150
    assert desk.ledger.deadlines.fold_counts() == 0
