"""A thread of the engine that goes from transaction to transaction comes a piece further with each."""

import pytest

from archiver.pulses.watch import LIMITS
from tests.harness.ledgers import Desk
from tests.harness.watched import Watched


@pytest.mark.parametrize("kind", ["read", "write"])
def test_a_thread_that_goes_from_transaction_to_transaction_does_not_hang(desk: Desk, kind: str) -> None:
    watched = Watched()
    with watched.pulses.watched("upkeep-loop"):
        for _ in range(2):
            watched.pass_seconds(LIMITS["upkeep-loop"].seconds - 1)
            with getattr(desk.ledger.database, kind)():
                pass
        assert watched.stalled() == []
        watched.pass_seconds(LIMITS["upkeep-loop"].seconds + 1)
        assert watched.pulses.vital_stalled() == ["upkeep-loop"]
