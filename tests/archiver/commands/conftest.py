"""A ledger with tasks. A module that needs other ones has a fixture of its own."""

import pathlib

import pytest

from archiver.failures import NotMedia
from archiver.model import Callback, Status
from tests.harness.command_line import ACCOUNT, FAMILY, CommandLine, api_task, archive, bury, record


@pytest.fixture
def line(tmp_path: pathlib.Path) -> CommandLine:
    return CommandLine(tmp_path / "ledger.db").with_ledger()


@pytest.fixture
def filled(line: CommandLine) -> CommandLine:
    """Three tasks: `1` archived (external id `order-1`), `2` buried, `3` known from a callback only."""
    with line.ledger() as ledger:
        record(ledger, api_task("1", external_task_id="order-1"), api_task("2"))
        archive(ledger, "1")
        bury(ledger, "2", NotMedia("0 is HTML"))
        ledger.callbacks.record([Callback(ACCOUNT, "3", Status.SUCCEEDED, FAMILY)])
    return line
