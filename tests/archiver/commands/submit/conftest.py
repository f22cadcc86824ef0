"""A simulated account, and a command line beside a daemon."""

import pathlib
from collections.abc import Iterator

import pytest

from tests.harness.command_line import (
    CommandLine,
)
from tests.harness.submitting import beat
from tests.simulator import KlingSimulator
from tests.simulator.media import media


@pytest.fixture
def simulator() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator


@pytest.fixture
def line(tmp_path: pathlib.Path, simulator: KlingSimulator) -> CommandLine:
    """An empty ledger, beside which a daemon was seen just now."""
    line = CommandLine(tmp_path / "ledger.db", simulator=simulator)
    beat(line)
    return line


@pytest.fixture
def picture(tmp_path: pathlib.Path) -> pathlib.Path:
    """A file of 400 × 300 pixels."""
    path = tmp_path / "picture.jpg"
    path.write_bytes(media("picture", "jpeg", (400, 300)))
    return path
