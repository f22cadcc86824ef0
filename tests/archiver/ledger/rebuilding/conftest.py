"""An empty ledger whose forwards have a target, and a bucket."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.harness.fake_store import FakeStore
from tests.harness.ledgers import DAY, Desk, Place


@pytest.fixture
def desk(place: Place) -> Iterator[Desk]:
    with contextlib.closing(Desk(place)) as desk:
        desk.ledger.forwards.set_operator(is_told=True)
        desk.clock.advance(40 * DAY)
        yield desk


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()
