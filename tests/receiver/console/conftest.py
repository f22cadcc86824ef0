"""The console by HTTP alone, on a clock of the test's."""

import contextlib
import pathlib
from collections.abc import Iterator

import pytest

from tests.harness.console import HttpConsole, http_console


@pytest.fixture
def console(tmp_path: pathlib.Path) -> Iterator[HttpConsole]:
    with http_console(tmp_path) as made, contextlib.closing(made.desk):
        yield made
