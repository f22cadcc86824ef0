"""A simulated account, and daemons that have just started."""

import pathlib
from collections.abc import Callable, Iterator

import pytest

from archiver.engine.looks.look import Look
from tests.harness.looks import CLIENTS, Daemon
from tests.simulator import KlingSimulator


@pytest.fixture(autouse=True)
def _clients_are_closed() -> Iterator[None]:
    yield
    while CLIENTS:
        CLIENTS.pop().close()


@pytest.fixture
def started(tmp_path: pathlib.Path) -> Iterator[Callable[[Look], Daemon]]:
    daemons = list[Daemon]()

    def start(look: Look) -> Daemon:
        daemons.append(Daemon(tmp_path, look))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.ledger.close()


@pytest.fixture
def sim() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator
