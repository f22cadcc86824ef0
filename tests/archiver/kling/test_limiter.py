"""The rate of all queries, on a clock that only waiting moves."""

import functools
import threading
from collections.abc import Callable

import pytest

from archiver.failures import Stopped
from archiver.kling.limiter import FLOOR_DIVISOR, UNANSWERED_IN_A_ROW, Priority, RateLimiter, Turns
from tests.harness.virtual_time import VirtualTime


class Clock:
    """Waiting is the only thing that takes time here."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.stopped = False
        self.on_wait: Callable[[], None] = lambda: None

    def now(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> bool:
        self.seconds += seconds
        if seconds:
            self.on_wait()
        return self.stopped


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limiter(clock: Clock, rate: float = 2.0) -> RateLimiter:
    return RateLimiter(rate, wait=clock.wait, monotonic=clock.now)


def seconds_for(clock: Clock, limits: RateLimiter, priority: Priority, *, requests: int) -> float:
    began = clock.seconds
    for _ in range(requests):
        assert limits.acquire(priority)
    return clock.seconds - began


def test_a_burst_is_one_second_s_worth_and_then_the_rate_holds(clock: Clock) -> None:
    limits = limiter(clock)

    assert seconds_for(clock, limits, Priority.VERIFY, requests=2) == 0
    assert seconds_for(clock, limits, Priority.VERIFY, requests=20) == pytest.approx(10, rel=0.01)


def test_time_without_requests_saves_up_no_more_than_the_burst(clock: Clock) -> None:
    limits = limiter(clock)
    clock.seconds += 3600

    assert seconds_for(clock, limits, Priority.VERIFY, requests=12) == pytest.approx(5, rel=0.01)


def test_the_background_gets_half_of_the_rate(clock: Clock) -> None:
    limits = limiter(clock)
    limits.acquire(Priority.BACKGROUND)

    assert seconds_for(clock, limits, Priority.BACKGROUND, requests=20) == pytest.approx(20, rel=0.01)


def test_the_rate_of_both_together_is_the_whole_rate(clock: Clock) -> None:
    limits = limiter(clock)
    seconds_for(clock, limits, Priority.VERIFY, requests=2)
    began = clock.seconds
    for _ in range(10):
        limits.acquire(Priority.BACKGROUND)
        limits.acquire(Priority.VERIFY)

    assert clock.seconds - began == pytest.approx(10, rel=0.05)


def test_nothing_in_the_background_goes_while_a_verification_waits(clock: Clock) -> None:
    limits = limiter(clock)
    seconds_for(clock, limits, Priority.VERIFY, requests=2)
    let_through: list[bool] = []

    def try_in_background() -> None:
        # More time than a token takes to come back: only the verification's wait holds this one up.
        clock.seconds += 5
        let_through.append(limits.acquire(Priority.BACKGROUND, timeout_seconds=0))

    clock.on_wait = try_in_background
    limits.acquire(Priority.VERIFY)
    clock.on_wait = lambda: None

    assert let_through == [False]
    assert limits.acquire(Priority.BACKGROUND, timeout_seconds=0)


def test_lists_may_take_what_verification_leaves_and_the_background_still_only_half(clock: Clock) -> None:
    limits = limiter(clock)
    seconds_for(clock, limits, Priority.MATCH, requests=2)

    assert seconds_for(clock, limits, Priority.MATCH, requests=20) == pytest.approx(10, rel=0.01)
    assert seconds_for(clock, limits, Priority.BACKGROUND, requests=20) == pytest.approx(19.5, rel=0.05)


def test_fresh_urls_get_a_quarter_of_the_rate_and_the_background_keeps_its_half(clock: Clock) -> None:
    limits = limiter(clock)
    limits.acquire(Priority.FRESH)

    assert seconds_for(clock, limits, Priority.FRESH, requests=20) == pytest.approx(40, rel=0.03)
    assert seconds_for(clock, limits, Priority.BACKGROUND, requests=20) == pytest.approx(20, rel=0.1)


def test_nothing_of_a_list_goes_while_a_verification_waits(clock: Clock) -> None:
    limits = limiter(clock)
    seconds_for(clock, limits, Priority.VERIFY, requests=2)
    let_through: list[bool] = []

    def try_a_list() -> None:
        clock.seconds += 5
        let_through.append(limits.acquire(Priority.MATCH, timeout_seconds=0))

    clock.on_wait = try_a_list
    limits.acquire(Priority.VERIFY)

    assert let_through == [False]


def turns_in_ten_minutes(*asking: Priority) -> list[Priority]:
    """Whose turns there are while each of these always has a question, after the burst of the start."""
    time = VirtualTime(start_ms=0, seed=1)
    limits = RateLimiter(2.0, wait=time.wait, monotonic=time.monotonic)
    turns: list[tuple[float, Priority]] = []

    def ask(priority: Priority) -> None:
        while time.monotonic() < 600:
            limits.acquire(priority)
            turns.append((time.monotonic(), priority))

    for priority in asking:
        time.spawn(functools.partial(ask, priority))
    time.run()
    return [priority for at, priority in turns if at > 3]


def test_when_both_wait_every_third_turn_is_the_background_s() -> None:
    lists, background = [Priority.MATCH] * 2, [Priority.BACKGROUND] * 2
    turns = turns_in_ten_minutes(*lists, *background)

    assert len(turns) == pytest.approx(1194, rel=0.01)
    assert turns.count(Priority.BACKGROUND) == pytest.approx(len(turns) / 3, rel=0.03)


def test_a_crowd_that_needs_fresh_urls_leaves_the_sweep_three_quarters() -> None:
    turns = turns_in_ten_minutes(Priority.FRESH, Priority.FRESH, Priority.BACKGROUND, Priority.MATCH)

    assert len(turns) == pytest.approx(1194, rel=0.01)
    assert 0 < turns.count(Priority.FRESH) <= len(turns) / 4
    assert turns.count(Priority.BACKGROUND) >= len(turns) / 6


def test_fresh_urls_and_the_background_take_turns_where_verification_leaves_few() -> None:
    turns = turns_in_ten_minutes(*[Priority.VERIFY] * 4, Priority.FRESH, Priority.BACKGROUND)
    others = [priority for priority in turns if priority is not Priority.VERIFY]

    assert len(others) == pytest.approx(len(turns) / 8, rel=0.03)
    assert others.count(Priority.FRESH) == pytest.approx(len(others) / 2, rel=0.05)


def test_while_verification_always_waits_every_eighth_turn_is_one_of_the_others() -> None:
    verify = [Priority.VERIFY] * 4
    turns = turns_in_ten_minutes(*verify, Priority.MATCH, Priority.MATCH, Priority.BACKGROUND)
    others = [priority for priority in turns if priority is not Priority.VERIFY]

    assert len(turns) == pytest.approx(1194, rel=0.01)
    assert len(others) == pytest.approx(len(turns) / 8, rel=0.03)
    assert others.count(Priority.BACKGROUND) == pytest.approx(len(others) / 3, rel=0.05)


@pytest.mark.parametrize("other", [Priority.MATCH, Priority.BACKGROUND, Priority.FRESH])
def test_one_alone_gets_its_eighth_beside_verification_and_no_turn_is_lost(other: Priority) -> None:
    turns = turns_in_ten_minutes(*[Priority.VERIFY] * 4, other)

    assert len(turns) == pytest.approx(1194, rel=0.01)
    assert turns.count(other) == pytest.approx(len(turns) / 8, rel=0.03)


def test_a_verification_that_gives_up_lets_the_background_go_on(clock: Clock) -> None:
    limits = limiter(clock)
    seconds_for(clock, limits, Priority.VERIFY, requests=2)

    assert not limits.acquire(Priority.VERIFY, timeout_seconds=0.1)
    assert limits.acquire(Priority.BACKGROUND, timeout_seconds=2)


def test_a_timeout_is_waited_out_and_no_longer(clock: Clock) -> None:
    limits = limiter(clock, rate=0.01)
    limits.acquire(Priority.VERIFY)
    began = clock.seconds

    assert not limits.acquire(Priority.VERIFY, timeout_seconds=3.5)
    assert clock.seconds - began == pytest.approx(3.5)


def test_a_stop_ends_a_wait(clock: Clock) -> None:
    limits = limiter(clock)
    seconds_for(clock, limits, Priority.VERIFY, requests=2)

    def stop() -> None:
        clock.stopped = True

    clock.on_wait = stop
    with pytest.raises(Stopped):
        limits.acquire(Priority.VERIFY)


def test_after_a_stop_nothing_goes_even_if_a_token_is_free(clock: Clock) -> None:
    clock.stopped = True

    with pytest.raises(Stopped):
        limiter(clock).acquire(Priority.VERIFY)


def test_a_complaint_halves_the_rate_and_takes_the_burst_away(clock: Clock) -> None:
    limits = limiter(clock)
    limits.halve()

    assert limits.rate_per_second == 1.0
    assert seconds_for(clock, limits, Priority.VERIFY, requests=1) == pytest.approx(1, rel=0.02)


def test_complaints_about_requests_sent_side_by_side_count_once(clock: Clock) -> None:
    limits = limiter(clock)
    limits.halve()
    clock.seconds += 0.5
    limits.halve()

    assert limits.rate_per_second == pytest.approx(1.01)


def test_from_the_fifth_unanswered_query_in_a_row_the_rate_falls(clock: Clock) -> None:
    limits = limiter(clock)
    for _ in range(UNANSWERED_IN_A_ROW - 1):
        limits.unanswered()
    assert limits.rate_per_second == 2.0

    limits.unanswered()
    assert limits.rate_per_second == 1.0


def test_one_answer_among_them_says_that_the_service_is_up(clock: Clock) -> None:
    limits = limiter(clock)
    for _ in range(10):
        for _ in range(UNANSWERED_IN_A_ROW - 1):
            limits.unanswered()
        limits.answered()

    assert limits.rate_per_second == 2.0


def test_the_rate_never_falls_below_its_floor(clock: Clock) -> None:
    limits = limiter(clock)
    for _ in range(20):
        limits.halve()
        clock.seconds += 1.0

    assert limits.rate_per_second == pytest.approx(2.0 / FLOOR_DIVISOR + 0.02)


def test_the_rate_recovers_slowly_and_never_beyond_what_was_configured(clock: Clock) -> None:
    limits = limiter(clock)
    limits.halve()
    clock.seconds += 25
    halfway = limits.rate_per_second
    clock.seconds += 10_000

    assert halfway == pytest.approx(1.5)
    assert limits.rate_per_second == 2.0


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(clock: Clock, rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        limiter(clock, rate=rate)


def test_threads_share_one_rate_and_a_stop_reaches_all_of_them() -> None:
    """Real threads on a real event: the bucket holds three, the other five wait until the stop."""
    stop, lock, third = threading.Event(), threading.Lock(), threading.Event()
    outcomes: list[str] = []
    limits = RateLimiter(3.0, wait=stop.wait, monotonic=lambda: 0.0)

    def work() -> None:
        try:
            limits.acquire(Priority.VERIFY)
            outcome = "went"
        except Stopped:
            outcome = "stopped"
        with lock:
            outcomes.append(outcome)
            if outcomes.count("went") == 3:
                third.set()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert third.wait(30)
    stop.set()
    for thread in threads:
        thread.join(30)

    assert sorted(outcomes) == ["stopped"] * 5 + ["went"] * 3


@pytest.mark.parametrize(
    ("waiting", "order"),
    [
        ("V", "VVVVVVVVVVVV"),
        ("B", "BBBB"),
        ("VB", "VVVVVVVBVVVVVVVB"),
        ("MB", "BMMBMMB"),
        ("VMB", "VVVVVVVBVVVVVVVMVVVVVVVMVVVVVVVB"),
    ],
)
def test_turns_go_round_while_the_same_kinds_wait(waiting: str, order: str) -> None:
    by_letter = {"V": Priority.VERIFY, "M": Priority.MATCH, "B": Priority.BACKGROUND}
    those = {by_letter[letter] for letter in waiting}
    turns = Turns()

    went = []
    for _ in order:
        priority = turns.next(those)
        turns.count(priority, waiting=those)
        went.append(priority)

    assert went == [by_letter[letter] for letter in order]


def test_a_process_that_follows_another_asker_begins_without_a_burst(clock: Clock) -> None:
    fresh = limiter(clock, rate=2.0)
    fresh.spend_burst()
    began = clock.seconds

    for _ in range(4):
        fresh.acquire(Priority.VERIFY)

    assert clock.seconds - began == pytest.approx(2.0)
