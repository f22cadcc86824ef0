"""The bucket and the ledger that a run compares."""

import pathlib
from collections.abc import Iterator

import pytest

from tests.harness.audited import Audited


@pytest.fixture
def audited(tmp_path: pathlib.Path) -> Iterator[Audited]:
    made = Audited(tmp_path)
    yield made
    made.desk.close()
