"""What happens to a task after a failure, and when it is due again. Pure."""

import dataclasses

from archiver.failures.failure import Disposition, Failure
from archiver.model import DAY_MS

HOLD_PROBE_SECONDS = 30
RETRY_FIRST_SECONDS = 2.0
RETRY_SECONDS_MAX = 15 * 60.0
RUNNING_FIRST_SECONDS = 10.0
RUNNING_SECONDS_MAX = 5 * 60.0
FRESH_MS_MAX = 60 * 60 * 1000
"""How long the archive stage waits for fresh URLs before it tries the old ones again."""
BURIED_MS_MIN = 15 * 60 * 1000
LOST_HOURLY_MS = 3 * DAY_MS
LOST_DAILY_MS = 7 * DAY_MS


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    due_at: int


@dataclasses.dataclass(frozen=True, slots=True)
class Hold:
    """A part of the work stops. The task that caused it gets its attempt back, and is due with the next probe."""

    family: str | None
    host: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Bury:
    due_at: int


def backoff_ms(attempt: int, *, rand: float, first_seconds: float, seconds_max: float) -> int:
    """Exponential back-off. Half of it is jitter (`rand` in [0, 1)), also at the cap. `attempt` counts from 1."""
    doubled = first_seconds * 2.0 ** min(max(attempt - 1, 0), 30)
    capped = min(doubled, seconds_max)
    return int(capped * (0.5 + rand / 2) * 1000)


def retry_due(attempt: int, *, now: int, rand: float) -> int:
    """2 s doubling to 15 min."""
    return now + backoff_ms(
        attempt, rand=rand, first_seconds=RETRY_FIRST_SECONDS, seconds_max=RETRY_SECONDS_MAX
    )


def running_due(queries: int, *, now: int, rand: float) -> int:
    """10 s doubling to 5 min."""
    return now + backoff_ms(
        queries, rand=rand, first_seconds=RUNNING_FIRST_SECONDS, seconds_max=RUNNING_SECONDS_MAX
    )


def buried_due(*, now: int, deadline: int) -> int:
    """After a quarter of the time left, at most a day, at least 15 minutes."""
    return now + max(BURIED_MS_MIN, min(DAY_MS, (deadline - now) // 4))


def lost_due(*, now: int, deadline: int) -> int | None:
    """Hourly for 3 days past the deadline, daily to day 37, then never (None)."""
    late = now - deadline
    if late >= LOST_DAILY_MS:
        return None
    return now + (DAY_MS // 24 if late < LOST_HOURLY_MS else DAY_MS)


def decide(error: Exception, *, attempt: int, now: int, deadline: int, rand: float) -> Retry | Hold | Bury:
    """What happens to a task whose `attempt` (from 1) ended in `error`. Times are Unix ms."""
    disposition = error.disposition if isinstance(error, Failure) else Disposition.RETRY
    if disposition is Disposition.HOLD and isinstance(error, Failure):
        return Hold(family=error.family, host=error.host)
    if disposition is Disposition.BURY:
        return Bury(due_at=buried_due(now=now, deadline=deadline))
    return Retry(due_at=retry_due(attempt, now=now, rand=rand))
