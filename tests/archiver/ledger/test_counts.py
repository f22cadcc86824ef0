"""Counts of tasks: what the transactions have counted is what is there, and to read it costs nothing."""

import contextlib
import pathlib
import random
from collections.abc import Callable, Iterator

import pytest

from archiver.failures import ApiServerError, ApiTimeout, AssetGone, BucketMissing, LeaseLost, NotMedia
from archiver.model import Callback, DiscoveredBy, Lease, Stage, State, Status
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, HOUR, MINUTE, RAND, Desk, answer


@pytest.fixture
def desk(tmp_path: pathlib.Path) -> Iterator[Desk]:
    made = Desk(tmp_path, unconfirmed_max=25)
    yield made
    made.close()


class History:
    """Calls of the ledger in a random order, with ids that repeat."""

    def __init__(self, desk: Desk, seed: int) -> None:
        self.desk = desk
        self.ledger = desk.ledger
        self.random = random.Random(seed)
        self.leases: list[Lease] = []

    def go(self) -> None:
        """One call."""
        steps = [
            self.callbacks,
            self.answers,
            self.register,
            self.enrol,
            self.claim,
            self.claim,
            self.settle,
            self.settle,
            self.settle,
            self.retry,
            self.time,
            self.upkeep,
        ]
        self.random.choice(steps)()

    def an_id(self) -> str:
        return f"t{self.random.randrange(60)}"

    def callbacks(self) -> None:
        statuses = [Status.SUCCEEDED, Status.FAILED, None]
        self.ledger.callbacks.record(
            [
                Callback(
                    ACCOUNT,
                    self.an_id(),
                    self.random.choice(statuses),
                    FAMILY,
                    is_console_test=self.random.random() < 0.2,
                )
                for _ in range(self.random.randrange(1, 5))
            ]
        )

    def answers(self) -> None:
        ids = {self.an_id() for _ in range(3)}
        tasks = [
            answer(
                task_id,
                self.random.choice([*Status, Status.SUCCEEDED, Status.SUCCEEDED]),
                external_task_id=self.random.choice([None, self.an_id()]),
                created_at=self.desk.clock() - self.random.randrange(40 * DAY),
                assets=self.random.choice([None, None, ()]),
            )
            for task_id in sorted(ids)
        ]
        asked_as = self.random.choice([None, self.an_id()])
        self.ledger.records.record(
            tasks if asked_as is None else tasks[:1],
            account=ACCOUNT,
            discovered_by=self.random.choice(list(DiscoveredBy)),
            rand=RAND,
            asked_as=asked_as,
        )

    def register(self) -> None:
        task_id = self.an_id()
        if self.random.random() < 0.3:
            self.ledger.registrations.withdraw(task_id, account=ACCOUNT)
        else:
            self.ledger.registrations.register(task_id, account=ACCOUNT, family=FAMILY)

    def enrol(self) -> None:
        self.ledger.registrations.enrol({self.an_id(): ["images"], self.an_id(): []}, account=ACCOUNT)

    def claim(self) -> None:
        stage = self.random.choice([Stage.VERIFY, Stage.ARCHIVE])
        self.leases += self.desk.claim_all(stage, count=5)

    def settle(self) -> None:
        if not self.leases:
            return
        lease = self.leases.pop(self.random.randrange(len(self.leases)))
        ways: list[Callable[[], object]]
        if lease.stage is Stage.ARCHIVE:
            ways = [
                lambda: self.desk.archived(lease),
                lambda: self.desk.archived(lease),
                lambda: self.desk.fail(lease, NotMedia("html")),
                lambda: self.desk.fail(lease, AssetGone("404")),
                lambda: self.desk.fail(lease, BucketMissing("x")),
                lambda: self.ledger.outcomes.give_back(lease),
            ]
        else:
            ways = [
                lambda: self.ledger.outcomes.not_found(lease, rand=RAND),
                lambda: self.ledger.outcomes.not_found(lease, rand=RAND),
                lambda: self.desk.fail(lease, NotMedia("cannot be asked for")),
                lambda: self.desk.fail(lease, ApiTimeout("x")),
                lambda: self.desk.fail(lease, ApiServerError("x")),
            ]
        with contextlib.suppress(LeaseLost):
            self.random.choice(ways)()

    def retry(self) -> None:
        self.ledger.registrations.retry([self.an_id(), self.an_id()], account=ACCOUNT)

    def time(self) -> None:
        self.desk.clock.advance(self.random.choice([MINUTE, 11 * MINUTE, HOUR, DAY, 5 * DAY]))
        for stage in (Stage.VERIFY, Stage.ARCHIVE):
            self.ledger.holds.release(account=ACCOUNT, stages=(stage,), family=FAMILY)

    def upkeep(self) -> None:
        self.ledger.deadlines.expire()
        self.ledger.deadlines.prune()
        self.ledger.deadlines.bring_forward()


@pytest.mark.parametrize("seed", range(4))
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
