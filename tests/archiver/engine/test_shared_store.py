"""Several workers on a store that cannot keep them apart."""

import pytest

from archiver.engine.looks.sharing import SharedStore
from archiver.ledger import Service
from archiver.store import ConditionalPut
from tests.harness.fake_store import FakeStore
from tests.harness.ledgers import MINUTE, START, Desk


def beat(desk: Desk, name: str, service: Service) -> None:
    desk.ledger.daemons.beat(name, version="1", started_at=START, serves=[service])


@pytest.mark.parametrize(
    ("second_put", "is_problem"),
    [
        (None, False),
        (ConditionalPut.RESPECTED, False),
        (ConditionalPut.IGNORED, True),
        (ConditionalPut.REFUSED, True),
    ],
)
def test_several_workers_on_a_store_that_overwrites_are_a_problem(
    desk: Desk, second_put: ConditionalPut | None, is_problem: bool
) -> None:
    store = FakeStore()
    desk.write(
        "INSERT INTO trust (place, objects, second_put) VALUES (?, 1000, ?)", store.location, second_put
    )
    shared = SharedStore(desk.ledger, store)
    beat(desk, "one", Service.WORK)
    beat(desk, "door", Service.DOOR)
    assert shared.problems() == ()

    beat(desk, "two", Service.WORK)
    assert [(problem.code, problem.reason) for problem in shared.problems()] == (
        [("settings", "store_overwrites")] if is_problem else []
    )

    desk.clock.advance(2 * MINUTE)
    beat(desk, "one", Service.WORK)
    assert shared.problems() == (), "the other has ended"
