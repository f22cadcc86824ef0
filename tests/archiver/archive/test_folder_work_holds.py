"""Folder work and the holds of the store: it sets them, obeys them, probes them and ends them."""

import pathlib
from collections.abc import Iterator

import pytest

from archiver.engine.hold_release import HoldRelease
from archiver.failures import BucketForbidden, BucketMissing, Failure, Outside, StoreUnreachable
from archiver.model import Stage
from tests.harness.engine import ACCOUNT, Engine
from tests.simulator import KlingSimulator, Switches

EXPAND = "images/editing/expand"
"""Only rows of its list name the watermarked files."""
HOUR = 3600


@pytest.fixture(scope="module")
def account() -> Iterator[KlingSimulator]:
    with KlingSimulator(switches=Switches(fresh_urls=False)) as simulator:
        yield simulator


@pytest.fixture
def engine(account: KlingSimulator, tmp_path: pathlib.Path) -> Iterator[Engine]:
    account.clear_faults()
    with Engine(account, tmp_path) as running:
        yield running


class Outage:
    """Fails every call of the store below `folder`, and counts them."""

    def __init__(self, error: type[Failure], folder: str = "") -> None:
        self.error, self.folder, self.calls = error, folder, 0

    def __call__(self, _operation: str, key: str) -> tuple[bool, BaseException | None]:
        if self.folder not in key:
            return True, None
        self.calls += 1
        return False, self.error("simulated")


def amendments(engine: Engine, count: int) -> list[str]:
    """Tasks whose watermarked file is named once they are archived; their ids."""
    task_ids = []
    for _ in range(count):
        task_ids.append(engine.succeeded(family=EXPAND, images=1, watermark=True))
        assert engine.attempt() is None
        engine.verify(task_ids[-1], family=EXPAND, listed=True)
    return task_ids


def release(engine: Engine) -> HoldRelease:
    return HoldRelease(engine.ledger, engine.stages.outages, account=ACCOUNT, wake=lambda _stage: None)


def work(engine: Engine) -> None:
    """All folder work that may be claimed now."""
    worker, on_stored = engine.stages.folder_worker, release(engine).after_work
    while worker.work_once(on_stored=on_stored):
        pass


def work_for(engine: Engine, seconds: int) -> None:
    """Time passes, and the loop looks as often as it does."""
    for _ in range(seconds // 5):
        work(engine)
        engine.clock.advance(seconds=5)


def reasons(engine: Engine) -> list[str]:
    return [hold.reason for hold in engine.ledger.holds.all()]


def other_work_succeeds(engine: Engine) -> None:
    engine.stages.outages.at(Stage.ARCHIVE).worked()
    engine.ledger.holds.release(account=ACCOUNT, stages=(Stage.ARCHIVE,), family=EXPAND)


@pytest.mark.parametrize("error", [StoreUnreachable, BucketMissing])
def test_an_hour_without_a_store_costs_it_one_call_in_thirty_seconds_however_many_amendments_wait(
    engine: Engine, error: type[Failure]
) -> None:
    task_ids = amendments(engine, 10)
    engine.store.hook = outage = Outage(error)
    work_for(engine, HOUR)
    engine.store.hook = engine.effects

    assert 100 <= outage.calls <= 130
    assert reasons(engine) == [error.reason]
    work_for(engine, 60)
    assert reasons(engine) == []
    assert all("amendment-1.json" in engine.names(task_id, EXPAND) for task_id in task_ids)


def test_amendments_wait_while_the_store_is_held_and_lose_no_attempt(engine: Engine) -> None:
    (task_id,) = amendments(engine, 1)
    engine.ledger.holds.set_by_look(BucketMissing("simulated"), account=ACCOUNT, stages=[Stage.ARCHIVE])
    engine.store.hook = outage = Outage(BucketMissing)

    assert not engine.stages.folder_worker.work_once()
    engine.clock.advance(seconds=2)
    assert engine.stages.folder_worker.work_once(), "it probes the hold"
    assert not engine.stages.folder_worker.work_once()
    assert outage.calls == 1
    engine.store.hook = engine.effects
    work_for(engine, 60)
    assert "amendment-1.json" in engine.names(task_id, EXPAND)
    assert reasons(engine) == []


def test_a_store_that_fails_at_an_amendment_is_looked_at(engine: Engine) -> None:
    amendments(engine, 1)
    engine.store.hook = Outage(StoreUnreachable)
    work(engine)

    assert engine.stages.outages.of(Outside.STORE).is_doubtful
    assert reasons(engine) == [], "it may be this task's bad luck"


def test_a_bucket_that_only_an_amendment_finds_missing_is_a_hold_at_once(engine: Engine) -> None:
    amendments(engine, 1)
    engine.store.hook = Outage(BucketMissing)
    work(engine)

    assert reasons(engine) == ["bucket_missing"]
    engine.ledger.holds.drop_idle()
    assert reasons(engine) == ["bucket_missing"], "an amendment waits for it"


def test_a_bucket_that_fails_at_a_file_of_an_amendment_is_a_hold_too(engine: Engine) -> None:
    amendments(engine, 1)

    def puts(operation: str, _key: str) -> tuple[bool, BaseException | None]:
        return operation != "put", BucketForbidden("simulated") if operation == "put" else None

    engine.store.hook = puts
    work(engine)

    assert reasons(engine) == ["bucket_forbidden"]


def test_one_amendment_that_the_store_refuses_holds_the_others_once(engine: Engine) -> None:
    refused, *_ = amendments(engine, 1)
    engine.store.hook = Outage(BucketForbidden, folder=engine.folder(refused, EXPAND))
    set_at = list[int]()
    for minute in range(60):
        work(engine)
        if reasons(engine):
            set_at.append(minute)
        other_work_succeeds(engine)
        engine.clock.advance(seconds=60)

    assert set_at == [0]
