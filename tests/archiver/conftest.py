"""What tests of several packages begin with. A module that needs it otherwise has a fixture of its own."""

import pathlib
from collections.abc import Callable, Iterator

import pytest
import structlog
from structlog.typing import EventDict

from tests.harness.consumer import Consumer, consumer
from tests.harness.ledgers import Desk
from tests.harness.questions import FAMILIES, Questions


@pytest.fixture
def lines() -> Iterator[list[EventDict]]:
    """What is logged."""
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def desk(tmp_path: pathlib.Path) -> Iterator[Desk]:
    """A ledger in SQLite, with a clock that stands still."""
    made = Desk(tmp_path)
    yield made
    made.close()


@pytest.fixture
def questions(tmp_path: pathlib.Path) -> Iterator[Questions]:
    """An account with a pair of keys, about whose requests the simulator must not complain."""
    with Questions(tmp_path) as made:
        yield made
        assert made.sim.complaints == []


@pytest.fixture
def open_account(tmp_path: pathlib.Path) -> Iterator[Callable[..., Questions]]:
    """Opens an account with an API Key, whose families are configured as given."""
    made: list[Questions] = []

    def opened(*families: str) -> Questions:
        questions = Questions(tmp_path, api_key=True, families=families or FAMILIES)
        made.append(questions)
        return questions.__enter__()

    yield opened
    for questions in made:
        questions.__exit__(None, None, None)
        assert questions.sim.complaints == []


@pytest.fixture
def hook() -> Iterator[Consumer]:
    """A server that takes messages."""
    with consumer() as listening:
        yield listening
