"""`/console`: the contents of `status` at a glance, and two charts."""

import collections
import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from archiver.ledger import HourView, StatusView
from archiver.ledger.status.trends import DEADLINES_MAX, HOUR_MS, HOURS
from archiver.model import DAY_MS, RETENTION_MS, State
from archiver.problems import DEADLINE_MS_MIN, look, verdict
from receiver.console.frame import Frame, Visit
from receiver.console.pages.charts import Bar, Chart, chart_of
from receiver.console.parts import ConsoleParts

_DAYS = RETENTION_MS // DAY_MS
_SOON_DAYS = 14
SEEN_AT = {
    "lost": ("tasks?state=lost", "Lost tasks"),
    "buried": ("tasks?state=buried", "Buried tasks"),
    "waiting": ("tasks?state=succeeded", "Succeeded tasks"),
    "forwards_dead": ("forwards", "Dead forwards"),
    "account_unasked": ("accounts", "Accounts"),
}
"""Problem → the page that shows more about it, and the link's text."""
_LABELLED_HOURS = 3
"""Every third hour has its name below the axis."""
_LABELLED_DAYS = 5
_NOT_COUNTED = (State.LOST, State.REPORTED, State.UNKNOWN)


class Overview:
    def __init__(self, parts: ConsoleParts) -> None:
        self._parts = parts

    def routes(self, frame: Frame) -> list[Route]:
        return [frame.page("/console", self.show)]

    def show(self, visit: Visit) -> Response:
        view, problems = look(self._parts.ledger, self._parts.expected)
        wrong: dict[str, Any] = {"verdict": verdict(problems, view), "problems": problems, "seen_at": SEEN_AT}
        if view is None:
            return visit.render("overview_blind.html", status=503, **wrong)
        charts = self._parts.ledger.trends.charts()
        return visit.render(
            "overview.html",
            view=view,
            **wrong,
            states=[(state, view.states[state]) for state in State],
            throughput=throughput_of(charts.hours),
            deadlines=deadlines_of(charts.deadlines, view.states, now=view.now),
            sweeps=sweeps_of(view, self._parts),
            several=self._parts.several,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Throughput:
    """The tasks archived in the last day."""

    chart: Chart
    archived: int
    hours: int
    """Hours that have counts."""


def throughput_of(hours: Sequence[HourView]) -> Throughput:
    """A bar for each of the last 24 hours, also for those before anything was counted."""
    archived = {hour.hour_at: hour.archived for hour in hours}
    last = max(archived, default=0)
    bars = [_hour(at, archived.get(at)) for at in range(last - (HOURS - 1) * HOUR_MS, last + 1, HOUR_MS)]
    return Throughput(chart_of(bars), sum(archived.values()), len(archived))


def _hour(at: int, archived: int | None) -> Bar:
    moment = datetime.datetime.fromtimestamp(at / 1000, tz=datetime.UTC)
    label = f"{moment:%H}" if moment.hour % _LABELLED_HOURS == 0 else ""
    return Bar(f"{moment:%d %b, %H}:00", archived, label)


@dataclasses.dataclass(frozen=True, slots=True)
class NearestDeadlines:
    """The deadlines of confirmed tasks that wait for the bucket: running, succeeded and buried ones."""

    chart: Chart
    count: int
    is_more: bool
    """There are later deadlines that the chart does not show."""
    not_counted: Sequence[tuple[State, int]]
    """Tasks that are not in the bucket either, or whose results are unknown."""


def deadlines_of(deadlines: Sequence[int], states: Mapping[State, int], *, now: int) -> NearestDeadlines:
    """A bar for each day from now; the first also has deadlines that have passed."""
    days = collections.Counter(min(max(0, (at - now) // DAY_MS), _DAYS - 1) for at in deadlines)
    bars = [
        Bar(_days(day), days[day], str(day) if day % _LABELLED_DAYS == 0 else "", _kind(day))
        for day in range(_DAYS)
    ]
    not_counted = [(state, states[state]) for state in _NOT_COUNTED if states[state]]
    return NearestDeadlines(chart_of(bars), len(deadlines), len(deadlines) >= DEADLINES_MAX, not_counted)


def _days(day: int) -> str:
    return "within a day, or over" if day == 0 else f"in {day} to {day + 1} days"


def _kind(day: int) -> str:
    """The style of a bar: as urgent as the problem `deadline`, or somewhat urgent."""
    if day < DEADLINE_MS_MIN // DAY_MS:
        return "near"
    return "soon" if day < _SOON_DAYS else ""


@dataclasses.dataclass(frozen=True, slots=True)
class SweptFamily:
    """A row of the table of sweeps."""

    account: str
    family: str
    last_success_at: int | None
    missed_callbacks: int
    is_unavailable: bool
    """The API does not offer its list."""


def sweeps_of(view: StatusView, parts: ConsoleParts) -> list[SweptFamily]:
    """The configured families, then others that the ledger knows."""
    known = {(sweep.account, sweep.family): sweep for sweep in view.sweeps}
    named = [
        (account, family) for account, families in parts.expected.families.items() for family in families
    ]
    named += [key for key in known if key not in set(named)]
    rows = []
    for key in named:
        sweep = known.get(key)
        rows.append(
            SweptFamily(
                *key,
                last_success_at=sweep.last_success_at if sweep else None,
                missed_callbacks=sweep.missed_callbacks if sweep else 0,
                is_unavailable=key in view.unavailable,
            )
        )
    return rows
