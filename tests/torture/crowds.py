"""What tasks that cannot be archived cost the healthy ones beside them, in the timeline's time.

Independent of rounds and seed: the figures are the same at each run.
"""

from tests.deadlines.crowds import (
    SLOTS_OF_FIRST_TRIES,
    Order,
    Waits,
    banned,
    hold_storm,
    hopeless_crowd,
    lost_videos,
)
from tests.torture.figures import Figure, none_of
from tests.torture.options import Options

HOPELESS, HEALTHY = 2000, 200
HOLD_SETTERS, BESIDE_THEM = 200, 601
LOST, NEAR = 100, 200
BANNED = 2000
SLACK_SECONDS = 10
"""Later than alone by so much is as soon as if alone."""
MEDIAN_SECONDS = 10


def measure_hopeless(options: Options) -> list[Figure]:
    """Healthy tasks on the host of ten times as many whose files are gone, forbidden or web pages."""
    alone = hopeless_crowd(0, HEALTHY, Order.ALONE)
    figures = [
        Figure("hopeless tasks", HOPELESS),
        Figure("healthy tasks on their host", HEALTHY),
        *_figures(alone, "alone"),
    ]
    orders = [order for order in Order if order is not Order.ALONE]
    for done, order in enumerate(orders, start=1):
        waits = hopeless_crowd(HOPELESS, HEALTHY, order)
        # Where both come together, the healthy ones take their turn among the first tries.
        turns = 0 if order is Order.HOPELESS_FIRST else HOPELESS / SLOTS_OF_FIRST_TRIES
        figures += _figures(waits, order, longest_max=alone.longest + turns + SLACK_SECONDS)
        options.on_progress(done, len(orders))
    return figures


def measure_ban(options: Options) -> list[Figure]:
    """A host refuses everything for a day, or sends web pages for an hour; then it serves again."""
    figures = [Figure("tasks that wait", BANNED)]
    for done, (kind, hours) in enumerate((("forbidden", 24.0), ("html", 1.0)), start=1):
        found = banned(BANNED, kind=kind, hours=hours, hours_after=1)
        figures += [
            none_of(f"{kind}: not archived within the hour after", BANNED - found.archived),
            Figure(f"{kind}: seconds from its end to the last manifest", round(found.longest)),
            # list pages of the sweeps, a question for each task, and fresh URLs within a quarter of the query rate
            Figure(f"{kind}: calls of the API", found.api_calls),
        ]
        options.on_progress(done, 2)
    return figures


def measure_storm(_options: Options) -> list[Figure]:
    """Healthy tasks beside others of which each sets a hold of the whole account."""
    waits = hold_storm(HOLD_SETTERS, BESIDE_THEM)
    return [
        Figure("tasks that set a hold", HOLD_SETTERS),
        Figure("healthy tasks", waits.tasks),
        *_figures(waits, "beside them", median_max=MEDIAN_SECONDS),
    ]


def measure_lost(_options: Options) -> list[Figure]:
    """Fresh tasks, and others in their last two hours, beside lost videos that take half an hour a try."""
    figures = lost_videos(LOST, NEAR)
    return [
        Figure("lost videos", LOST),
        Figure("tasks with two hours left", NEAR),
        Figure("of these in the bucket in time", figures.near_in_time, minimum=NEAR),
        Figure("fresh tasks", figures.fresh.tasks),
        *_figures(figures.fresh, "fresh", median_max=MEDIAN_SECONDS),
    ]


def _figures(
    waits: Waits, name: str, *, median_max: float | None = None, longest_max: float | None = None
) -> list[Figure]:
    return [
        none_of(f"{name}: not archived", waits.tasks - waits.archived),
        Figure(f"{name}: seconds to the manifest, median", round(waits.median, 2), maximum=median_max),
        Figure(f"{name}: seconds to the manifest, longest", round(waits.longest, 2), maximum=longest_max),
    ]
