"""Engines with a running worker."""

import pathlib
from collections.abc import Iterator

import pytest

from tests.harness.engine import FAMILY, Engine
from tests.harness.journal import Journal
from tests.harness.running_engine import OTHER_FAMILY, PATIENCE_SECONDS, Running, WatchedLedger
from tests.simulator import KlingSimulator


@pytest.fixture
def sim() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator


@pytest.fixture
def engine(sim: KlingSimulator, tmp_path: pathlib.Path, journal: Journal) -> Iterator[Engine]:  # noqa: ARG001 -- logging is set up first
    with Engine(sim, tmp_path, ledger_class=WatchedLedger, families=(FAMILY, OTHER_FAMILY)) as made:
        yield made


@pytest.fixture
def running(engine: Engine, journal: Journal) -> Iterator[Running]:
    run = Running(engine, journal)
    run.worker.start()
    yield run
    run.sim.clear_faults()
    assert run.worker.stop(seconds=PATIENCE_SECONDS)


@pytest.fixture
def running_by_api_key(sim: KlingSimulator, tmp_path: pathlib.Path, journal: Journal) -> Iterator[Running]:
    families = (FAMILY, OTHER_FAMILY)
    with Engine(sim, tmp_path, ledger_class=WatchedLedger, api_key=True, families=families) as engine:
        run = Running(engine, journal)
        run.worker.start()
        yield run
        assert run.worker.stop(seconds=PATIENCE_SECONDS)
