"""A process that fails while others succeed holds itself, and only itself."""

import pathlib
from collections.abc import Iterator

import pytest

from archiver.engine.api_clocks import ApiClocks
from archiver.engine.health import Health
from archiver.engine.process_holds import PATIENCE_SECONDS, SHUN_SECONDS, ProcessHolds, thing_of
from archiver.failures import (
    ApiAccountInArrears,
    ApiCredentialsRefused,
    ApiUnreachable,
    BucketForbidden,
    Failure,
    HostDown,
    StoreError,
    StoreUnreachable,
)
from archiver.kling.client import KlingClient
from archiver.kling.credentials import KeyPair
from archiver.kling.limiter import RateLimiter
from archiver.ledger import Service
from archiver.metrics import Metrics
from archiver.model import Callback, Stage, State, Status
from archiver.problems import Expected, find_problems
from tests.harness.engine import FAMILY, Engine
from tests.harness.fake_store import FakeStore, no_fault
from tests.harness.ledgers import ACCOUNT, START, Desk
from tests.harness.processes import Process
from tests.simulator import KlingSimulator


class Fleet:
    """Processes that work on one ledger, each with its holds."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.seconds = 0.0

    def process(self, name: str) -> ProcessHolds:
        self.beat(name)
        return ProcessHolds(
            self.desk.ledger.daemons,
            name=name,
            for_all=self.desk.ledger.holds,
            now=self.desk.clock,
            monotonic=lambda: self.seconds,
        )

    def beat(self, name: str, serves: Service = Service.WORK) -> None:
        self.desk.ledger.daemons.beat(name, version="1", started_at=START, serves=[serves])

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds
        self.desk.clock.advance(int(seconds * 1000))

    def tell(self, name: str, holds: ProcessHolds) -> None:
        """What the upkeep of a process does every five seconds."""
        self.beat(name)
        self.desk.ledger.daemons.tell_successes(name, holds.successes())
        holds.step()

    def holds_for_all(self) -> list[str]:
        return [hold.reason for hold in self.desk.ledger.holds.all()]


@pytest.fixture
def fleet(tmp_path: pathlib.Path) -> Iterator[Fleet]:
    desk = Desk(tmp_path)
    yield Fleet(desk)
    desk.close()


def fails(holds: ProcessHolds, error: Failure, stage: Stage = Stage.ARCHIVE) -> bool:
    return holds.takes(error, account=ACCOUNT, stage=stage)


def test_a_process_alone_holds_for_all(fleet: Fleet) -> None:
    alone = fleet.process("a")
    fleet.beat("door", Service.DOOR)

    assert not fails(alone, StoreUnreachable("no route"))


@pytest.mark.parametrize("error", [ApiAccountInArrears("1102"), StoreError("500")])
def test_a_failure_of_neither_network_nor_credentials_holds_for_all(fleet: Fleet, error: Failure) -> None:
    one, _ = fleet.process("a"), fleet.process("b")

    assert not fails(one, error)


def test_a_process_that_fails_while_another_succeeds_holds_itself_until_it_works_again(fleet: Fleet) -> None:
    bad, good = fleet.process("bad"), fleet.process("good")

    assert fails(bad, BucketForbidden("403"))
    assert bad.stops(ACCOUNT, Stage.ARCHIVE)
    assert not bad.stops(ACCOUNT, Stage.VERIFY)
    assert not good.stops(ACCOUNT, Stage.ARCHIVE)
    for _ in range(10):
        fleet.pass_by(20)
        good.worked(ACCOUNT, Stage.ARCHIVE)
        fleet.tell("good", good)
        fleet.tell("bad", bad)
        if not bad.stops(ACCOUNT, Stage.ARCHIVE):
            assert fails(bad, BucketForbidden("403")), "another has just succeeded"
    (problem,) = bad.problems()
    assert fleet.holds_for_all() == []
    assert (problem.code, problem.reason, problem.since) == ("hold", "bucket_forbidden", START)
    assert "held in bad alone" in problem.message

    bad.worked(ACCOUNT, Stage.ARCHIVE)

    assert (bad.stops(ACCOUNT, Stage.ARCHIVE), bad.problems()) == (False, [])


def test_it_tries_again_after_two_seconds_doubling_to_thirty(fleet: Fleet) -> None:
    bad, good = fleet.process("bad"), fleet.process("good")
    pauses = []
    for _ in range(6):
        good.worked(ACCOUNT, Stage.ARCHIVE)
        fleet.tell("good", good)
        assert fails(bad, StoreUnreachable("no route"))
        begun = fleet.seconds
        while bad.stops(ACCOUNT, Stage.ARCHIVE):
            fleet.pass_by(1)
        pauses.append(fleet.seconds - begun)

    assert pauses == [2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize("by_probe", [False, True])
def test_where_no_process_succeeds_for_a_minute_the_hold_is_for_all(fleet: Fleet, by_probe: bool) -> None:
    one, other = fleet.process("a"), fleet.process("b")
    other.worked(ACCOUNT, Stage.ARCHIVE)
    fleet.tell("b", other)
    fleet.pass_by(1)
    assert fails(one, StoreUnreachable("no route"))
    fleet.pass_by(PATIENCE_SECONDS - 1)
    fleet.tell("b", other)
    one.step()
    assert fleet.holds_for_all() == []
    fleet.pass_by(1)
    if by_probe:
        assert not fails(one, StoreUnreachable("no route")), "the failure sets a hold for all then, as ever"
    else:
        one.step()
        assert fleet.holds_for_all() == ["store_unreachable"]
        assert not fails(one, StoreUnreachable("no route")), "it confirms that hold"

    assert one.problems() == []


def test_a_host_that_one_machine_does_not_reach_stops_only_its_files_and_only_there(fleet: Fleet) -> None:
    bad, good = fleet.process("bad"), fleet.process("good")

    assert fails(bad, HostDown("no answer", host="cdn.example"))
    assert bad.hosts(ACCOUNT) == {"cdn.example"}
    assert not bad.stops(ACCOUNT, Stage.ARCHIVE)
    assert good.hosts(ACCOUNT) == frozenset()
    bad.worked(ACCOUNT, Stage.ARCHIVE, host="another.example")
    assert bad.hosts(ACCOUNT) == {"cdn.example"}
    bad.worked(ACCOUNT, Stage.ARCHIVE, host="cdn.example")
    assert bad.hosts(ACCOUNT) == frozenset()


@pytest.mark.parametrize("stage", [Stage.VERIFY, Stage.SWEEP])
def test_an_account_whose_api_is_not_reached_here_is_left_to_others_and_asked_again_later(
    fleet: Fleet, stage: Stage
) -> None:
    bad, good = fleet.process("bad"), fleet.process("good")
    assert fails(bad, ApiCredentialsRefused("1000"), stage)
    assert bad.shunned() == {ACCOUNT}
    while fleet.seconds < SHUN_SECONDS:
        assert bad.shunned() == {ACCOUNT}
        fleet.pass_by(20)
        good.worked(ACCOUNT, Stage.VERIFY)
        fleet.tell("good", good)
        fleet.tell("bad", bad)

    assert bad.shunned() == frozenset()
    assert fleet.holds_for_all() == []


def test_an_api_that_no_process_reaches_is_a_hold_for_all_and_any_process_tries_it_again(
    fleet: Fleet,
) -> None:
    first, second = fleet.process("a"), fleet.process("b")
    assert fails(first, ApiUnreachable("no route"), Stage.VERIFY)
    fleet.pass_by(5)
    assert fails(second, ApiUnreachable("no route"), Stage.VERIFY)
    fleet.pass_by(PATIENCE_SECONDS)
    fleet.tell("a", first)
    fleet.tell("b", second)

    assert fleet.holds_for_all() == ["api_unreachable"]
    assert (first.shunned(), second.shunned()) == (frozenset(), frozenset())


def test_a_success_counts_for_a_minute(fleet: Fleet) -> None:
    one, other = fleet.process("a"), fleet.process("b")
    thing = thing_of(ACCOUNT, Stage.ARCHIVE, None)
    one.worked(ACCOUNT, Stage.ARCHIVE)
    fleet.pass_by(10)
    fleet.tell("a", one)
    fleet.tell("b", other)
    seen = fleet.desk.ledger.daemons.others

    assert seen("b", thing=thing, within_ms=10_000) == (1, True)
    assert seen("b", thing=thing, within_ms=9_999) == (1, False)
    assert seen("a", thing=thing, within_ms=10_000) == (1, False)
    fleet.pass_by(PATIENCE_SECONDS - 10)
    assert one.successes() == {}


# --- in the whole engine ------------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: pathlib.Path) -> Iterator[Engine]:
    with KlingSimulator() as sim, Engine(sim, tmp_path) as made:
        made.ledger.duties.leave("engine", held=[])
        made.clock.advance(seconds=60)
        yield made


def told(engine: Engine) -> str:
    """A task that only its callback tells of."""
    task_id = engine.sim.create_task()
    engine.sim.succeed(task_id)
    engine.sim.hide_from_list(task_id)
    engine.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, FAMILY)])
    return task_id


def beat(engine: Engine, *processes: Process, seconds: float = 5) -> None:
    engine.clock.advance(seconds=seconds)
    for process in processes:
        process.beat()


def problems(engine: Engine) -> list[tuple[str, str | None, str]]:
    """The holds that `status` tells of."""
    found = find_problems(engine.ledger.views.status(), Expected({}, 0))
    return [
        (problem.code, problem.reason, problem.subject or "") for problem in found if problem.code == "hold"
    ]


def test_a_machine_without_right_to_the_bucket_leaves_the_work_to_others_and_comes_back(
    engine: Engine,
) -> None:
    store = FakeStore()
    store.hook = lambda *_: (False, BucketForbidden("403"))
    good, bad = Process(engine, "good"), Process(engine, "bad", store=store)
    beat(engine, good, bad)
    first = told(engine)
    for loop in good.worker.loops[:1]:
        loop.step()  # verified

    bad.round()
    assert (engine.show(first)["state"], engine.show(first)["attempts"]) == (State.SUCCEEDED, 0)
    good.round()
    beat(engine, good, bad)

    assert engine.show(first)["state"] == State.ARCHIVED
    assert problems(engine) == [("hold", "bucket_forbidden", "bad")]
    assert engine.ledger.holds.all() == ()
    view, metrics = engine.ledger.views.status(), Metrics()
    shown = view.as_json(several_accounts=False)["holds"]
    assert isinstance(shown, list)
    assert [(hold["stage"], hold["reason"]) for hold in shown] == [(Stage.ARCHIVE, "bucket_forbidden")]
    Health(engine.ledger, metrics, ApiClocks({}, 0, now=engine.clock.now), Expected({}, 0)).refresh_gauges()
    text = metrics.render()[0].decode()
    assert f'kling_holds{{account="{ACCOUNT}",reason="bucket_forbidden",stage="archive"}} 1.0' in text

    store.hook = no_fault
    second = told(engine)
    for loop in good.worker.loops[:1]:
        loop.step()
    beat(engine, good, bad, seconds=30)
    bad.round()
    beat(engine, good, bad)

    assert engine.show(second)["state"] == State.ARCHIVED
    assert problems(engine) == []


@pytest.fixture
def refused_client(engine: Engine) -> Iterator[KlingClient]:
    """Its keys are wrong."""
    limiter = RateLimiter(1000, wait=lambda _seconds: False)
    wrong = KeyPair(engine.sim.access_key, "another-secret-of-thirty-two-characters")
    client = KlingClient(engine.sim.base_url, wrong, limiter)
    yield client
    client.close()


def test_an_asker_with_wrong_keys_that_was_alone_lets_the_next_process_try(
    engine: Engine, refused_client: KlingClient
) -> None:
    bad = Process(engine, "bad", client=refused_client)
    beat(engine, bad)
    task_id = told(engine)
    bad.round()
    assert {hold.reason for hold in engine.ledger.holds.all()} == {"api_credentials_refused"}

    good = Process(engine, "good")
    for _ in range(20):
        beat(engine, bad, good)
        bad.round()
        good.round()

    assert good.keeper.accounts() == (ACCOUNT,)
    assert engine.show(task_id)["state"] == State.ARCHIVED
    assert engine.ledger.holds.all() == ()


def test_an_asker_with_wrong_keys_hands_its_account_over(engine: Engine, refused_client: KlingClient) -> None:
    bad, good = Process(engine, "bad", client=refused_client), Process(engine, "good")
    beat(engine, bad, good, seconds=1)
    task_id = told(engine)
    assert bad.keeper.accounts() == (ACCOUNT,)

    bad.round()
    assert bad.holds.shunned() == {ACCOUNT}
    for _ in range(4):
        beat(engine, bad, good)
        bad.round()
        good.round()

    assert (bad.keeper.accounts(), good.keeper.accounts()) == ((), (ACCOUNT,))
    assert engine.show(task_id)["state"] == State.ARCHIVED
    assert engine.ledger.holds.all() == ()
    assert problems(engine) == [("hold", "api_credentials_refused", "bad")]
