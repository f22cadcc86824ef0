"""A create is told to the ledger before it is sent, and its task before its client has the answer, whatever fails."""

import asyncio
import threading
from typing import Any

import pytest
import structlog

from archiver.failures import LedgerUnavailable
from archiver.metrics import CreateResult
from receiver.gateway.creates import later
from receiver.gateway.exchange import (
    Source,
)
from tests.receiver.gateway.creates.gate import (
    ACCOUNT,
    CLIENT,
    PATIENCE_SECONDS,
    Opened,
    run,
)


def test_a_ledger_that_cannot_be_written_in_time_keeps_no_client_and_kling_calls_it(gate: Opened) -> None:
    async def story() -> None:
        async with gate(commit_seconds=0.05) as it:
            body = b'{"callback_url":"%b"}' % CLIENT.encode()
            hangs = threading.Event()
            commit = it.ledger.gateway_creates.commit

            def late(**changes: Any) -> list[bool]:
                hangs.wait(PATIENCE_SECONDS)
                return commit(**changes)

            it.ledger.gateway_creates.commit = late  # type: ignore[method-assign]
            answer = await it.post(body)

            assert answer.status == 200
            assert it.kling.bodies == [body]
            assert it.count(CreateResult.UNREFERENCED) == 1
            hangs.set()
            await it.settle()
            assert it.open_references() == []
            assert it.told()[0] is None

    run(story())


def test_a_client_that_leaves_has_its_task_registered_all_the_same(gate: Opened) -> None:
    async def story() -> None:
        async with gate() as it:
            it.kling.may_answer = asyncio.Event()
            leaving = asyncio.create_task(it.post({"callback_url": CLIENT}))
            await it.kling.begun.wait()
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            it.kling.may_answer.set()
            await it.settle()

            assert it.told()[0] == CLIENT
            assert it.open_references() == []

    run(story())


def test_a_create_that_kling_does_not_answer_before_the_process_ends_is_logged_and_keeps_its_reference(
    gate: Opened,
) -> None:
    async def story() -> None:
        async with gate() as it:
            it.kling.may_answer = asyncio.Event()
            left = asyncio.create_task(it.post({"callback_url": CLIENT}))
            await it.kling.begun.wait()
            with structlog.testing.capture_logs() as lines:
                await it.creates.close(seconds=0.01)
            with pytest.raises(asyncio.CancelledError):
                await left

            said = [(line["event"], line["account"], line["family"]) for line in lines]
            assert said == [("create.unanswered", ACCOUNT, "images/generations")]
            assert it.count(CreateResult.NO_ANSWER) == 1
            assert it.open_references() == [CLIENT]

    run(story())


def test_a_task_that_cannot_be_registered_in_time_is_registered_later(
    gate: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(later, "FIRST_SECONDS", 0.0)

    async def story() -> None:
        async with gate() as it:
            commit, failures = it.ledger.gateway_creates.commit, iter(range(2))

            def unlucky(**changes: Any) -> list[bool]:
                if changes.get("created") and next(failures, None) is not None:
                    raise LedgerUnavailable("full")
                return commit(**changes)

            it.ledger.gateway_creates.commit = unlucky  # type: ignore[method-assign]
            answer = await it.post({"callback_url": CLIENT})
            assert answer.status == 200
            await it.settle()
            assert it.told()[0] == CLIENT
            assert it.open_references() == []

    run(story())


@pytest.mark.parametrize("failures", [1, 100])
def test_whatever_fails_when_a_task_is_registered_its_client_has_the_answer_of_kling(
    gate: Opened, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    monkeypatch.setattr(later, "FIRST_SECONDS", 0.0)

    async def story() -> None:
        async with gate() as it:
            commit, left = it.ledger.gateway_creates.commit, iter(range(failures))

            def broken(**changes: Any) -> list[bool]:
                if changes.get("created") and next(left, None) is not None:
                    raise ValueError("a defect")
                return commit(**changes)

            it.ledger.gateway_creates.commit = broken  # type: ignore[method-assign]
            answer = await it.post({"callback_url": CLIENT})
            assert (answer.status, answer.source) == (200, Source.KLING)
            await it.settle()
            if failures == 1:
                assert it.told()[0] == CLIENT
            assert it.open_references() == ([] if failures == 1 else [CLIENT])

    run(story())


def test_creates_that_come_together_are_committed_together_and_a_bad_one_fails_alone(gate: Opened) -> None:
    async def story() -> None:
        async with gate() as it:
            commit, sizes = it.ledger.gateway_creates.commit, list[int]()

            def counting(**changes: Any) -> list[bool]:
                sizes.append(sum(map(len, changes.values())))
                if any(create.external_task_id == "bad" for create in changes["begun"]):
                    raise ValueError("bad")
                return commit(**changes)

            it.ledger.gateway_creates.commit = counting  # type: ignore[method-assign]
            answers = await asyncio.gather(*(it.post({"callback_url": CLIENT}) for _ in range(20)))
            assert [answer.status for answer in answers] == [200] * 20
            assert len(sizes) < 40
            assert max(sizes) > 1
            bad = it.post({"callback_url": CLIENT, "external_task_id": "bad"})
            good = [it.post({"callback_url": CLIENT}) for _ in range(5)]
            answers = await asyncio.gather(bad, *good)
            assert [answer.status for answer in answers] == [200] * 6
            assert it.count(CreateResult.UNREFERENCED) == 1
            assert sum(CLIENT.encode() in body for body in it.kling.bodies) == 1

    run(story())
