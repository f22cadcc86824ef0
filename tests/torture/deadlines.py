"""Day 30: months of outages on a clock that jumps, and a backlog that keeps no fresh callback waiting."""

import sys

from tests.deadlines.backlog import work_off
from tests.deadlines.simulation import simulate
from tests.torture.figures import Figure, none_of
from tests.torture.options import Options

DAYS = 120
PER_DAY = 5.0
BACKLOG = 50_000
BACKLOG_MINUTES = 5.0
FRESH_MEDIAN_SECONDS = 10


def measure(options: Options) -> list[Figure]:
    """Independent of `options.rounds`. "Promised" are tasks with 24 hours of service within their 30 days."""
    simulated = simulate(DAYS, seed=options.seed, per_day=PER_DAY)
    options.on_progress(1, 2)
    backlog = work_off(BACKLOG, minutes=BACKLOG_MINUTES, seed=options.seed)
    options.on_progress(2, 2)
    wrong = [*simulated.complaints, *simulated.crashes]
    sys.stdout.writelines(f"{sentence}\n" for sentence in wrong)
    return [
        Figure("days lived through", simulated.days, minimum=DAYS),
        Figure("tasks", simulated.tasks),
        Figure("promised", simulated.promised, minimum=1),
        none_of("promised and lost", len(simulated.lost)),
        none_of("promised and later than 24 hours of service", len(simulated.late)),
        Figure("archived without a promise", simulated.beyond),
        Figure("hours left, minimum", round(simulated.margin_hours_min, 2)),
        none_of("complaints and crashes", len(wrong)),
        Figure("backlog", backlog.backlog, minimum=BACKLOG),
        Figure("fresh callbacks beside it", backlog.fresh, minimum=1),
        Figure(
            "seconds to their manifests, median",
            round(backlog.fresh_seconds_median, 2),
            maximum=FRESH_MEDIAN_SECONDS,
        ),
        Figure("seconds to their manifests, 99th percentile", round(backlog.fresh_seconds_99th, 2)),
    ]
