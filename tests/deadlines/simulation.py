"""Simulate days of a daemon's life: is every promised task in the bucket by day 30?"""

import dataclasses
import functools
import heapq
import itertools
import pathlib
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from archiver.model import DAY_MS, Status
from tests.deadlines.daemon import Daemon
from tests.deadlines.outside import Api, Bucket
from tests.deadlines.scenario import QUIET_DAYS, Scenario, draw, populate
from tests.deadlines.timeline import Timeline
from tests.deadlines.world import HOUR_MS, PROMISED_MS, Part, Upstream, World

START = 1_790_000_000_000
MEMORY = pathlib.Path("/dev/shm")  # noqa: S108 -- if it exists: millions of fsyncs prove nothing here
SWEEP_INTERVAL_SECONDS = 6 * 3600.0
"""Rarer than in any deployment: cheaper, and harder."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """The outcome of a simulation."""

    days: int
    seed: int
    tasks: int
    promised: int
    """Tasks with 24 uninterrupted hours, within their 30 days, in which everything they need worked."""
    lost: tuple[str, ...]
    """Promised tasks that were not in the bucket by their deadline."""
    archived: int
    beyond: int
    """Archived although not promised."""
    missed: int
    """Neither archived nor promised."""
    margin_hours_min: float
    """The least time that an archived task had left."""
    late: tuple[str, ...]
    """Promised tasks that took longer than those 24 hours."""
    hours_max: float
    """The longest time that a promised task took from the start of its 24 hours."""
    api_calls: int
    cdn_calls: int
    store_calls: int
    starts: int
    complaints: tuple[str, ...]
    """Of the store: a changed object, a manifest before its objects."""
    crashes: tuple[str, ...]
    seconds: float


class _Life:
    """A daemon that starts and ends by a scenario."""

    def __init__(self, world: World, scenario: Scenario, folder: pathlib.Path, rand: random.Random) -> None:
        self.world = world
        self.api, self.bucket = Api(world), Bucket(world, rand)
        self.starts = self.cdn_calls = 0
        self.daemon: Daemon | None = None
        self._rand, self._folder = rand, folder
        self._skew_ms = 0
        self._numbers = itertools.count()
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        for outage in scenario.outages:
            if outage.part is Part.DAEMON:
                self._plan(outage.since, self.end)
                self._plan(outage.until, self.begin)
        for restart in scenario.restarts:
            self._plan(restart.at, functools.partial(self._restart, is_kill=restart.is_kill))
        for skew in scenario.skews:
            self._plan(skew.at, functools.partial(self._set_clock, skew.ahead_ms))

    def _plan(self, at: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (at, next(self._numbers), action))

    def run(self, *, until: int) -> None:
        """Run until that moment (Unix ms)."""
        while self._agenda and self._agenda[0][0] <= until:
            at, _, action = heapq.heappop(self._agenda)
            self.world.timeline.run(until=at)
            action()
        self.world.timeline.run(until=until)

    def begin(self) -> None:
        """Start a process, unless one runs or the scenario forbids it."""
        if self.daemon is not None or self.world.trouble(Part.DAEMON):
            return
        self.starts += 1
        self.daemon = Daemon(
            self.world,
            self._folder,
            api=self.api,
            bucket=self.bucket,
            rand=self._rand,
            skew_ms=self._skew_ms,
            sweep_interval_seconds=SWEEP_INTERVAL_SECONDS,
        )

    def end(self, *, is_kill: bool = True) -> None:
        """End the process, if one runs."""
        if self.daemon is None:
            return
        daemon, self.daemon = self.daemon, None
        if is_kill:
            daemon.kill()
        else:
            daemon.stop()
        self.cdn_calls += daemon.cdn.calls

    def _restart(self, *, is_kill: bool) -> None:
        self.end(is_kill=is_kill)
        self.begin()

    def _set_clock(self, ahead_ms: int) -> None:
        self._skew_ms = ahead_ms
        if self.daemon is not None:
            self.daemon.skew_ms = ahead_ms

    def call_back(self, callbacks: list[tuple[int, Upstream, Status]]) -> None:
        """A fiber: Kling calls back once; if no daemon runs, the callback is lost."""
        for at, task, status in sorted(callbacks, key=lambda callback: callback[0]):
            if at > self.world.timeline.now:
                self.world.timeline.sleep((at - self.world.timeline.now) / 1000)
            if self.daemon is not None:
                self.daemon.call_back(task.task_id, status=status, family=task.family)


def simulate(days: int, seed: int, *, per_day: float = 100.0) -> Figures:
    """Simulate `days` days of `per_day` tasks each; deterministic for a seed."""
    rand = random.Random(seed)
    began = time.monotonic()
    scenario = draw(rand, start=START, days=days)
    world = World(Timeline(START), outages=scenario.outages)
    world.storms += scenario.storms
    populate(world, rand, since=START, until=START + days * DAY_MS, per_day=per_day)
    end = START + (days + QUIET_DAYS) * DAY_MS
    with quietly() as crashes, in_memory() as folder:
        life = _Life(world, scenario, folder, rand)
        life.begin()
        callbacks = list(_callbacks(world, rand))
        world.timeline.spawn(lambda: life.call_back(callbacks), name="callbacks")
        life.run(until=end)
        life.end()
    return _figures(life, days=days, seed=seed, crashes=crashes, seconds=time.monotonic() - began)


def _callbacks(world: World, rand: random.Random) -> Iterator[tuple[int, Upstream, Status]]:
    """A fifth is lost; some come twice, late or in the wrong order."""
    for task in world.tasks.values():
        if rand.random() < 0.2:
            continue
        ended = Status.FAILED if task.has_failed else Status.SUCCEEDED
        yield task.finished_at + int(rand.expovariate(1 / 500)), task, ended
        if rand.random() < 0.1:
            yield task.finished_at + int(rand.uniform(0, 600_000)), task, rand.choice((ended, Status.RUNNING))


def _figures(life: _Life, *, days: int, seed: int, crashes: list[str], seconds: float) -> Figures:
    world = life.world
    tasks = list(world.tasks.values())
    end = START + (days + QUIET_DAYS) * DAY_MS
    since = {task.task_id: world.promised_from(task) for task in tasks}
    promised = [task for task in tasks if (since[task.task_id] or end) + PROMISED_MS <= end]
    took = {
        task.task_id: task.archived_at - (since[task.task_id] or 0)
        for task in promised
        if task.archived_at is not None
    }
    archived = [task for task in tasks if task.archived_at is not None]
    due = {task.task_id for task in promised}
    return Figures(
        days=days,
        seed=seed,
        tasks=len(tasks),
        promised=len(promised),
        lost=tuple(task.task_id for task in promised if task.archived_at is None),
        late=tuple(task_id for task_id, ms in took.items() if ms > PROMISED_MS),
        archived=len(archived),
        beyond=sum(task.task_id not in due for task in archived),
        missed=sum(
            task.archived_at is None and task.task_id not in due for task in tasks if not task.has_failed
        ),
        margin_hours_min=min((_margin_ms(task) for task in archived), default=0) / HOUR_MS,
        hours_max=max(took.values(), default=0) / HOUR_MS,
        api_calls=life.api.calls,
        cdn_calls=life.cdn_calls,
        store_calls=life.bucket.calls,
        starts=life.starts,
        complaints=tuple(life.bucket.complaints),
        crashes=tuple(crashes),
        seconds=seconds,
    )


def _margin_ms(task: Upstream) -> int:
    return task.deadline_at - (task.archived_at or 0)


@contextmanager
def in_memory() -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield pathlib.Path(folder)


@contextmanager
def quietly() -> Iterator[list[str]]:
    """Log nothing; collect unexpected exceptions."""
    before = structlog.get_config()
    crashes: list[str] = []

    def gather(_logger: object, _method: str, event: structlog.typing.EventDict) -> str:
        if event.get("exc_info"):
            crashes.append(str(event))
        raise structlog.DropEvent

    structlog.configure(processors=[gather], cache_logger_on_first_use=False)
    try:
        yield crashes
    finally:
        structlog.configure(**before)
