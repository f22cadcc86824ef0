"""A hundred thousand forged ids with a valid token: what they cost, and how long genuine callbacks wait."""

import sys
from collections.abc import Callable

from tests.deadlines.simulation import quietly
from tests.postgres import running_postgres
from tests.torture.figures import Figure, none_of
from tests.torture.flood import DELAY_SECONDS_MAX, flood
from tests.torture.options import Options

FORGED = 100_000
BUSY_FORGED = 20_000
BUSY_TASKS = 3_000


def measure(options: Options) -> list[Figure]:
    """A flood on a quiet account, and a smaller one on a busy account. Independent of `options.rounds`."""
    return _measure(options, lambda: None)


def measure_on_postgresql(options: Options) -> list[Figure]:
    """The same, each on a new database."""
    with running_postgres() as server:
        return _measure(options, lambda: server.url(server.create_database()))


def _measure(options: Options, new_ledger: Callable[[], str | None]) -> list[Figure]:
    with quietly() as crashes:
        quiet = flood(FORGED, seed=options.seed, ledger_url=new_ledger())
        options.on_progress(1, 2)
        busy = flood(
            BUSY_FORGED,
            seed=options.seed,
            tasks_in_the_last_hour=BUSY_TASKS,
            ledger_url=new_ledger(),
        )
        options.on_progress(2, 2)
    broken = [*quiet.broken(), *busy.broken(), *crashes]
    sys.stdout.writelines(f"{sentence}\n" for sentence in broken)
    return [
        Figure("forged ids", quiet.forged + busy.forged, minimum=FORGED + BUSY_FORGED),
        Figure("genuine callbacks among them", quiet.genuine + busy.genuine, minimum=1),
        none_of("never verified", quiet.unanswered + busy.unanswered),
        Figure(
            "API calls, part of those allowed",
            max(_share(figures.calls, figures.calls_allowed) for figures in (quiet, busy)),
            maximum=1,
        ),
        Figure(
            "seconds that the slowest genuine callback waited",
            max(quiet.delay_max_seconds, busy.delay_max_seconds),
            maximum=DELAY_SECONDS_MAX,
        ),
        none_of("promises broken", len(broken)),
    ]


def _share(part: float, whole: float) -> float:
    return round(part / whole, 2)
