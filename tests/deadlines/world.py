"""The account's tasks, and when which outside part fails. The daemon cannot see this truth.

The promise under test: a task is in the bucket before its deadline if, between the moment its files became available
and that deadline, everything it needs worked for 24 hours without interruption.
"""

import bisect
import dataclasses
import enum
import itertools
import json
import random
from collections.abc import Sequence

from archiver.model import DAY_MS, RETENTION_MS
from tests.deadlines.timeline import Timeline

HOUR_MS = 3_600_000
FAMILIES = ("images/generations", "images/editing/expand")
HOSTS = ("s15-kling.klingai.com", "v1-fdl.kechuangai.com", "h1.inkwai.com")
PROMISED_MS = DAY_MS
FOR_EVER = 1 << 60


class Part(enum.StrEnum):
    """A part that may fail."""

    API = "api"
    CDN = "cdn"
    STORE = "store"
    DAEMON = "daemon"


@dataclasses.dataclass(frozen=True, slots=True)
class Outage:
    """`part` does not work from `since` to `until` (Unix ms); `kind` says how it fails."""

    part: Part
    kind: str
    since: int
    until: int
    host: str | None = None
    """Only this host of the CDN."""


@dataclasses.dataclass(slots=True)
class Upstream:
    """A task as Kling has it."""

    task_id: str
    family: str
    created_at: int
    finished_at: int
    host: str
    has_failed: bool = False
    heals_at: int = 0
    """Until then (Unix ms) the CDN serves a web page instead of the file."""
    times: tuple[str, ...] = ("created_at", "updated_at")
    """Which times the API returns."""
    archived_at: int | None = None
    """When its manifest was put."""
    body: bytes = b""
    trouble: str | None = None
    """What is wrong with its file alone, whatever its host does: `gone`, `forbidden`, `html`, or `dripping` (it takes
    as long as a fetch may, and never ends). `unstorable`: the store refuses its objects."""

    @property
    def deadline_at(self) -> int:
        """When Kling deletes the files, even if the API returns no times."""
        return self.created_at + RETENTION_MS

    @property
    def url(self) -> str:
        return f"https://{self.host}/bs2/{self.task_id}.png?Expires=1&Signature=s"

    def document(self, now: int) -> bytes:
        """The API's object about it."""
        if now < self.finished_at:
            return self._json("processing", updated_at=self.created_at)
        if not self.body:
            self.body = self._json("failed" if self.has_failed else "succeed", updated_at=self.finished_at)
        return self.body

    def _json(self, status: str, *, updated_at: int) -> bytes:
        times = {"created_at": self.created_at, "updated_at": updated_at}
        files = [{"index": 0, "id": self.task_id, "url": self.url}] if status == "succeed" else []
        array = "videos" if self.family.startswith("videos/") else "images"
        shown = {name: time for name, time in times.items() if name in self.times}
        document = {"task_id": self.task_id, "task_status": status, "task_status_msg": ""} | shown
        return json.dumps(document | {"task_info": {}, "task_result": {array: files}}).encode()


class World:
    """The account and the outages, on the timeline's clock."""

    def __init__(self, timeline: Timeline, *, outages: Sequence[Outage] = (), page_rows: int = 100) -> None:
        self.timeline = timeline
        self.page_rows = page_rows
        """The server's own limit of rows a list page."""
        self.outages = list(outages)
        self.storms: list[tuple[int, int]] = []
        """When (Unix ms) the API refuses nearly every call as too fast (1302). No outage: it answers now and then."""
        self.tasks: dict[str, Upstream] = {}
        self._by_family: dict[str, list[Upstream]] = {}
        self._numbers = itertools.count(828_338_674_605_228_111)

    # --- tasks --------------------------------------------------------------------------------------------------

    def create(
        self,
        created_at: int,
        *,
        seconds: float = 24,
        family: str = FAMILIES[0],
        host: str = HOSTS[0],
        has_failed: bool = False,
        heals_at: int = 0,
        times: tuple[str, ...] = ("created_at", "updated_at"),
        trouble: str | None = None,
    ) -> Upstream:
        """A task that begins at `created_at` (Unix ms) and takes `seconds`. Call in the order of `created_at`."""
        finished_at = created_at + int(seconds * 1000)
        task = Upstream(
            str(next(self._numbers)), family, created_at, finished_at, host, has_failed, heals_at, times
        )
        task.trouble = trouble
        self.tasks[task.task_id] = task
        self._by_family.setdefault(family, []).append(task)
        return task

    def listed(self, family: str, *, page: int, rows: int) -> list[Upstream]:
        """One page of a family's list, newest first."""
        tasks = self._by_family.get(family, [])
        known = bisect.bisect_right(tasks, self.timeline.now, key=lambda task: task.created_at)
        last = known - (page - 1) * rows
        return tasks[max(0, last - rows) : last][::-1] if last > 0 else []

    def found(self, family: str, task_id: str) -> Upstream | None:
        """The task with this id, if the family is right and the task has begun."""
        task = self.tasks.get(task_id)
        if task is None or task.family != family or task.created_at > self.timeline.now:
            return None
        return task

    # --- outages ------------------------------------------------------------------------------------------------

    def trouble(self, part: Part, *, host: str | None = None) -> str | None:
        """How `part` fails now; None if it works."""
        now = self.timeline.now
        for outage in self.outages:
            if outage.part is part and outage.since <= now < outage.until and outage.host in (None, host):
                return outage.kind
        return None

    def is_storming(self) -> bool:
        return any(since <= self.timeline.now < until for since, until in self.storms)

    def promised_from(self, task: Upstream) -> int | None:
        """When the first 24 hours began in which everything that `task` needs worked. None if there are none, or there
        is nothing to archive."""
        if task.has_failed or task.heals_at >= FOR_EVER:
            return None
        free_from = max(task.finished_at, task.heals_at)
        blocking = sorted(
            (outage.since, outage.until) for outage in self.outages if outage.host in (None, task.host)
        )
        for since, until in blocking:
            if since - free_from >= PROMISED_MS:
                break
            free_from = max(free_from, until)
        return free_from if task.deadline_at - free_from >= PROMISED_MS else None


def spread(rand: random.Random, *, since: int, until: int, per_day: float) -> list[int]:
    """Random moments at which tasks begin, in order."""
    moments, moment = [], float(since)
    while (moment := moment + rand.expovariate(per_day) * DAY_MS) < until:
        moments.append(int(moment))
    return moments
