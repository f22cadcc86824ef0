"""How many tasks each lane may take now. Pure.

Half of the slots go to the nearest deadline, a quarter to the fewest attempts, a quarter to the newest; lost tasks have
a lane of their own, at most an eighth. Counted are the tasks under way, not those started: a lane whose tasks are slow
keeps its slots, and does not take those of the others.
"""

import math
from collections.abc import Mapping

from archiver.model import Lane

SHARES: Mapping[Lane, float] = {Lane.DEADLINE: 1 / 2, Lane.ATTEMPTS: 1 / 4, Lane.NEWEST: 1 / 4}
TURNS = (Lane.DEADLINE, Lane.ATTEMPTS, Lane.DEADLINE, Lane.NEWEST)
"""The order among lanes that use the same part of their share."""
LOST_SHARE = 1 / 8


def lane_slots(free: int, *, running: Mapping[Lane, int], started: int) -> dict[Lane, int]:
    """How many of `free` slots each lane may take, in the order in which a claim fills them.

    `running` counts the tasks under way; `started` is the number of the next slot. Each slot goes to the lane with the
    smallest part of its share, so a few slots are taken in turns. A due task is in all lanes but the lost tasks' one,
    so no slot of a lane stays free while another lane has work. Lost tasks go last, rounded up to one slot: they run
    when nothing else is due.
    """
    slots = dict.fromkeys(SHARES, 0)
    for number in range(started, started + free):
        part = {lane: (running.get(lane, 0) + slots[lane]) / share for lane, share in SHARES.items()}
        least = [lane for lane in SHARES if part[lane] == min(part.values())]
        turn = TURNS[number % len(TURNS)]
        slots[turn if turn in least else least[0]] += 1
    lost_max = math.ceil((free + sum(running.values())) * LOST_SHARE)
    slots[Lane.LOST] = min(free, max(0, lost_max - running.get(Lane.LOST, 0)))
    return slots
