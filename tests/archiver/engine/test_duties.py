"""Several processes on one ledger: one asks for an account, one does the upkeep, and none writes what is another's."""

import dataclasses
import functools
import pathlib
import random
from collections.abc import Iterator
from typing import Any

import pytest

from archiver.engine.api_clocks import ApiClocks
from archiver.engine.duties.gate import Gate
from archiver.engine.duties.keeper import LEAVE_SECONDS, DutyKeeper
from archiver.engine.duties.loop import LOOK_SECONDS
from archiver.engine.upkeep import Upkeep
from archiver.failures import Deposed
from archiver.ledger import UPKEEP, DutyLease, asking
from archiver.ledger.claims import LEASE_SECONDS
from archiver.metrics import Metrics
from archiver.model import Callback, DiscoveredBy, State, Status
from tests.harness.engine import ACCOUNT, FAMILY, Engine
from tests.harness.ledgers import DAY, RAND, SECOND, Desk, answer
from tests.harness.pipeline import Unwaiting
from tests.harness.processes import Process
from tests.simulator import KlingSimulator, faults

ACCOUNTS = ["a", "b", "c"]
TAKEOVER_SECONDS_MAX = 60


def keeper_of(desk: Desk, name: str, *, accounts: list[str] = ACCOUNTS) -> DutyKeeper:
    """Of a process whose clock is the ledger's."""
    return DutyKeeper(desk.ledger, name=name, accounts=accounts, monotonic=lambda: desk.clock() / 1000)


def may_begin(keeper: DutyKeeper) -> set[str]:
    return {account for account in ACCOUNTS if keeper.may_begin(asking(account))}


# --- the keeper ---------------------------------------------------------------------------------------------------


def test_a_duty_ends_on_the_processs_own_clock_before_another_may_take_it(desk: Desk) -> None:
    keeper, other = keeper_of(desk, "one"), keeper_of(desk, "other")
    keeper.step()
    assert may_begin(keeper) == set(ACCOUNTS)
    assert keeper.keeps_up()

    desk.clock.advance(LEASE_SECONDS * SECOND)

    assert may_begin(keeper) == set()
    assert (keeper.keeps_up(), keeper.accounts()) == (False, ())
    other.step()
    assert may_begin(other) == set()
    keeper.step()
    assert may_begin(keeper) == {"a", "b"}


def test_an_account_is_given_to_a_new_process_once_its_questions_are_answered(desk: Desk) -> None:
    one, other = keeper_of(desk, "one"), keeper_of(desk, "other")
    one.step()
    one.is_asking = lambda account: account == "c"
    other.step()
    desk.clock.advance(SECOND)
    one.step()
    assert may_begin(one) == {"a", "b"}
    assert one.token(asking("c"))

    for is_asking, taken in ((True, set()), (False, {"c"})):
        one.is_asking = lambda _account, is_asking=is_asking: is_asking  # type: ignore[misc]
        desk.clock.advance(SECOND)
        one.step()
        other.step()
        assert may_begin(other) == taken
    assert one.token(asking("c")) is None


def test_an_answer_that_does_not_come_keeps_an_account_for_a_while_only(desk: Desk) -> None:
    one, other = keeper_of(desk, "one"), keeper_of(desk, "other")
    one.step()
    one.is_asking = lambda _account: True
    for _ in range(int(LEAVE_SECONDS) + 2):
        other.step()
        desk.clock.advance(SECOND)
        one.step()
    other.step()

    assert len(may_begin(other)) == 1


def test_a_process_that_ends_in_order_hands_over_within_one_look(desk: Desk) -> None:
    one, other = keeper_of(desk, "one"), keeper_of(desk, "other")
    one.step()
    other.step()
    one.leave()
    assert (one.token(UPKEEP), may_begin(one)) == (None, set())

    other.step()

    assert may_begin(other) == set(ACCOUNTS)
    assert other.keeps_up()


def test_a_process_that_follows_another_within_a_second_knows_it_before_it_begins(desk: Desk) -> None:
    taken: list[tuple[DutyLease, bool]] = []

    def watch(keeper: DutyKeeper) -> DutyKeeper:
        keeper.on_taken = lambda lease: taken.append((lease, keeper.token(lease.duty) is not None))
        return keeper

    one, other, third = (watch(keeper_of(desk, name, accounts=["a"])) for name in ("one", "other", "third"))
    one.step()
    assert not any(lease.follows or has_begun for lease, has_begun in taken)
    one.leave()
    taken.clear()
    other.step()
    assert [(lease.follows, has_begun) for lease, has_begun in taken] == [(True, False)] * 2
    taken.clear()
    desk.clock.advance(60 * SECOND)
    third.step()
    assert {lease.follows for lease, _ in taken} == {False}


@pytest.mark.parametrize("seed", range(2))
def test_two_processes_never_ask_at_once_and_an_account_is_unasked_for_a_minute_at_most(
    desk: Desk, seed: int
) -> None:
    """Starts, orderly ends, kills and pauses of processes, each on its own schedule."""
    chosen = random.Random(seed)
    numbers = iter(range(1000))
    running: list[DutyKeeper] = []
    paused: dict[DutyKeeper, int] = {}
    unasked_since = dict.fromkeys(ACCOUNTS, desk.clock())
    longest = 0
    for _ in range(150):
        what = chosen.random()
        if what < 0.05 or not running:
            running.append(keeper_of(desk, f"p{next(numbers)}"))
        elif what < 0.08 and len(running) > 1:
            running.pop(chosen.randrange(len(running)))
        elif what < 0.11 and len(running) > 1:
            running.pop(chosen.randrange(len(running))).leave()
        elif what < 0.15:
            paused[chosen.choice(running)] = desk.clock() + chosen.randrange(90) * SECOND
        for keeper in running:
            if paused.get(keeper, 0) <= desk.clock():
                keeper.step()
        for account in ACCOUNTS:
            askers = [keeper.name for keeper in running if keeper.may_begin(asking(account))]
            assert len(askers) <= 1
            awake = [keeper for keeper in running if paused.get(keeper, 0) <= desk.clock()]
            if askers or not awake:
                unasked_since[account] = desk.clock()
            longest = max(longest, desk.clock() - unasked_since[account])
        desk.clock.advance(int(LOOK_SECONDS * SECOND))

    assert longest <= TAKEOVER_SECONDS_MAX * SECOND


# --- the gate -----------------------------------------------------------------------------------------------------


class Said:
    """A loop that says what is done with it."""

    name = "said"

    def __init__(self) -> None:
        self.heard: list[str] = []

    def begin(self) -> None:
        self.heard.append("begin")

    def step(self) -> None:
        self.heard.append("step")

    def end(self) -> None:
        self.heard.append("end")


def test_a_loop_begins_afresh_with_each_lease_and_rests_between_them() -> None:
    loop, tokens = Said(), iter([None, "1", "1", None, None, "2", "3"])
    gate = Gate(loop, lambda: next(tokens), stop=Unwaiting())
    open_after = []
    for _ in range(7):
        gate.step()
        open_after.append(gate.is_open)

    assert " ".join(loop.heard) == "begin step step end begin step end begin step"
    assert open_after == [False, True, True, False, False, True, True]


# --- processes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: pathlib.Path) -> Iterator[Engine]:
    with KlingSimulator() as sim, Engine(sim, tmp_path) as made:
        yield made


@pytest.fixture
def two(engine: Engine) -> list[Process]:
    """The first has the account."""
    engine.ledger.duties.leave("engine", held=[])
    engine.clock.advance(seconds=60)
    processes = [Process(engine, "one"), Process(engine, "other")]
    for process in processes:
        process.keeper.step()
    return processes


def told(engine: Engine, *, listed: bool = False) -> str:
    task_id = engine.sim.create_task()
    engine.sim.succeed(task_id)
    if not listed:
        engine.sim.hide_from_list(task_id)
    engine.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, FAMILY)])
    return task_id


def state(engine: Engine, task_id: str) -> str:
    return str(engine.show(task_id)["state"])


def test_a_process_without_the_account_asks_nothing_and_archives_what_the_asker_has_verified(
    engine: Engine, two: list[Process]
) -> None:
    asker, archiver = two
    task_id = told(engine)

    archiver.round()
    assert (engine.sim.requests, state(engine, task_id)) == ({}, State.REPORTED)
    assert not archiver.worker.is_asking()
    for loop in asker.worker.loops[:1]:
        loop.step()
    assert state(engine, task_id) == State.SUCCEEDED
    asked = engine.sim.requests["query"] + engine.sim.requests["list"]

    archiver.round()
    assert state(engine, task_id) == State.ARCHIVED
    assert engine.sim.requests["query"] + engine.sim.requests["list"] == asked


def followed(two: list[Process]) -> None:
    """The other process takes the account: the first was asleep."""
    two[0].engine.clock.advance(seconds=LEASE_SECONDS + 6)
    two[1].keeper.step()


@pytest.mark.parametrize("answers", [faults.Raw(500), faults.ErrorCode(401, 1002), None])
def test_an_answer_to_a_deposed_asker_is_not_written_and_its_task_is_given_back_at_once(
    engine: Engine, two: list[Process], answers: faults.Fault | None
) -> None:
    asker, other = two
    task_id = told(engine)
    engine.sim.fault("query", faults.Call(functools.partial(followed, two)), times=1)
    if answers is not None:
        engine.sim.fault("query", answers, times=1)
    asker.worker.loops[0].step()

    assert engine.sim.requests["query"] >= 1
    assert state(engine, task_id) == State.REPORTED
    assert (engine.ledger.holds.all(), engine.show(task_id)["attempts"]) == ((), 0)
    engine.sim.clear_faults()
    other.round()
    assert state(engine, task_id) in {State.SUCCEEDED, State.ARCHIVED}


def test_a_deposed_asker_reads_no_further_page_and_its_sweep_is_the_next_ones_at_once(
    engine: Engine, two: list[Process]
) -> None:
    asker, other = two
    task_id = engine.sim.create_task()
    engine.sim.succeed(task_id)
    engine.sim.fault("list", faults.Call(functools.partial(followed, two)), times=1)
    sweep = next(loop for loop in asker.worker.loops if loop.name == "sweep-loop")
    asker.worker.guard.attempt("sweep-loop", sweep.step)
    assert engine.ledger.records.known_states(account=ACCOUNT, task_ids=[task_id]) == {}
    before = engine.sim.requests["list"]

    asker.round()
    assert engine.sim.requests["list"] == before
    other.round()
    assert state(engine, task_id) in {State.SUCCEEDED, State.ARCHIVED}


def test_a_process_that_takes_an_account_again_reads_from_the_ledger_what_the_api_offers(
    engine: Engine, two: list[Process]
) -> None:
    asker, other = two
    asker.round()
    available = asker.worker._stages.availability  # noqa: SLF001 -- which no other process can see
    assert not available.is_unavailable(FAMILY)
    followed(two)
    engine.ledger.availability.note(account=ACCOUNT, name=FAMILY, unavailable_at=engine.clock.now())
    other.keeper.leave()
    asker.round()
    asker.keeper.step()

    asker.round()

    assert available.is_unavailable(FAMILY)


# --- upkeep -------------------------------------------------------------------------------------------------------


def upkeep_of(desk: Desk, keeper: DutyKeeper, clocks: ApiClocks) -> Upkeep:
    return Upkeep(
        desk.ledger,
        Metrics(),
        clocks,
        daemon_name=keeper.name,
        version="test",
        started_at=desk.clock(),
        kept=desk.ledger.fenced(UPKEEP, functools.partial(keeper.token, UPKEEP)),
        keeps_up=keeper.keeps_up,
        asks_for=keeper.accounts,
    )


@dataclasses.dataclass
class HeardApi:
    """What a client has heard of the API's clock."""

    answered_at: float | None = None
    skew_ms: int | None = 0
    undated_answers: int = 0

    @property
    def skew_measured_at(self) -> float | None:
        return self.answered_at


def test_deadlines_are_decided_by_one_process_of_accounts_that_another_asks_for(desk: Desk) -> None:
    """Only the process that queries the API learns its clock."""
    heard = {name: HeardApi() for name in ("one", "other")}
    clients: dict[str, Any] = {name: dict.fromkeys(("a", "b"), client) for name, client in heard.items()}
    clocks = {name: ApiClocks(of, 0, now=desk.clock) for name, of in clients.items()}
    keepers = {
        name: DutyKeeper(
            desk.ledger,
            name=name,
            accounts=["a", "b"],
            sound=lambda name=name: [each for each in ("a", "b") if clocks[name].may_decide(each)],  # type: ignore[misc]
            monotonic=lambda: desk.clock() / 1000,
        )
        for name in heard
    }
    upkeeps = {name: upkeep_of(desk, keeper, clocks[name]) for name, keeper in keepers.items()}
    for account in ("a", "b"):
        desk.ledger.records.record([answer()], account=account, discovered_by=DiscoveredBy.SWEEP, rand=RAND)
    desk.clock.advance(31 * DAY)

    def go_round() -> list[str]:
        desk.clock.advance(11 * SECOND)
        for keeper in keepers.values():
            keeper.step()
        for name in ("other", "one"):
            upkeeps[name].run_once()
        rows = desk.rows("SELECT account FROM tasks WHERE state = 'lost' ORDER BY account")
        return [row["account"] for row in rows]

    for _ in range(3):
        assert go_round() == []
    assert keepers["one"].keeps_up()
    assert (keepers["one"].accounts(), keepers["other"].accounts()) == (("a",), ("b",))
    heard["other"].answered_at = desk.clock() / 1000
    assert go_round() == ["b"]
    heard["one"].answered_at = desk.clock() / 1000
    assert go_round() == ["a", "b"]
    assert {daemon.name: daemon.accounts for daemon in desk.ledger.daemons.alive()} == {
        "one": ("a",),
        "other": ("b",),
    }


def test_upkeep_that_another_process_has_taken_over_writes_nothing_more(desk: Desk) -> None:
    one, other = keeper_of(desk, "one", accounts=["a"]), keeper_of(desk, "other", accounts=["a"])
    client: Any = HeardApi(answered_at=desk.clock() / 1000)
    upkeep = upkeep_of(desk, one, ApiClocks({"a": client}, 0, now=desk.clock))
    one.step()
    desk.ledger.records.record([answer()], account="a", discovered_by=DiscoveredBy.SWEEP, rand=RAND)
    stolen = one._held  # noqa: SLF001 -- a process that believes in its lease by a clock that stood still
    desk.clock.advance(31 * DAY)
    client.answered_at = desk.clock() / 1000
    other.step()
    one._held = {duty: (lease, float("inf")) for duty, (lease, _) in stolen.items()}  # noqa: SLF001

    with pytest.raises(Deposed):
        upkeep.run_once()

    assert desk.rows("SELECT state FROM tasks") == [{"state": "succeeded"}]
