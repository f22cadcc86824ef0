"""A simulated account, and a client of its API."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.simulator import KlingSimulator


@pytest.fixture
def sim() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(trust_env=False, timeout=60.0) as client:
        yield client
