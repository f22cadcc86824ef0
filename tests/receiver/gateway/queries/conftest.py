"""A simulated account, and a gateway before it."""

import pathlib
from collections.abc import Iterator

import pytest

from tests.harness.engine import Engine
from tests.receiver.gateway.queries.gate import Gate
from tests.simulator import KlingSimulator


@pytest.fixture(scope="module")
def account() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator


@pytest.fixture
def sim(account: KlingSimulator) -> Iterator[KlingSimulator]:
    yield account
    account.clear_faults()
    account.complaints.clear()


@pytest.fixture
def engine(sim: KlingSimulator, tmp_path: pathlib.Path) -> Iterator[Engine]:
    with Engine(sim, tmp_path, api_key=True) as made:
        yield made


@pytest.fixture
def gate(sim: KlingSimulator, engine: Engine) -> Iterator[Gate]:
    with Gate(sim, engine) as made:
        yield made
