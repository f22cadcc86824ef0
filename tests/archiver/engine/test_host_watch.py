"""Which CDN host is to blame: five tasks in a row hold it, a quarter of the slots is all it gets before."""

import dataclasses
import pathlib
from collections.abc import Iterator

import pytest

from archiver.engine.host_watch import REFUSALS_IN_A_ROW, HostWatch
from archiver.failures import (
    AssetGone,
    FetchFailed,
    FetchTimeout,
    HostRefusing,
    NotMedia,
    PartlyDone,
    StoreError,
)
from archiver.model import Lease, Stage, State
from tests.harness.ledgers import DAY, Desk, answer, asset

HOST = "cdn.klingai.com"


@pytest.fixture
def leases(tmp_path: pathlib.Path) -> Iterator[list[Lease]]:
    """Ten tasks of one host, leased."""
    desk = Desk(tmp_path)
    for number in range(10):
        desk.say(answer(f"t{number}"))
    yield desk.claim_all(Stage.ARCHIVE)
    desk.close()


def judge(watch: HostWatch, leases: list[Lease], error: Exception) -> list[bool]:
    """For each task that fails so: whether its host is blamed."""
    return [isinstance(watch.judged(lease, error), HostRefusing) for lease in leases]


@pytest.mark.parametrize("error", [AssetGone("404"), FetchFailed("reset"), FetchTimeout("slow")])
def test_the_fifth_task_in_a_row_is_the_hosts_fault(leases: list[Lease], error: Exception) -> None:
    assert judge(HostWatch(slots=16), leases, error) == [False] * 4 + [True] * 6


def test_the_hold_names_the_host_and_what_it_said_last(leases: list[Lease]) -> None:
    watch = HostWatch(slots=16)
    judge(watch, leases[:4], FetchFailed("reset"))

    held = watch.judged(leases[4], FetchTimeout("slow"))

    assert isinstance(held, HostRefusing)
    assert held.host == HOST
    assert (HOST in str(held), "slow" in str(held)) == (True, True)


def test_one_task_that_fails_again_and_again_is_not_five_tasks(leases: list[Lease]) -> None:
    watch = HostWatch(slots=16)

    assert judge(watch, leases[:1] * 50, AssetGone("404")) == [False] * 50
    assert judge(watch, leases[1:], AssetGone("404")) == [False] * 3 + [True] * 6


def test_lost_tasks_are_refused_because_their_files_are_gone(leases: list[Lease]) -> None:
    lost = [dataclasses.replace(lease, state=State.LOST) for lease in leases]
    watch = HostWatch(slots=16)

    assert judge(watch, lost, AssetGone("404")) == [False] * 10
    assert watch.avoided() == set()


def test_a_success_begins_the_count_anew(leases: list[Lease]) -> None:
    watch = HostWatch(slots=16)
    judge(watch, leases[:4], FetchFailed("reset"))

    watch.succeeded(HOST)

    assert judge(watch, leases[4:], FetchFailed("reset")) == [False] * 4 + [True] * 2


@pytest.mark.parametrize("error", [NotMedia("html"), StoreError("500"), ValueError("a mistake of ours")])
def test_what_no_host_can_help_is_left_as_it_is(leases: list[Lease], error: Exception) -> None:
    watch = HostWatch(slots=16)

    assert [watch.judged(lease, error) for lease in leases] == [error] * 10


def test_what_was_stored_is_kept_when_the_host_is_blamed(leases: list[Lease]) -> None:
    watch = HostWatch(slots=16)
    gone = AssetGone("404")
    for lease in leases[: REFUSALS_IN_A_ROW - 1]:
        watch.judged(lease, PartlyDone(gone, stored=(), failed={"0": gone}))

    held = watch.judged(leases[-1], PartlyDone(gone, stored=(), failed={"0": gone}))

    assert isinstance(held, PartlyDone)
    assert isinstance(held.cause, HostRefusing)
    assert held.failed == {"0": gone}


def test_hosts_do_not_answer_for_each_other(tmp_path: pathlib.Path) -> None:
    desk = Desk(tmp_path)
    for number in range(8):
        url = f"https://{'one' if number % 2 else 'two'}.klingai.com/0.png"
        desk.say(answer(f"t{number}", assets=(asset(url=url),), created_at=desk.clock() - DAY))
    watch = HostWatch(slots=16)

    assert judge(watch, desk.claim_all(Stage.ARCHIVE), FetchFailed("reset")) == [False] * 8
    desk.close()


def test_a_failing_host_gets_a_quarter_of_the_slots_at_most(leases: list[Lease]) -> None:
    watch = HostWatch(slots=16)
    for _ in range(8):
        watch.began(HOST)
    assert watch.avoided() == set()  # nothing is wrong with it

    judge(watch, leases[:1], FetchFailed("reset"))
    assert watch.avoided() == {HOST}
    for _ in range(5):
        watch.ended(HOST)
    assert (watch.avoided(), watch.room()) == (set(), 1)
    watch.began(HOST)
    assert watch.avoided() == {HOST}
    watch.succeeded(HOST)
    assert (watch.avoided(), watch.room()) == (set(), 16)
