"""Nothing is put by a worker that has lost its lease."""

from archiver.failures import (
    LeaseLost,
)
from tests.harness.engine import ACCOUNT, Engine
from tests.harness.ledgers import claim_archive
from tests.simulator import KlingSimulator, faults


def test_nothing_is_put_once_the_lease_is_over(engine: Engine, sim: KlingSimulator) -> None:
    task_id = engine.succeeded()
    lease = engine.claim()
    sim.fault("cdn", faults.Call(lambda: engine.clock.advance(seconds=36)), times=1)

    assert isinstance(engine.attempt(lease), LeaseLost)
    assert engine.store.objects == {}
    assert engine.attempt() is None
    engine.assert_archived(task_id)


def test_nothing_is_put_once_the_keeper_has_dropped_the_lease(engine: Engine, sim: KlingSimulator) -> None:
    engine.succeeded()
    lease = engine.claim()
    sim.fault("cdn", faults.Call(lambda: engine.keeper.drop(lease)), times=1)

    assert isinstance(engine.attempt(lease), LeaseLost)
    assert engine.store.objects == {}


def test_nothing_is_put_once_the_task_is_forgotten(engine: Engine, sim: KlingSimulator) -> None:
    task_id = engine.succeeded()
    lease = engine.claim()

    def forgotten() -> None:
        engine.ledger.tombstones.forget(task_id, account=ACCOUNT)
        engine.keeper.renew()  # as it does every few seconds

    sim.fault("cdn", faults.Call(forgotten), times=1)

    assert isinstance(engine.attempt(lease), LeaseLost)
    assert engine.store.objects == {}


def test_no_manifest_is_put_of_a_task_that_is_forgotten_between_its_files_and_that(engine: Engine) -> None:
    task_id = engine.succeeded()
    lease = engine.claim()

    def forgotten() -> None:
        engine.ledger.tombstones.forget(task_id, account=ACCOUNT)

    engine.act_before("list #2", forgotten)

    assert isinstance(engine.attempt(lease), LeaseLost)
    assert engine.names(task_id) == ["0.png"]


def test_a_lease_that_is_renewed_lasts_as_long_as_the_fetch(engine: Engine, sim: KlingSimulator) -> None:
    task_id = engine.succeeded()
    lease = engine.claim()

    def long_fetch() -> None:
        for _ in range(10):
            engine.clock.advance(seconds=10)
            engine.keeper.renew()

    sim.fault("cdn", faults.Call(long_fetch), times=1)

    assert engine.attempt(lease) is None
    engine.assert_archived(task_id)


def test_no_manifest_is_put_when_another_worker_has_the_task(engine: Engine) -> None:
    task_id = engine.succeeded()
    lease = engine.claim()

    def taken_over() -> None:
        # The wall clock jumps ahead: by the monotonic clock our lease has time left, in the ledger it has ended.
        engine.clock.set_ahead(seconds=36)
        assert claim_archive(engine.ledger, count=1, account=ACCOUNT)

    engine.act_before("list #2", taken_over)

    assert isinstance(engine.attempt(lease), LeaseLost)
    assert engine.names(task_id) == ["0.png"]
