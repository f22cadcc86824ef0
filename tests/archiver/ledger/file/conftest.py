"""A ledger that gives up on a lock at once."""

import pathlib
from collections.abc import Iterator

import pytest

from tests.harness.ledgers import Desk


@pytest.fixture
def desk(tmp_path: pathlib.Path) -> Iterator[Desk]:
    made = Desk(tmp_path, busy_seconds=0.05)
    yield made
    made.close()
