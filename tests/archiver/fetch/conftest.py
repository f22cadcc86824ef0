"""A spool that must be empty again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from archiver.fetch.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """Every test ends with nothing promised: no failure may leak room."""
    spool = Spool(tmp_path / "spool")
    yield spool
    assert spool.promised_bytes == 0
