"""What eight processes do to each other on one ledger, each with connections of its own, as far as threads can play
them. What they do is begun at the same moment."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
import sqlalchemy as sa

from archiver.failures import BucketMissing, LeaseLost, TaskForgotten
from archiver.ledger import Ledger, deadlines, part
from archiver.ledger.claims import LEASE_SECONDS, TAKEOVER_SECONDS
from archiver.ledger.tables import schema
from archiver.model import Callback, DiscoveredBy, Stage, State, Status
from tests.harness.ledgers import (
    ACCOUNT,
    DAY,
    FAMILY,
    MINUTE,
    RAND,
    SECOND,
    START,
    Desk,
    answer,
    asset,
    claim_archive,
    stored,
)

PROCESSES = 8
_Result = TypeVar("_Result")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of tries is what counts here, however slow the machine is."""
    monkeypatch.setattr(part, "TRIES_SECONDS_MAX", 60.0)


@pytest.fixture
def ledgers(desk: Desk) -> Iterator[list[Ledger]]:
    """One of each process."""
    with contextlib.ExitStack() as opened:
        yield [
            opened.enter_context(
                contextlib.closing(
                    Ledger.open(desk.by_hand.url, daemon=False, now=desk.clock, busy_seconds=20)
                )
            )
            for _ in range(PROCESSES)
        ]


def at_once(ledgers: list[Ledger], work: Callable[[Ledger, int], _Result]) -> list[_Result]:
    """What `work` returned in each process, given its number. The first error of any is raised."""
    results: list[_Result] = []
    errors: list[BaseException] = []
    together = threading.Barrier(len(ledgers))

    def go(ledger: Ledger, number: int) -> None:
        together.wait()
        try:
            results.append(work(ledger, number))
        except BaseException as error:  # noqa: BLE001 -- raised below
            errors.append(error)

    threads = [threading.Thread(target=go, args=(ledger, number)) for number, ledger in enumerate(ledgers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def record(ledger: Ledger, numbers: range, status: Status) -> None:
    tasks = [answer(f"t{number}", status, message="x") for number in numbers]
    ledger.records.record(tasks, account=ACCOUNT, discovered_by=DiscoveredBy.SWEEP, rand=RAND)


# --- claims -----------------------------------------------------------------------------------------------------


def test_no_row_is_leased_twice_and_none_is_forgotten(desk: Desk, ledgers: list[Ledger]) -> None:
    record(desk.ledger, range(44), Status.SUCCEEDED)

    claimed = at_once(ledgers, lambda ledger, _: claim_archive(ledger, count=10, account=ACCOUNT))

    rows = [lease.row_id for leases in claimed for lease in leases]
    rows += [lease.row_id for lease in claim_archive(desk.ledger, count=44, account=ACCOUNT)]
    assert Counter(rows) == Counter({row["id"]: 1 for row in desk.rows("SELECT id FROM tasks")})


@pytest.mark.parametrize("way", ["verify", "batch"])
def test_no_id_is_asked_about_twice(desk: Desk, ledgers: list[Ledger], way: str) -> None:
    family = FAMILY if way == "verify" else None
    desk.ledger.callbacks.record([Callback(ACCOUNT, f"t{number}", None, family) for number in range(44)])

    claimed = at_once(
        ledgers, lambda ledger, _: getattr(ledger.claims, way)(count=10, offset=0, account=ACCOUNT)
    )

    rows = [lease.row_id for leases in claimed for lease in leases]
    assert len(rows) == len(set(rows)) >= 10


def test_one_process_probes_a_hold(desk: Desk, ledgers: list[Ledger]) -> None:
    record(desk.ledger, range(20), Status.SUCCEEDED)
    desk.ledger.holds.set(BucketMissing("x"), account=ACCOUNT, stage=Stage.ARCHIVE)
    desk.clock.advance(2 * SECOND)

    claimed = at_once(ledgers, lambda ledger, _: claim_archive(ledger, count=10, account=ACCOUNT))

    assert sum(len(leases) for leases in claimed) == 1
    assert desk.rows("SELECT probes FROM holds") == [{"probes": 1}]


def test_one_process_amends_a_task(desk: Desk, ledgers: list[Ledger]) -> None:
    desk.bring(State.ARCHIVED)
    desk.say(answer(assets=(asset(), asset("1"))))

    leases = at_once(ledgers, lambda ledger, _: ledger.folder_work.claim(account=ACCOUNT))

    assert sum(lease is not None for lease in leases) == 1


def test_what_a_dead_process_held_is_taken_over_once(desk: Desk, ledgers: list[Ledger]) -> None:
    record(desk.ledger, range(5), Status.SUCCEEDED)
    assert len(claim_archive(ledgers[0], count=5, account=ACCOUNT)) == 5
    desk.clock.advance((LEASE_SECONDS + TAKEOVER_SECONDS) * SECOND)

    claimed = at_once(ledgers[1:], lambda ledger, _: claim_archive(ledger, count=5, account=ACCOUNT))

    claimed.append(claim_archive(desk.ledger, count=5, account=ACCOUNT))
    assert sorted(lease.attempt for leases in claimed for lease in leases) == [2] * 5


@pytest.mark.parametrize("is_known", [False, True])
def test_one_process_sweeps_a_family(desk: Desk, ledgers: list[Ledger], is_known: bool) -> None:
    if is_known:
        token = desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)
        assert token is not None
        desk.ledger.sweeps.end(token, succeeded_at=1, full=True, oldest_first=False, last_page=None)

    tokens = at_once(ledgers, lambda ledger, _: ledger.sweeps.begin(account=ACCOUNT, family=FAMILY))

    assert sum(token is not None for token in tokens) == 1


# --- the API's word ---------------------------------------------------------------------------------------------


def test_a_page_that_all_record_at_once_and_in_any_order_is_recorded_once(
    desk: Desk, ledgers: list[Ledger]
) -> None:
    up, down = range(60), range(59, -1, -1)

    at_once(ledgers, lambda ledger, number: record(ledger, (up, down)[number % 2], Status.SUCCEEDED))

    assert desk.rows("SELECT count(*) AS n FROM tasks") == [{"n": 60}]
    assert desk.rows("SELECT count(*) AS n FROM assets") == [{"n": 60}]
    assert desk.rows("SELECT count(*) AS n FROM history") == [{"n": 60}]


def test_no_stale_answer_is_written_over_a_success(desk: Desk, ledgers: list[Ledger]) -> None:
    up, down = range(60), range(59, -1, -1)
    record(desk.ledger, up, Status.RUNNING)

    def say(ledger: Ledger, number: int) -> None:
        statuses = (Status.FAILED, Status.SUCCEEDED, Status.RUNNING, Status.SUCCEEDED)
        record(ledger, (up, down)[number % 2], statuses[number % 4])

    at_once(ledgers, say)

    assert {row["state"] for row in desk.rows("SELECT state FROM tasks")} == {State.SUCCEEDED}


def test_an_asset_that_several_answers_name_first_is_one(desk: Desk, ledgers: list[Ledger]) -> None:
    desk.bring(State.SUCCEEDED)
    richer = answer(assets=(asset(), asset("1")))

    at_once(
        ledgers,
        lambda ledger, _: ledger.records.record(
            [richer], account=ACCOUNT, discovered_by=DiscoveredBy.SWEEP, rand=RAND
        ),
    )

    assert [row["stem"] for row in desk.rows("SELECT stem FROM assets ORDER BY id")] == ["0", "1"]


def test_a_task_is_archived_while_answers_about_it_come_and_nothing_is_lost(
    desk: Desk, ledgers: list[Ledger]
) -> None:
    """What comes before the manifest or after it is amended: both orders are right, and none deadlocks."""
    record(desk.ledger, range(4), Status.SUCCEEDED)
    leases = claim_archive(desk.ledger, count=4, account=ACCOUNT)
    richer = [answer(f"t{number}", assets=(asset(), asset("1"))) for number in range(4)]

    def work(ledger: Ledger, number: int) -> None:
        if number < len(leases):
            ledger.outcomes.archived(leases[number], manifest_key="m", archived_at=START, stored=[stored()])
        else:
            ledger.records.record(richer, account=ACCOUNT, discovered_by=DiscoveredBy.SWEEP, rand=RAND)

    at_once(ledgers, work)

    assert {row["state"] for row in desk.rows("SELECT state FROM tasks")} == {State.ARCHIVED}
    assert len(desk.rows("SELECT id FROM folder_work WHERE kind = 'amend'")) == 4


def test_tasks_that_are_forgotten_while_everybody_is_at_them_do_not_come_back(
    desk: Desk, ledgers: list[Ledger]
) -> None:
    """Two processes on PostgreSQL may insert a row anew within the same moment; its first answer ends it."""
    record(desk.ledger, range(6), Status.SUCCEEDED)
    leases = claim_archive(desk.ledger, count=6, account=ACCOUNT)
    ids = [f"t{number}" for number in range(6)]

    def forget(ledger: Ledger) -> None:
        for task_id in ids:
            ledger.tombstones.forget(task_id, account=ACCOUNT)

    def archive(ledger: Ledger) -> None:
        for lease in leases:
            with contextlib.suppress(LeaseLost):
                ledger.outcomes.archived(lease, manifest_key="m", archived_at=START, stored=[stored()])

    def register(ledger: Ledger) -> None:
        for task_id in reversed(ids):
            with contextlib.suppress(TaskForgotten):
                ledger.registrations.register(task_id, account=ACCOUNT, family=FAMILY)

    def work(ledger: Ledger, number: int) -> None:
        callbacks = [Callback(ACCOUNT, task_id, Status.SUCCEEDED, FAMILY) for task_id in ids]
        steps: list[Callable[[], object]] = [
            lambda: forget(ledger),
            lambda: archive(ledger),
            lambda: register(ledger),
            lambda: ledger.callbacks.record(callbacks),
            lambda: ledger.registrations.enrol({task_id: [] for task_id in ids}, account=ACCOUNT),
            lambda: record(ledger, range(6), Status.SUCCEEDED),
        ]
        steps[number % len(steps)]()

    at_once(ledgers, work)
    record(desk.ledger, range(6), Status.SUCCEEDED)

    assert desk.rows("SELECT task_id FROM tasks") == []
    assert {row["task_id"] for row in desk.rows("SELECT task_id FROM forgotten")} == set(ids)


# --- callbacks, registrations -----------------------------------------------------------------------------------


def test_a_callback_that_comes_to_all_doors_at_once_is_one_row(desk: Desk, ledgers: list[Ledger]) -> None:
    callbacks = [Callback(ACCOUNT, f"t{number}", Status.SUCCEEDED, FAMILY) for number in range(20)]

    at_once(ledgers, lambda ledger, number: ledger.callbacks.record(callbacks[:: 1 if number % 2 else -1]))

    rows = desk.rows("SELECT callbacks FROM tasks")
    assert [row["callbacks"] for row in rows] == [PROCESSES] * 20


def test_an_id_that_all_register_at_once_is_new_to_one(desk: Desk, ledgers: list[Ledger]) -> None:
    said = at_once(
        ledgers, lambda ledger, _: ledger.registrations.register("t", account=ACCOUNT, family=FAMILY)
    )

    assert said.count(True) == 1
    assert len(desk.rows("SELECT id FROM tasks")) == 1


def test_ids_that_all_find_in_a_collection_at_once_are_new_once(ledgers: list[Ledger]) -> None:
    found = {f"t{number}": ["images"] for number in range(30)}

    said = at_once(ledgers, lambda ledger, _: ledger.registrations.enrol(found, account=ACCOUNT))

    assert sum(said) == 30


# --- holds, values, upkeep --------------------------------------------------------------------------------------


def test_a_hold_that_all_set_at_once_is_new_to_one(desk: Desk, ledgers: list[Ledger]) -> None:
    said = at_once(
        ledgers,
        lambda ledger, _: ledger.holds.set(BucketMissing("x"), account=ACCOUNT, stage=Stage.ARCHIVE),
    )

    assert said.count(True) == 1
    assert len(desk.ledger.holds.all()) == 1


def test_each_deadline_is_judged_once(desk: Desk, ledgers: list[Ledger]) -> None:
    record(desk.ledger, range(50), Status.SUCCEEDED)
    desk.clock.advance(31 * DAY)

    expired = at_once(ledgers, lambda ledger, _: ledger.deadlines.expire())

    assert Counter(one.task_id for each in expired for one in each) == Counter(
        f"t{number}" for number in range(50)
    )


def test_each_missing_callback_is_counted_once(desk: Desk, ledgers: list[Ledger]) -> None:
    record(desk.ledger, range(50), Status.SUCCEEDED)
    desk.clock.advance(10 * MINUTE)

    at_once(ledgers, lambda ledger, _: ledger.deadlines.count_missed(patience_ms=MINUTE))

    assert desk.ledger.views.status().missed_callbacks == {FAMILY: 50}


def test_counts_are_folded_while_they_change(
    desk: Desk, ledgers: list[Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "COUNT_ROWS_MIN", 5)
    for number in range(10):
        desk.tell(f"old-{number}")

    def work(ledger: Ledger, number: int) -> None:
        if number % 2:
            ledger.deadlines.fold_counts()
        else:
            ledger.registrations.register(f"new-{number}", account=ACCOUNT, family=FAMILY)

    at_once(ledgers, work)

    assert desk.ledger.views.status().states[State.REPORTED] == 14


def test_values_and_signs_of_life_that_all_write_at_once_are_written(
    desk: Desk, ledgers: list[Ledger]
) -> None:
    def work(ledger: Ledger, number: int) -> None:
        ledger.availability.note(account=ACCOUNT, name="x", unavailable_at=START)
        ledger.daemons.beat(f"d{number}", version="1", started_at=START, clock_skew_ms=number)

    at_once(ledgers, work)

    assert desk.ledger.availability.unavailable(account=ACCOUNT) == {"x": START}
    assert len(desk.ledger.daemons.alive()) == PROCESSES


# --- duties -------------------------------------------------------------------------------------------------------


def test_each_duty_is_taken_by_one_process_and_none_by_none(desk: Desk, ledgers: list[Ledger]) -> None:
    accounts = [f"account-{number}" for number in range(12)]

    parts = at_once(ledgers, lambda ledger, number: ledger.duties.take_part(f"d{number}", accounts=accounts))

    taken = Counter(lease.duty for part in parts for lease in part.held)
    assert max(taken.values()) == 1
    desk.ledger.duties.take_part("d0", accounts=accounts)
    assert set(taken) == {view.duty for view in desk.ledger.duties.all() if view.holder}


def test_one_of_all_that_are_followed_at_once_is_followed_by_one(desk: Desk, ledgers: list[Ledger]) -> None:
    desk.ledger.duties.take_part("dead", accounts=[ACCOUNT])
    desk.clock.advance((LEASE_SECONDS + TAKEOVER_SECONDS) * SECOND)

    parts = at_once(ledgers, lambda ledger, number: ledger.duties.take_part(f"d{number}", accounts=[ACCOUNT]))

    taken = Counter(lease.duty for part in parts for lease in part.held)
    assert max(taken.values()) == 1


def test_a_view_is_one_moment_however_long_it_reads(desk: Desk) -> None:
    desk.tell("a")
    count = sa.select(sa.func.count()).select_from(schema.tasks)
    with desk.ledger.database.read() as connection:
        before = connection.execute(count).scalar_one()
        desk.tell("b")
        assert connection.execute(count).scalar_one() == before
