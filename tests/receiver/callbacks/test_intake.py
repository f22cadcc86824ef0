"""Group commit: no callback is acknowledged before its commit, waits forever, or fails its neighbours."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Sequence

import pytest

from archiver.failures import LedgerUnavailable
from archiver.ledger import Ledger
from archiver.model import Callback, CallbackOutcome
from receiver.callbacks.intake import BATCH_MAX, Intake, IntakeUnavailable
from tests.harness.passing_loop import PassingLoop

LONG_SECONDS = 30.0


def named(task_id: str) -> Callback:
    return Callback(account="default", task_id=task_id, status=None, family_hint=None)


def named_many(count: int) -> list[Callback]:
    return [named(f"task-{number}") for number in range(count)]


class SlowLedger:
    """Records in batches, each of which waits until the test lets it through."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def record(self, callbacks: Sequence[Callback]) -> list[CallbackOutcome]:
        self.entered.release()
        assert self.gate.acquire(timeout=LONG_SECONDS)
        self.batches.append([callback.task_id for callback in callbacks])
        return [CallbackOutcome.ACCEPTED for _ in callbacks]

    async def until_entered(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=LONG_SECONDS)

    def let_through(self, batches: int = 1) -> None:
        self.gate.release(batches)


async def put_all(intake: Intake, callbacks: Sequence[Callback]) -> list[CallbackOutcome | BaseException]:
    return await asyncio.gather(*(intake.put(callback) for callback in callbacks), return_exceptions=True)


async def reason_of(intake: Intake, callback: Callback) -> str:
    with pytest.raises(IntakeUnavailable) as raised:
        await intake.put(callback)
    return raised.value.reason


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_SECONDS):
        while not condition():  # noqa: ASYNC110  # the other side is a thread and has no event to give
            await asyncio.sleep(0.001)


def test_put_returns_after_the_commit_and_not_before() -> None:
    async def scenario() -> None:
        ledger = SlowLedger()
        async with Intake(ledger.record, waiting_max=10) as intake:
            put = asyncio.create_task(intake.put(named("1")))
            await ledger.until_entered()

            assert not put.done()

            ledger.let_through()

            assert await put is CallbackOutcome.ACCEPTED

    asyncio.run(scenario())


def test_what_comes_during_a_commit_is_one_transaction() -> None:
    async def scenario() -> None:
        ledger = SlowLedger()
        async with Intake(ledger.record, waiting_max=100) as intake:
            first = asyncio.create_task(intake.put(named("first")))
            await ledger.until_entered()
            others = asyncio.create_task(put_all(intake, named_many(50)))
            await asyncio.sleep(0)
            ledger.let_through(2)
            await first
            await others

        assert ledger.batches == [["first"], [callback.task_id for callback in named_many(50)]]

    asyncio.run(scenario())


def test_a_transaction_has_a_largest_size() -> None:
    async def scenario() -> None:
        ledger = SlowLedger()
        ledger.let_through(3)
        async with Intake(ledger.record, waiting_max=3 * BATCH_MAX) as intake:
            await put_all(intake, named_many(2 * BATCH_MAX + 1))

        assert [len(batch) for batch in ledger.batches] == [BATCH_MAX, BATCH_MAX, 1]

    asyncio.run(scenario())


def test_each_callback_gets_its_own_outcome() -> None:
    async def scenario() -> None:
        def record(callbacks: Sequence[Callback]) -> list[CallbackOutcome]:
            odd = (int(callback.task_id) % 2 for callback in callbacks)
            return [CallbackOutcome.DUPLICATE if is_odd else CallbackOutcome.ACCEPTED for is_odd in odd]

        async with Intake(record, waiting_max=10) as intake:
            receptions = await put_all(intake, [named(str(number)) for number in range(4)])

        assert receptions == [
            CallbackOutcome.ACCEPTED,
            CallbackOutcome.DUPLICATE,
            CallbackOutcome.ACCEPTED,
            CallbackOutcome.DUPLICATE,
        ]

    asyncio.run(scenario())


def test_one_callback_that_fails_takes_no_other_with_it() -> None:
    async def scenario() -> None:
        recorded: list[str] = []

        def record(callbacks: Sequence[Callback]) -> list[CallbackOutcome]:
            if any(callback.task_id == "task-13" for callback in callbacks):
                raise ZeroDivisionError
            recorded.extend(callback.task_id for callback in callbacks)
            return [CallbackOutcome.ACCEPTED for _ in callbacks]

        async with Intake(record, waiting_max=100) as intake:
            receptions = await put_all(intake, named_many(40))

        failed = [
            number for number, outcome in enumerate(receptions) if outcome is not CallbackOutcome.ACCEPTED
        ]
        assert failed == [13]
        assert isinstance(receptions[13], IntakeUnavailable)
        assert len(recorded) == 39

    asyncio.run(scenario())


def test_a_ledger_that_is_away_fails_all_at_once_and_is_asked_once() -> None:
    async def scenario() -> None:
        asked = []

        def record(callbacks: Sequence[Callback]) -> list[CallbackOutcome]:
            asked.append(len(callbacks))
            raise LedgerUnavailable("the disk is full")

        async with Intake(record, waiting_max=100) as intake:
            receptions = await put_all(intake, named_many(40))

        assert [str(outcome) for outcome in receptions] == ["ledger_unavailable"] * 40
        assert asked == [40]

    asyncio.run(scenario())


def test_a_ledger_that_answers_for_too_few_is_not_believed() -> None:
    async def scenario() -> None:
        async with Intake(lambda _: [], waiting_max=10) as intake:
            assert await reason_of(intake, named("1")) == "record_failed"

    asyncio.run(scenario())


def test_the_intake_works_again_when_the_ledger_does() -> None:
    async def scenario() -> None:
        failures = itertools.chain([LedgerUnavailable("busy")], itertools.repeat(None))

        def record(callbacks: Sequence[Callback]) -> list[CallbackOutcome]:
            if failure := next(failures):
                raise failure
            return [CallbackOutcome.ACCEPTED for _ in callbacks]

        async with Intake(record, waiting_max=10) as intake:
            assert await reason_of(intake, named("1")) == "ledger_unavailable"
            assert await intake.put(named("1")) is CallbackOutcome.ACCEPTED

    asyncio.run(scenario())


def test_more_than_may_wait_are_turned_away_at_once() -> None:
    async def scenario() -> None:
        ledger = SlowLedger()
        async with Intake(ledger.record, waiting_max=3) as intake:
            waiting = asyncio.create_task(put_all(intake, named_many(3)))
            await ledger.until_entered()

            assert await reason_of(intake, named("one too many")) == "too_many_waiting"

            ledger.let_through()

            assert await waiting == [CallbackOutcome.ACCEPTED] * 3

            ledger.let_through()

            assert await intake.put(named("there is room again")) is CallbackOutcome.ACCEPTED

    asyncio.run(scenario())


def test_a_commit_that_hangs_is_given_up_in_time_and_closes_the_door_until_it_ends() -> None:
    async def scenario() -> None:
        ledger = SlowLedger()
        async with Intake(ledger.record, waiting_max=10, seconds_max=LONG_SECONDS) as intake:
            stuck = asyncio.create_task(reason_of(intake, named("stuck")))
            await ledger.until_entered()
            behind = asyncio.create_task(reason_of(intake, named("behind")))
            await asyncio.sleep(0)
            loop.let_pass(LONG_SECONDS)

            assert await stuck == "ledger_slow"
            assert not intake.is_open
            assert await reason_of(intake, named("later")) == "ledger_stuck"
            assert await behind == "ledger_slow"

            ledger.let_through()
            await until(lambda: intake.is_open)
            ledger.let_through()
            again = asyncio.create_task(intake.put(named("again")))
            await ledger.until_entered()

            assert await again is CallbackOutcome.ACCEPTED

        assert ledger.batches == [["stuck"], ["again"]]

    loop = PassingLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(scenario())


def test_closing_waits_for_admitted_callbacks_and_admits_no_more() -> None:
    async def scenario() -> None:
        ledger = SlowLedger()
        intake = await Intake(ledger.record, waiting_max=10).__aenter__()
        committing = asyncio.create_task(intake.put(named("committing")))
        await ledger.until_entered()
        gathering = asyncio.create_task(intake.put(named("gathering")))
        await asyncio.sleep(0)
        leaving = asyncio.create_task(intake.__aexit__())
        await asyncio.sleep(0)

        assert await reason_of(intake, named("late")) == "shutting_down"
        assert not leaving.done()

        ledger.let_through(2)
        await leaving

        assert await committing is CallbackOutcome.ACCEPTED
        assert await gathering is CallbackOutcome.ACCEPTED

    asyncio.run(scenario())


def test_closing_does_not_wait_for_a_hanging_commit() -> None:
    async def scenario() -> None:
        ledger = SlowLedger()
        async with Intake(ledger.record, waiting_max=10, seconds_max=0.5) as intake:
            assert await reason_of(intake, named("stuck")) == "ledger_slow"
        ledger.let_through()

    asyncio.run(scenario())


def test_a_request_that_is_cancelled_spoils_nothing_for_the_others() -> None:
    async def scenario() -> None:
        ledger = SlowLedger()
        async with Intake(ledger.record, waiting_max=10) as intake:
            cancelled = asyncio.create_task(intake.put(named("cancelled")))
            patient = asyncio.create_task(intake.put(named("patient")))
            await ledger.until_entered()
            cancelled.cancel()
            ledger.let_through()

            assert await patient is CallbackOutcome.ACCEPTED
            with pytest.raises(asyncio.CancelledError):
                await cancelled

    asyncio.run(scenario())


def test_what_put_returned_for_is_in_the_ledger(tmp_path: object) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db", daemon=True)

    async def scenario() -> list[CallbackOutcome | BaseException]:
        async with Intake(ledger.callbacks.record, waiting_max=1000) as intake:
            return await put_all(intake, [*named_many(600), *named_many(10)])

    receptions = asyncio.run(scenario())
    again = ledger.callbacks.record(named_many(600))
    ledger.close()

    assert receptions == [CallbackOutcome.ACCEPTED] * 600 + [CallbackOutcome.DUPLICATE] * 10
    assert again == [CallbackOutcome.DUPLICATE] * 600
