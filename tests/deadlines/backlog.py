"""Do fresh callbacks wait while the daemon works off a backlog of tens of thousands?

The daemon starts on an empty ledger, as on its first day or after losing the ledger. Its sweep finds the backlog page
by page, and its slots work it off at a second a file; meanwhile Kling calls back for new tasks.
"""

import dataclasses
import random
import statistics
import time
from collections.abc import Sequence

from archiver.model import DAY_MS
from tests.deadlines.daemon import Daemon
from tests.deadlines.outside import Api, Bucket
from tests.deadlines.simulation import START, in_memory, quietly
from tests.deadlines.timeline import Timeline
from tests.deadlines.world import FAMILIES, HOSTS, Outage, Upstream, World


@dataclasses.dataclass(frozen=True)
class BacklogFigures:
    """Seconds are the timeline's."""

    backlog: int
    worked_off: int
    """Tasks of the backlog archived within `minutes`."""
    minutes: float
    fresh: int
    fresh_archived: int
    fresh_seconds_median: float
    """From callback to manifest, over all callbacks; a task not archived counts until the end."""
    fresh_seconds_99th: float
    fresh_seconds_max: float
    nearest_first: float
    """The archived share of the tenth of the backlog with the nearest deadlines."""
    nearest_margin_minutes: float
    """The least time that an archived task had left."""
    expired: int
    """Tasks of the backlog that passed their deadline first."""
    api_calls: int
    seconds: float
    """Of this machine, in total."""


def work_off(
    backlog: int,
    *,
    minutes: float,
    days_min: float = 0.05,
    days_max: float = 29.9,
    outages: Sequence[Outage] = (),
    fresh_hosts: Sequence[str] = HOSTS,
    fresh_per_second: float = 0.5,
    seed: int = 1,
) -> BacklogFigures:
    """Let a daemon find `backlog` tasks, `days_min` to `days_max` old, while Kling calls back for new ones.

    The new tasks' files are on `fresh_hosts`. Each file takes a second.
    """
    began, rand = time.monotonic(), random.Random(seed)
    world = World(Timeline(START), outages=outages, page_rows=500)
    ages = sorted((rand.uniform(days_min, days_max) for _ in range(backlog)), reverse=True)
    old = [
        world.create(START - int(age * DAY_MS), family=rand.choice(FAMILIES), host=rand.choice(HOSTS))
        for age in ages
    ]
    until = START + int(minutes * 60_000)
    fresh = _fresh(world, rand, until=until, per_second=fresh_per_second, hosts=fresh_hosts)
    api, bucket = Api(world), Bucket(world, rand)
    with quietly() as crashes, in_memory() as folder:
        daemon = Daemon(world, folder, api=api, bucket=bucket, rand=rand)
        world.timeline.spawn(lambda: _call_back(daemon, world, fresh), name="callbacks")
        world.timeline.run(until=until)
        daemon.kill()
    assert not crashes, crashes
    waits = sorted(((task.archived_at or until) - task.finished_at) / 1000 for task in fresh)
    nearest = old[: max(1, backlog // 10)]
    return BacklogFigures(
        backlog=backlog,
        worked_off=sum(task.archived_at is not None for task in old),
        minutes=minutes,
        fresh=len(fresh),
        fresh_archived=sum(task.archived_at is not None for task in fresh),
        fresh_seconds_median=statistics.median(waits),
        fresh_seconds_99th=statistics.quantiles(waits, n=100, method="inclusive")[98],
        fresh_seconds_max=waits[-1],
        nearest_first=sum(task.archived_at is not None for task in nearest) / len(nearest),
        nearest_margin_minutes=min(
            ((task.deadline_at - task.archived_at) / 60_000 for task in old if task.archived_at is not None),
            default=0,
        ),
        expired=sum(task.deadline_at <= (task.archived_at or until) for task in old),
        api_calls=api.calls,
        seconds=time.monotonic() - began,
    )


def _fresh(
    world: World, rand: random.Random, *, until: int, per_second: float, hosts: Sequence[str]
) -> list[Upstream]:
    """Tasks that finish between the start and a minute before the end."""
    tasks, finished_at = [], float(START)
    while (finished_at := finished_at + rand.expovariate(per_second) * 1000) < until - 60_000:
        tasks.append(
            world.create(int(finished_at) - 24_000, family=rand.choice(FAMILIES), host=rand.choice(hosts))
        )
    return tasks


def _call_back(daemon: Daemon, world: World, tasks: list[Upstream]) -> None:
    for task in tasks:
        world.timeline.sleep(max(0, task.finished_at - world.timeline.now) / 1000)
        daemon.call_back(task.task_id, family=task.family)
