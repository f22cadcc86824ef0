"""Random histories of a ledger: its calls in any order, about ids that repeat."""

import contextlib
import random
from collections.abc import Callable

from archiver.failures import ApiServerError, ApiTimeout, AssetGone, BucketMissing, LeaseLost, NotMedia
from archiver.model import Callback, DiscoveredBy, Lease, Stage, Status
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, HOUR, MINUTE, RAND, Desk, answer


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

    def claim(self) -> object:
        stage = self.random.choice([Stage.VERIFY, Stage.ARCHIVE])
        self.leases += self.desk.claim_all(stage, count=5)
        return None

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

    def upkeep(self) -> object:
        self.ledger.deadlines.expire()
        self.ledger.deadlines.prune()
        self.ledger.deadlines.bring_forward()
        return None
