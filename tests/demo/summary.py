"""What the demo counted, as rows of a table."""

from collections import Counter
from collections.abc import Collection, Sequence

from tests.demo.arrivals import Arrival
from tests.demo.fleet import Fleet
from tests.demo.plans import CreatedTask, Twist
from tests.simulator import KlingSimulator


def rows(
    *,
    arrived: Collection[Arrival],
    created: Sequence[CreatedTask],
    objects: int,
    is_forged: bool,
    fleet: Fleet,
    sim: KlingSimulator,
) -> list[tuple[str, str]]:
    """Names and counts."""
    found = Counter(arrival.found_by for arrival in arrived)
    twists = Counter(task.plan.twist for task in created)
    early = found["sweep"] - twists[Twist.HISTORY] - twists[Twist.DROPPED]
    undelivered = sum(delivery.http_status is None for delivery in sim.deliveries)
    counts = {
        "tasks archived": len(arrived),
        "  found by their callback": found["callback"],
        "  created through the gateway": found["registration"],
        "  found by the sweep": found["sweep"],
        "    of these older than the daemon": twists[Twist.HISTORY],
        "    of these with lost callbacks": twists[Twist.DROPPED],
        "    others, their callback late or lost": early,
        "files in the bucket": objects,
        "  watermarked ones": sum(".watermark." in name for task in created for name in task.names),
        "callbacks answered 200": len(sim.deliveries) - undelivered,
        "callbacks that found nobody there": undelivered,
        "tasks failed upstream, nothing archived": twists[Twist.FAILED],
        "forged ids, nothing fetched or archived": int(is_forged),
        f"starts of {fleet.noun}": fleet.starts,
        "complaints of the simulated account": len(sim.complaints),
    }
    return [(name, str(count)) for name, count in counts.items()]
