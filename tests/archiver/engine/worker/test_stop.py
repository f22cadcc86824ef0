"""A stop waits for running work, and gives back the rest."""

import threading

from archiver.engine.sweep_loop import SweepLoop
from tests.harness.engine import FAMILY, Engine
from tests.harness.journal import Impatient, Journal
from tests.harness.running_engine import PATIENCE_SECONDS, Gate, Running


def test_a_stop_waits_for_what_runs(running: Running) -> None:
    gate = Gate(running.sim)
    (task_id,) = running.called_back()
    gate.wait_arrival()
    stopped: list[bool] = []
    stopper = threading.Thread(target=lambda: stopped.append(running.worker.stop(seconds=PATIENCE_SECONDS)))
    stopper.start()
    assert running.stopping.wait(PATIENCE_SECONDS)
    gate.open()
    stopper.join()

    assert stopped == [True]
    running.engine.assert_archived(task_id)


def test_a_stop_gives_back_what_has_not_ended_and_lets_it_put_nothing_more(
    engine: Engine, journal: Journal
) -> None:
    run = Running(engine, journal)
    run.worker.start()
    gate = Gate(run.sim)
    (task_id,) = run.called_back()
    gate.wait_arrival()
    ended = run.worker.stop(seconds=0)

    shown = engine.show(task_id)
    assert (ended, shown["state"], shown["attempts"]) == (False, "succeeded", 0)
    assert engine.keeper.held() == []
    gate.open()
    journal.wait("lease.lost", task_id=task_id)
    assert engine.store.objects == {}
    assert engine.attempt() is None  # due at once, for the next worker
    engine.assert_archived(task_id)


def test_a_stop_ends_the_step_between_two_families(engine: Engine) -> None:
    stages = engine.stages
    stop, swept = Impatient(), list[str]()

    def swept_one(family: str) -> None:
        swept.append(family)
        stop.set()

    loop = SweepLoop(
        sweeper=stages.sweeper,
        families=stages.swept_families,
        ledger=engine.ledger,
        interval_seconds=1,
        stop=stop,
        on_swept=swept_one,
        monotonic=engine.clock.monotonic,
    )
    loop.step()

    assert swept == [FAMILY]
