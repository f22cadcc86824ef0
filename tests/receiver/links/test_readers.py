"""Who may read at once, and who has to leave."""

import asyncio

import pytest

from receiver.links import readers
from receiver.links.readers import PATIENCE_SECONDS, Readers

KIB = 1024


class Clock:
    """Of an event loop."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def none_unread() -> int:
    return 0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize(
    ("piece", "seconds", "is_cut_off"),
    [
        (64 * KIB, 29.0, False),
        (32 * KIB, 14.0, False),
        (1 * KIB, 0.4, False),
        (64 * KIB, 31.0, True),
        (32 * KIB, 16.0, True),
        (1, 19.0, True),
    ],
)
def test_a_reader_is_cut_off_when_less_than_64_kib_pass_in_30_seconds_in_whatever_pieces(
    clock: Clock, piece: int, seconds: float, is_cut_off: bool
) -> None:
    reader = Readers(clock).enter("a", none_unread)
    assert reader is not None
    is_late = False
    while clock.now < 1000.0 + 3600 and not is_late:
        clock.now += seconds
        is_late = clock.now > reader.ends_at
        reader.passed(piece)

    assert is_late == is_cut_off


def test_a_reader_that_was_fast_is_cut_off_like_any_other(clock: Clock) -> None:
    reader = Readers(clock).enter("a", none_unread)
    assert reader is not None
    reader.passed(2**40)

    assert reader.ends_at == clock.now + PATIENCE_SECONDS


def test_the_slowest_reader_of_the_wanted_file_leaves_and_none_that_is_not_slow(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "READERS_OF_FILE_MAX", 2)
    places = Readers(clock)
    other, first, second = (places.enter(key, none_unread) for key in ("b", "a", "a"))
    assert other is not None
    assert first is not None
    assert second is not None
    early = places.enter("a", none_unread)
    for _ in range(100):
        clock.now += 1
        first.passed(60 * KIB)
        second.passed(10 * KIB)
    third = places.enter("a", none_unread)
    places.leave(second)
    fourth = places.enter("a", none_unread)

    assert (early, fourth) == (None, None), "two read it, who are not slow"
    assert third is not None
    assert [reader.is_displaced for reader in (other, first, second)] == [False, False, True]


def test_where_all_places_are_taken_the_slowest_of_all_leaves(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "READERS_MAX", 2)
    places = Readers(clock)
    first, second = places.enter("a", none_unread), places.enter("b", none_unread)
    assert first is not None
    assert second is not None
    clock.now += 100
    second.passed(KIB)

    assert places.enter("c", none_unread) is not None
    assert [first.is_displaced, second.is_displaced] == [True, False]


def test_a_reader_whose_limit_has_passed_may_still_be_displaced_and_may_still_leave(clock: Clock) -> None:
    """It keeps its place while it answers its client."""

    async def displaced_too_late() -> None:
        reader = Readers(clock).enter("a", none_unread)
        assert reader is not None
        clock.now = asyncio.get_running_loop().time()
        reader.ends_at = clock.now
        with pytest.raises(TimeoutError):
            async with reader.limited():
                await asyncio.get_running_loop().create_future()
        reader.displace()
        reader.client_left()

    asyncio.run(displaced_too_late())
