"""What do tasks that cannot be archived cost the healthy ones beside them?

Three crowds, each on the timeline, with the real worker: hopeless tasks on the host of healthy ones, tasks that each
set a hold of the account, and lost videos that take half an hour a try. The figures are the same at each run.
"""

import dataclasses
import enum
import pathlib
import random
import statistics
from collections.abc import Mapping, Sequence

from archiver.model import DAY_MS, RETENTION_MS, State
from tests.deadlines.daemon import Daemon
from tests.deadlines.outside import Api, Bucket
from tests.deadlines.simulation import START, in_memory, quietly
from tests.deadlines.timeline import Timeline
from tests.deadlines.world import FAMILIES, HOSTS, HOUR_MS, Outage, Part, Upstream, World

MINUTE_MS = 60_000
VIDEOS = "videos/text2video"
HOPELESS = ("gone", "forbidden", "html")
"""One after the other."""
SLOTS_OF_FIRST_TRIES = 4
"""A quarter of the daemon's: what a failing host may have of them."""
HEAD_START_MS = 10 * MINUTE_MS
"""The crowd that comes first is tried for so long before the healthy tasks come."""


@dataclasses.dataclass(frozen=True)
class Waits:
    """Seconds of the timeline from callback to manifest; a task that was not archived counts until the end."""

    tasks: int
    archived: int
    median: float
    longest: float


@dataclasses.dataclass
class Crowd:
    """A scene, and the callbacks that come in it."""

    world: World = dataclasses.field(default_factory=lambda: World(Timeline(START), page_rows=500))
    rand: random.Random = dataclasses.field(default_factory=lambda: random.Random(1))
    api: Api = dataclasses.field(init=False)
    bucket: Bucket = dataclasses.field(init=False)
    states: Mapping[State, int] = dataclasses.field(default_factory=dict)
    """How many tasks were in each state of the ledger at the end."""
    _callbacks: list[tuple[int, Upstream]] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.api, self.bucket = Api(self.world), Bucket(self.world, self.rand)

    def create(
        self,
        called_back_at: Sequence[int],
        *,
        age_ms: int = 24_000,
        family: str = FAMILIES[0],
        host: str = HOSTS[0],
        troubles: Sequence[str | None] = (None,),
    ) -> list[Upstream]:
        """A task for each callback (Unix ms), which comes when it has ended, `age_ms` old; the troubles take turns."""
        tasks = [
            self.world.create(
                at - age_ms,
                seconds=age_ms / 1000,
                family=family,
                host=host,
                trouble=troubles[number % len(troubles)],
            )
            for number, at in enumerate(called_back_at)
        ]
        self._callbacks += zip(called_back_at, tasks, strict=True)
        return tasks

    def play(self, *, until: int, families: Sequence[str] = FAMILIES) -> None:
        """Let a daemon live from the start to that moment (Unix ms)."""
        with quietly() as crashes, in_memory() as folder:
            self._live(folder, until=until, families=families)
        assert not crashes, crashes
        assert self.bucket.complaints == []

    def _live(self, folder: pathlib.Path, *, until: int, families: Sequence[str]) -> None:
        daemon = Daemon(
            self.world, folder, api=self.api, bucket=self.bucket, rand=self.rand, families=families
        )
        self.world.timeline.spawn(lambda: self._call_back(daemon), name="callbacks")
        self.world.timeline.run(until=until)
        self.states = daemon.ledger.views.status().states
        daemon.kill()

    def _call_back(self, daemon: Daemon) -> None:
        timeline = self.world.timeline
        for at, task in sorted(self._callbacks, key=lambda callback: callback[0]):
            if at > timeline.now:
                timeline.sleep((at - timeline.now) / 1000)
            daemon.call_back(task.task_id, family=task.family)

    def waits(self, tasks: Sequence[Upstream]) -> Waits:
        """Of these tasks, at the end."""
        called_back = {task.task_id: at for at, task in self._callbacks}
        end = self.world.timeline.now
        seconds = [((task.archived_at or end) - called_back[task.task_id]) / 1000 for task in tasks]
        archived = sum(task.archived_at is not None for task in tasks)
        return Waits(len(tasks), archived, statistics.median(seconds), max(seconds))


def _every(seconds: float, count: int, *, since: int) -> list[int]:
    """So many moments, `seconds` apart."""
    return [since + int(number * seconds * 1000) for number in range(count)]


# --- hopeless tasks on the host of healthy ones ---------------------------------------------------------------------


class Order(enum.StrEnum):
    """In which order callbacks for hopeless and healthy tasks come."""

    ALONE = "alone"
    HOPELESS_FIRST = "hopeless first"
    """All at once; the healthy ones come one a second when the others have been tried for a while."""
    HEALTHY_FIRST = "healthy first"
    """One a second; all hopeless ones at once when the first half of them has come."""
    MIXED = "mixed"
    """One a second, and the hopeless ones spread over the same time."""


def hopeless_crowd(hopeless: int, healthy: int, order: Order) -> Waits:
    """`healthy` tasks and `hopeless` ones, whose files cannot be had, all on one host: how the healthy ones wait.

    A file takes a second. A hopeless task is tried at least once, so where both come together the healthy ones may have
    to wait for the first tries of the others.
    """
    crowd = Crowd()
    since = START + (HEAD_START_MS if order is Order.HOPELESS_FIRST else 0)
    until = since + healthy * 1000
    came_at = {
        Order.ALONE: [],
        Order.HOPELESS_FIRST: [START] * hopeless,
        Order.HEALTHY_FIRST: [(since + until) // 2] * hopeless,
        Order.MIXED: _every(healthy / max(1, hopeless), hopeless, since=since),
    }[order]
    # Lists are in the order of creation.
    crowd.create(came_at, age_ms=DAY_MS, troubles=HOPELESS)
    tasks = crowd.create(_every(1, healthy, since=since))
    crowd.play(until=until + HEAD_START_MS)
    return crowd.waits(tasks)


# --- a host that refuses everything for a while ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class BanFigures:
    """What `banned` found."""

    states: Mapping[State, int]
    """At the end."""
    archived: int
    longest: float
    """Seconds of the timeline from the end of the ban to the last manifest."""
    api_calls: int


def banned(tasks: int, *, kind: str, hours: float, hours_after: float) -> BanFigures:
    """`tasks` are called back while their host refuses each file for `hours`; then it serves them again. What becomes
    of them within `hours_after`. The `kind` is `forbidden`, or `html` with status 200."""
    ends_at = START + int(hours * HOUR_MS)
    outage = Outage(Part.CDN, kind, START, ends_at)
    crowd = Crowd(World(Timeline(START), outages=[outage], page_rows=500))
    waiting = crowd.create(_every(0.5, tasks, since=START))
    crowd.play(until=ends_at + int(hours_after * HOUR_MS))
    archived = [task.archived_at for task in waiting if task.archived_at is not None]
    longest = (max(archived, default=ends_at) - ends_at) / 1000
    return BanFigures(crowd.states, len(archived), longest, crowd.api.calls)


# --- tasks that each set a hold of the account ----------------------------------------------------------------------


def hold_storm(poisonous: int, healthy: int) -> Waits:
    """A healthy task every four seconds, beside `poisonous` ones that the store refuses as it refuses wrong
    credentials: each of them holds the whole account. How the healthy ones wait."""
    crowd = Crowd()
    crowd.create([START] * poisonous, age_ms=DAY_MS, troubles=["unstorable"])
    tasks = crowd.create(_every(4, healthy, since=START))
    crowd.play(until=START + healthy * 4000 + MINUTE_MS)
    return crowd.waits(tasks)


# --- lost videos that take half an hour a try -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class LostFigures:
    """What `lost_videos` found."""

    fresh: Waits
    near: Waits
    near_in_time: int
    """Those that were archived before their deadline."""


def lost_videos(lost: int, near: int, *, hours: float = 2.0, fresh_per_second: float = 0.5) -> LostFigures:
    """`lost` videos, whose host drips for as long as a fetch may take, are tried hourly; then `near` tasks with `hours`
    left come, and fresh ones until the `near` ones' deadline."""
    crowd = Crowd()
    # Called back with a quarter of an hour left, and lost long before the others come.
    crowd.create(
        [START] * lost,
        age_ms=RETENTION_MS - 15 * MINUTE_MS,
        family=VIDEOS,
        host=HOSTS[1],
        troubles=["dripping"],
    )
    since = START + 2 * HOUR_MS
    left_ms = int(hours * HOUR_MS)
    near_ones = crowd.create([since] * near, age_ms=RETENTION_MS - left_ms)
    count = int((left_ms - MINUTE_MS) / 1000 * fresh_per_second)
    fresh = crowd.create(_every(1 / fresh_per_second, count, since=since))
    crowd.play(until=since + left_ms + MINUTE_MS, families=[*FAMILIES, VIDEOS])
    in_time = sum(task.archived_at is not None and task.archived_at < task.deadline_at for task in near_ones)
    return LostFigures(crowd.waits(fresh), crowd.waits(near_ones), in_time)
