"""Counts of tasks: what the transactions have counted is what is there, and to read it costs nothing."""

import contextlib
import json
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from archiver.failures import LeaseLost, LedgerUnavailable
from archiver.ledger.views import TaskFilter
from archiver.model import Stage, State, Status
from tests.harness.histories import History
from tests.harness.ledgers import ACCOUNT, Desk, Place, answer
from tests.harness.plans import executed


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
            assert desk.ledger.recounts.mend() == 0
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


def test_a_wrong_count_hides_a_task_until_it_is_mended(desk: Desk) -> None:
    desk.bring(State.FAILED)
    desk.tell("unconfirmed")
    desk.write("DELETE FROM task_counts")
    desk.write(
        "INSERT INTO task_counts (account, state, is_confirmed, tasks) VALUES ('us', 'lost', ?, 3)", True
    )
    page = TaskFilter(account=ACCOUNT)
    assert desk.ledger.views.tasks(page, limit=9).rows == ()

    assert [desk.ledger.recounts.mend() for _ in range(2)] == [3, 0]

    assert desk.counts() == desk.counted()
    assert {row.task_id for row in desk.ledger.views.tasks(page, limit=9).rows} == {"t", "unconfirmed"}


@pytest.mark.parametrize("happens", [False, True], ids=["failed", "failed but happened"])
def test_a_mend_that_fails_is_made_good_by_the_next(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, *, happens: bool
) -> None:
    desk.bring(State.FAILED)
    desk.write("DELETE FROM task_counts")
    database = desk.ledger.database
    write = database.write

    @contextlib.contextmanager
    def ends_at_commit(**limits: float) -> Iterator[sa.Connection]:
        if happens:
            with write(**limits) as connection:
                yield connection
        raise LedgerUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(database, "write", ends_at_commit)
        with pytest.raises((LedgerUnavailable, RuntimeError)):
            desk.ledger.recounts.mend()
    desk.reopen()

    assert desk.ledger.recounts.mend() == (0 if happens else 1)
    assert desk.counts() == desk.counted()


@pytest.mark.sqlite_only("how SQLite goes about it")
def test_to_count_anew_reads_two_indexes_and_no_confirmed_task(desk: Desk) -> None:
    desk.bring(State.FAILED)
    statements = executed(desk.ledger.recounts.mend)

    plans = [row["detail"] for said, _ in statements for row in desk.rows(f"EXPLAIN QUERY PLAN {said}")]
    assert [plan for plan in plans if " tasks " in plan] == [
        "SCAN tasks USING COVERING INDEX tasks_by_family",
        "SCAN tasks USING INDEX tasks_by_hint",
    ]


def test_a_paused_worker_of_a_renamed_account_loses_its_lease(desk: Desk) -> None:
    desk.say(answer())
    lease = desk.claim(Stage.ARCHIVE)
    desk.ledger.accounts.rename(ACCOUNT, "renamed")

    with pytest.raises(LeaseLost):
        desk.archived(lease)

    assert desk.counts() == desk.counted()
