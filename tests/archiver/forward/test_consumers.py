"""How the threads of forwarding are shared among consumers."""

import pytest

from archiver.forward.consumers import CONSUMERS_MAX, ConsumerShares
from archiver.ledger import OPERATOR_CONSUMER


class Passing:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Passing:
    return Passing()


@pytest.fixture
def shares(time: Passing) -> ConsumerShares:
    return ConsumerShares(8, monotonic=time)


def begin(shares: ConsumerShares, name: str) -> int:
    """As many tries as may begin; how many."""
    room = shares.room(name)
    for _ in range(room):
        shares.began(name)
    return room


def learn(shares: ConsumerShares, name: str) -> None:
    """The consumer has answered."""
    shares.began(name)
    shares.ended(name, was_taken=True)


def test_a_consumer_gets_half_of_the_threads_once_it_has_answered_and_one_before(
    shares: ConsumerShares,
) -> None:
    assert begin(shares, "a") == 1
    shares.ended("a", was_taken=True)

    assert begin(shares, "a") == 4
    assert begin(shares, "a") == 0


def test_a_crowd_of_consumers_that_hang_leaves_threads_to_those_that_answer_and_to_the_operator(
    shares: ConsumerShares,
) -> None:
    learn(shares, "answers")
    hanging = sum(begin(shares, f"hangs{place}") for place in range(1000))

    assert hanging == 4
    assert begin(shares, "answers") == 2
    assert begin(shares, OPERATOR_CONSUMER) == 2


def test_a_failing_consumer_gets_one_try_at_a_time_after_2_s_doubling_to_30(
    shares: ConsumerShares, time: Passing
) -> None:
    learn(shares, "a")
    waits = []
    for _ in range(7):
        began = time.now
        while not shares.room("a"):
            time.now += 1
        waits.append(time.now - began)
        shares.began("a")
        shares.ended("a", was_taken=False)
        assert shares.room("a") <= 4

    assert waits == [0, 0, 4, 8, 16, 30, 30]
    time.now += 30
    assert begin(shares, "a") == 1
    shares.ended("a", was_taken=True)
    assert begin(shares, "a") == 4


def test_failing_consumers_share_a_quarter_of_the_threads(shares: ConsumerShares, time: Passing) -> None:
    for name in ("a", "b", "c", "d"):
        learn(shares, name)
        for _ in range(2):
            shares.began(name)
            shares.ended(name, was_taken=False)
    time.now += 30

    assert [begin(shares, name) for name in ("a", "b", "c", "d")] == [1, 1, 0, 0]


def test_consumers_that_failed_before_a_restart_count_as_failing_until_they_answer(
    shares: ConsumerShares,
) -> None:
    names = [f"fails{place}" for place in range(6)]
    learn(shares, "answers")
    shares.expect_failure([*names, "answers"])

    assert [begin(shares, name) for name in names] == [1, 1, 0, 0, 0, 0]
    shares.ended("fails0", was_taken=True)
    assert shares.room("fails0") > 1
    assert shares.room("answers") > 1, "what this process has seen counts"


def test_a_recovered_consumer_gets_its_try_although_twenty_before_it_in_the_alphabet_hang(
    shares: ConsumerShares, time: Passing
) -> None:
    names = [*(f"hangs{place:02}" for place in range(20)), "recovered"]
    for name in names:
        for _ in range(2):
            shares.began(name)
            shares.ended(name, was_taken=False)
    under_way: dict[str, float] = {}
    while "recovered" not in under_way:
        time.now += 1
        for name in [name for name, ends_at in under_way.items() if ends_at <= time.now]:
            del under_way[name]
            shares.ended(name, was_taken=False)
        for name in shares.in_turn(names):
            if begin(shares, name):
                under_way[name] = time.now + 15
        assert time.now < 20 * 15, "two are tried at once, so each has had more than its turn"


def test_a_try_that_shows_nothing_about_a_consumer_changes_nothing(shares: ConsumerShares) -> None:
    learn(shares, "a")
    shares.began("a")
    assert shares.ended("a", was_taken=False) == 1
    shares.began("a")
    assert shares.ended("a", was_taken=None) == 1

    assert begin(shares, "a") == 4


def test_no_more_than_ten_thousand_consumers_are_remembered(shares: ConsumerShares) -> None:
    shares.began("in flight")
    for place in range(CONSUMERS_MAX + 100):
        learn(shares, str(place))

    shares.ended("in flight", was_taken=True)
    assert shares.room("in flight") == 4
    assert shares.room("0") == 1  # forgotten
    assert shares.room(str(CONSUMERS_MAX + 99)) == 4
