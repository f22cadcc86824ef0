"""The simulated account, and the log."""

import json
import logging
import pathlib
from collections.abc import Callable, Iterator

import pytest
import structlog

from archiver import log
from tests.simulator import KlingSimulator


@pytest.fixture
def sim(account: KlingSimulator) -> KlingSimulator:
    """One account for all tests of a module, each of which has tasks of its own."""
    account.clear_faults()
    account.complaints.clear()
    return account


@pytest.fixture
def logged(tmp_path: pathlib.Path) -> Iterator[Callable[[], list[str]]]:
    """The events that were logged at `error` or above, in order; an undeclared event fails."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with (tmp_path / "log").open("w+") as stream:
        log.configure(format="json", level="error", stream=stream, strict=True)
        yield lambda: [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    logging.captureWarnings(False)
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
