"""When requests of the gateway may begin, and pieces of files go on."""

import asyncio

import pytest

from receiver.server import turns
from receiver.server.turns import LoopTurns

ROUNDS = 50
"""Of the event loop: enough for all that waits here."""


async def pass_rounds(count: int = ROUNDS) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_requests_that_come_together_begin_in_their_order_each_in_a_round_of_its_own() -> None:
    begun: list[tuple[int, int]] = []
    rounds = 0

    async def count_rounds() -> None:
        nonlocal rounds
        while len(begun) < 5:
            rounds += 1
            await asyncio.sleep(0)

    async def main() -> None:
        mine = LoopTurns(lambda: False, yield_seconds=1000.0)

        async def begin(number: int) -> None:
            await mine.take()
            begun.append((number, rounds))

        await asyncio.gather(count_rounds(), *(begin(number) for number in range(5)))

    asyncio.run(main())

    assert [number for number, _ in begun] == [0, 1, 2, 3, 4]
    assert len({at for _, at in begun}) == 5


def test_requests_wait_while_callbacks_are_committed_and_none_waits_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "_LOOK_SECONDS", 0.0)
    is_busy = True

    async def main() -> list[int]:
        begun: list[int] = []
        mine = LoopTurns(lambda: is_busy, yield_seconds=1000.0)

        async def begin(number: int) -> None:
            await mine.take()
            begun.append(number)

        nonlocal is_busy
        waiting = [asyncio.create_task(begin(number)) for number in range(3)]
        await pass_rounds()
        assert begun == [0]  # none had begun for long
        waiting[1].cancel()
        is_busy = False
        await waiting[2]
        is_busy = True
        mine = LoopTurns(lambda: is_busy, yield_seconds=0.0)
        await asyncio.gather(begin(3), begin(4))
        return begun

    assert asyncio.run(main()) == [0, 2, 3, 4]


def test_after_a_turn_that_does_little_the_next_one_waits_for_a_share_of_the_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "_LOOK_SECONDS", 0.0)

    async def main() -> list[int]:
        begun: list[int] = []
        mine = LoopTurns(lambda: True, yield_seconds=1000.0)

        async def begin(number: int, share: float) -> None:
            await mine.take(share)
            begun.append(number)

        waiting = [
            asyncio.create_task(begin(number, share)) for number, share in enumerate((0.0, 0.0, 1.0, 0.0))
        ]
        await pass_rounds()
        for task in waiting:
            task.cancel()
        return begun

    assert asyncio.run(main()) == [0, 1, 2]
