"""Day 30, on a clock that jumps: months of outages lose nothing, and a backlog delays no fresh callback.

The long versions, `simulate(120, …)` and `work_off(50_000, …)`, take minutes; these are the same at a smaller size.
"""

import pytest

from tests.deadlines.backlog import work_off
from tests.deadlines.claims import measure_claims
from tests.deadlines.simulation import START, simulate
from tests.deadlines.timeline import Died, Signal, Timeline
from tests.deadlines.world import HOSTS, HOUR_MS, Outage, Part, Upstream, World

ALWAYS = (START, START + 24 * HOUR_MS)


def test_forty_days_with_four_weeks_of_outage_lose_no_task_that_had_24_hours_of_service() -> None:
    figures = simulate(40, seed=1, per_day=4)

    assert (figures.lost, figures.late) == ((), ())
    assert (figures.complaints, figures.crashes) == ((), ())
    assert figures.promised > 100
    assert figures.beyond > 5  # tasks with less than 24 hours are still tried


def test_fresh_callbacks_do_not_wait_for_a_backlog() -> None:
    figures = work_off(2500, minutes=2)

    assert figures.fresh_archived == figures.fresh
    assert figures.fresh_seconds_median <= 10
    assert figures.fresh_seconds_99th <= 30
    assert 1400 < figures.worked_off < 2500


def test_tasks_in_the_last_hours_of_their_30_days_go_first() -> None:
    figures = work_off(1500, minutes=1.2, days_min=29, days_max=29.998)

    assert figures.worked_off < 1400
    assert figures.nearest_first > 0.98  # all but those with a minute or two left
    assert figures.fresh_seconds_median <= 10


@pytest.mark.parametrize("kind", ["silent", "html"])
def test_a_failing_host_does_not_delay_tasks_of_other_hosts(kind: str) -> None:
    failing = Outage(Part.CDN, kind, *ALWAYS, host=HOSTS[1])
    figures = work_off(450, minutes=2, outages=[failing], fresh_hosts=[HOSTS[0], HOSTS[2]])

    assert figures.fresh_archived == figures.fresh
    assert figures.fresh_seconds_median <= 10
    assert figures.worked_off >= 280  # two thirds are not of that host


def test_claims_beside_many_tasks_are_measured() -> None:
    figures = measure_claims(300)

    assert figures.rows == 300
    assert min(figures.single_ms, figures.sixteen_ms, figures.none_due_ms, figures.held_ms) > 0


# --- the promise, as the simulation understands it ------------------------------------------------------------------


def promised(world: World, task: Upstream) -> float | None:
    """Hours from the task's creation to the start of its 24 hours."""
    since = world.promised_from(task)
    return None if since is None else round((since - task.created_at) / HOUR_MS, 2)


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        ([], 0),
        ([(0, 696)], 696),
        ([(0, 697)], None),
        ([(23, 47), (70, 720)], None),
        ([(23, 47), (71, 720)], 47),
        ([(0, 10), (5, 300), (8, 9)], 300),
    ],
)
def test_a_task_is_promised_after_24_uninterrupted_hours_and_no_less(
    hours: list[tuple[int, int]], expected: float | None
) -> None:
    outages = [
        Outage(Part.API, "silent", START + since * HOUR_MS, START + until * HOUR_MS) for since, until in hours
    ]
    world = World(Timeline(START), outages=outages)

    assert promised(world, world.create(START, seconds=0)) == expected


def test_only_what_a_task_needs_counts_against_its_24_hours() -> None:
    world = World(
        Timeline(START), outages=[Outage(Part.CDN, "silent", START, START + 720 * HOUR_MS, HOSTS[1])]
    )

    assert promised(world, world.create(START, seconds=0, host=HOSTS[0])) == 0
    assert promised(world, world.create(START, seconds=0, host=HOSTS[1])) is None
    assert promised(world, world.create(START, seconds=0, host=HOSTS[0], has_failed=True)) is None


# --- the clock that jumps -------------------------------------------------------------------------------------------


def test_the_clock_jumps_to_the_next_moment_that_a_fiber_waits_for() -> None:
    timeline, seen = Timeline(START), list[tuple[str, int]]()

    def sleeper(name: str, seconds: float) -> None:
        for _ in range(2):
            timeline.sleep(seconds)
            seen.append((name, timeline.now - START))

    timeline.spawn(lambda: sleeper("a", 5), name="a")
    timeline.spawn(lambda: sleeper("b", 3), name="b")
    timeline.run(until=START + 9_000)

    assert seen == [("b", 3_000), ("a", 5_000), ("b", 6_000)]
    assert timeline.now == START + 9_000


def test_a_signal_ends_a_wait_before_its_time() -> None:
    timeline, heard = Timeline(START), list[tuple[bool, int]]()
    signal = Signal(timeline)
    timeline.spawn(lambda: heard.append((signal.wait(60), timeline.now - START)), name="waiter")

    def set_it() -> None:
        timeline.sleep(7)
        signal.set()

    timeline.spawn(set_it, name="setter")
    timeline.run(until=START + 100_000)

    assert heard == [(True, 7_000)]


def test_a_killed_fiber_never_runs_again() -> None:
    timeline, ended = Timeline(START), list[str]()

    def work() -> None:
        try:
            timeline.sleep(5)
        except Died:
            ended.append("died")
            raise
        ended.append("lived")

    fiber = timeline.spawn(work, name="victim")
    timeline.run(until=START + 1)
    timeline.kill(fiber)
    timeline.run(until=START + 60_000)

    assert ended == ["died"]


def test_an_error_in_a_fiber_ends_the_run() -> None:
    timeline = Timeline(START)
    timeline.spawn(lambda: 1 / 0, name="broken")

    with pytest.raises(ZeroDivisionError):
        timeline.run(until=START + 1)
