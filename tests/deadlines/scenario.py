"""What happens to a simulated daemon: traffic, outages of every part, restarts, storms, wrong clocks; by seed."""

import dataclasses
import random
from collections.abc import Iterator

from archiver.model import DAY_MS
from tests.deadlines.world import FAMILIES, FOR_EVER, HOSTS, HOUR_MS, Outage, Part, World, spread

LONG_DAYS = 28
QUIET_DAYS = 2
"""After the last task nothing fails any more, so every promise can be kept."""
KINDS = {
    Part.API: ("unreachable", "silent", "server_error", "maintenance", "key_refused", "arrears", "gateway"),
    Part.CDN: ("unreachable", "silent", "server_error", "forbidden", "html"),
    Part.STORE: ("unreachable", "slow_down", "missing", "forbidden"),
    Part.DAEMON: ("down",),
}
LONG = (
    (LONG_DAYS, Outage(Part.DAEMON, "down", 0, 0)),
    (4, Outage(Part.CDN, "server_error", 0, 0, host=HOSTS[1])),
    (4, Outage(Part.API, "maintenance", 0, 0)),
    (4, Outage(Part.STORE, "forbidden", 0, 0)),
)
"""Days, and what fails; one after the other, as many as fit. A hold is probed every 30 s in the simulation too: 4 weeks
of that would be most of its work, and show no more than 4 days do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Restart:
    """The daemon ends at `at` (Unix ms), by SIGKILL or SIGTERM, and starts again at once."""

    at: int
    is_kill: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Skew:
    """From `at` on (Unix ms) the daemon's wall clock is `ahead_ms` ahead."""

    at: int
    ahead_ms: int


@dataclasses.dataclass(frozen=True, slots=True)
class Scenario:
    """Decided before the simulation starts. Times are Unix ms."""

    outages: tuple[Outage, ...]
    restarts: tuple[Restart, ...]
    skews: tuple[Skew, ...]
    storms: tuple[tuple[int, int], ...]


def draw(rand: random.Random, *, start: int, days: int) -> Scenario:
    """A scenario of `days` days. The first long outage begins on day 5."""
    long = list(_long(start=start, days=days))
    short = list(_short(rand, start=start, days=days))
    return Scenario(
        outages=(*long, *short),
        restarts=tuple(_restarts(rand, long, start=start, days=days)),
        skews=tuple(_skews(rand, long, start=start, days=days)),
        storms=tuple((at, at + 6 * HOUR_MS) for at in (*_moments(rand, start, days, 0.1), *_ends(long))),
    )


def _long(*, start: int, days: int) -> Iterator[Outage]:
    since = start + 5 * DAY_MS
    for long_days, outage in LONG:
        until = since + long_days * DAY_MS
        if until > start + days * DAY_MS:
            return
        yield dataclasses.replace(outage, since=since, until=until)
        # Tasks of the two days before are not archived yet, and have only hours left when the longest outage ends.
        yield Outage(Part.DAEMON, "down", since - 2 * DAY_MS, since - 6 * HOUR_MS)
        yield Outage(Part.STORE, "unreachable", since - 6 * HOUR_MS, since)
        since = until + 15 * DAY_MS


def _short(rand: random.Random, *, start: int, days: int) -> Iterator[Outage]:
    """Outages of hours about every second day, of days every second week."""
    for per_day, hours_min, hours_max in ((0.5, 0.2, 8), (1 / 14, 20, 60)):
        for since in _moments(rand, start, days, per_day):
            part = rand.choice(list(Part))
            host = rand.choice((None, *HOSTS)) if part is Part.CDN else None
            until = since + int(rand.uniform(hours_min, hours_max) * HOUR_MS)
            until = min(until, start + days * DAY_MS)
            yield Outage(part, rand.choice(KINDS[part]), since, until, host)


def _restarts(rand: random.Random, long: list[Outage], *, start: int, days: int) -> Iterator[Restart]:
    """Every other day, and six times while the backlog of a long outage is worked off."""
    for at in _moments(rand, start, days, 0.5):
        yield Restart(at, is_kill=rand.random() < 0.7)
    for end in _ends(long):
        for _ in range(6):
            yield Restart(end + int(rand.uniform(5, 600) * 1000), is_kill=rand.random() < 0.7)


def _skews(rand: random.Random, long: list[Outage], *, start: int, days: int) -> Iterator[Skew]:
    """Sometimes for an hour; and 40 days ahead when the daemon comes back after a long outage."""
    for at in _moments(rand, start, days, 0.05):
        yield from (Skew(at, int(rand.uniform(-12, 12) * HOUR_MS)), Skew(at + HOUR_MS, 0))
    for outage in long:
        if outage.part is Part.DAEMON:
            yield from (Skew(outage.until - 1, 40 * DAY_MS), Skew(outage.until + 2 * HOUR_MS, 0))


def _ends(long: list[Outage]) -> list[int]:
    return [outage.until for outage in long if outage.until - outage.since >= 4 * DAY_MS]


def _moments(rand: random.Random, start: int, days: int, per_day: float) -> list[int]:
    return spread(rand, since=start, until=start + days * DAY_MS, per_day=per_day)


def populate(world: World, rand: random.Random, *, since: int, until: int, per_day: float) -> None:
    """Tasks of two families and three hosts: slow, failed, never readable, readable only later, without times."""
    for created_at in spread(rand, since=since, until=until, per_day=per_day):
        world.create(
            created_at,
            seconds=rand.expovariate(1 / 60) + 5 if rand.random() < 0.98 else rand.uniform(1, 5) * 3600,
            family=rand.choices(FAMILIES, (3, 1))[0],
            host=rand.choice(HOSTS),
            has_failed=rand.random() < 0.03,
            heals_at=_heals_at(rand, created_at),
            times=rand.choices(
                (("created_at", "updated_at"), ("updated_at",), ("created_at",), ()), (94, 2, 2, 2)
            )[0],
        )


def _heals_at(rand: random.Random, created_at: int) -> int:
    drawn = rand.random()
    if drawn < 0.01:
        return FOR_EVER
    return created_at + int(rand.uniform(0, 28) * DAY_MS) if drawn < 0.04 else 0
