"""How the slots of the archive stage are shared between its lanes: by the tasks under way."""

from collections import Counter

import hypothesis
import hypothesis.strategies as st
import pytest

from archiver.engine.slots.lane_slots import lane_slots
from archiver.model import Lane

D, A, N, LOST = Lane.DEADLINE, Lane.ATTEMPTS, Lane.NEWEST, Lane.LOST


def fill(free: int, running: Counter[Lane], *, due: Counter[Lane], started: int = 0) -> Counter[Lane]:
    """What a claim leases, where `due` tasks wait in each lane."""
    taken: Counter[Lane] = Counter()
    for lane, slots in lane_slots(free, running=running, started=started).items():
        taken[lane] = min(slots, due[lane], free - taken.total())
    return taken


PLENTY = Counter(dict.fromkeys(Lane, 1000))


def test_sixteen_free_slots_are_half_deadline_a_quarter_attempts_a_quarter_newest() -> None:
    assert fill(16, Counter(), due=PLENTY) == {D: 8, A: 4, N: 4, LOST: 0}


def test_slow_tasks_of_a_lane_keep_its_slots_and_take_no_others() -> None:
    running = Counter({D: 8})
    for _ in range(8):
        running += fill(1, running, due=PLENTY)

    assert running == {D: 8, A: 4, N: 4}


def test_lost_tasks_take_an_eighth_at_most_also_where_nothing_else_is_due() -> None:
    only_lost = Counter({LOST: 1000})

    assert fill(16, Counter(), due=only_lost)[LOST] == 2
    assert fill(14, Counter({LOST: 2}), due=only_lost)[LOST] == 0


def test_lost_tasks_wait_while_others_are_due() -> None:
    assert fill(4, Counter(), due=PLENTY)[LOST] == 0


def test_a_hundred_slow_lost_tasks_leave_fourteen_slots_to_fresh_ones() -> None:
    assert fill(14, Counter({LOST: 2}), due=PLENTY).total() == 14


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_few_slots_are_taken_in_turns(slots: int) -> None:
    turns: Counter[Lane] = Counter()
    for started in range(0, 120, slots):
        turns += fill(slots, Counter(), due=PLENTY, started=started)

    assert min(turns[lane] for lane in (D, A, N)) >= 30


@hypothesis.given(
    total=st.integers(1, 64),
    started=st.integers(0, 1000),
    ends=st.lists(st.sampled_from(list(Lane)), max_size=100),
)
def test_no_lane_ever_exceeds_its_share_and_no_slot_stays_free_while_tasks_are_due(
    total: int, started: int, ends: list[Lane]
) -> None:
    running: Counter[Lane] = Counter()
    for end in [None, *ends]:
        if end is not None and running[end]:
            running[end] -= 1
        running += fill(total - running.total(), running, due=PLENTY, started=started)
        started += 1

        assert running.total() == total
        assert all(
            running[lane] <= -(-total * share // 1) for lane, share in ((D, 0.5), (A, 0.25), (N, 0.25))
        )
        assert running[LOST] <= -(-total // 8)
