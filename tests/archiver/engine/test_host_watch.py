"""Which CDN host is to blame: down, refusing, or one file only; and how much a failing host may take."""

import itertools

import pytest

from archiver.engine.host_watch import DOWN_IN_A_ROW, REFUSED_IN_A_ROW, HostWatch
from archiver.failures import (
    AssetAddressRefused,
    AssetGone,
    BodyIncomplete,
    BucketMissing,
    Failure,
    FetchEnded,
    FetchFailed,
    FetchRefused,
    FetchTimeout,
    FileUnusable,
    HostDown,
    HostRefusing,
    NotMedia,
    PartlyDone,
    ProxyFailed,
    StoreError,
    TooLarge,
    UrlRefused,
)
from archiver.model import Lease, State
from tests.harness.leases import archive_lease

HOST = "cdn.klingai.com"
OTHER_HOST = "other.klingai.com"
ROW_IDS = itertools.count(1)

DOWN = (FetchFailed, FetchTimeout)
REFUSES = (FetchRefused, NotMedia)
ONE_FILE = (AssetGone, BodyIncomplete, TooLarge, FileUnusable, FetchEnded)


def task(*, first_try: bool = True, state: State = State.SUCCEEDED, host: str = HOST) -> Lease:
    return archive_lease(row_id=next(ROW_IDS), state=state, asset_host=host, is_first_try=first_try)


def fail(watch: HostWatch, kind: type[Failure], lease: Lease | None = None, *, host: str = HOST) -> str:
    """A task's file fails so; the reason that its lease ends by."""
    lease = lease or task()
    error = kind("as the host said", host=host)
    watch.failed(lease, error)
    judged = watch.judged(lease, error)
    assert isinstance(judged, Failure)
    return judged.reason


@pytest.fixture
def watch() -> HostWatch:
    return HostWatch(transfers=16)


@pytest.mark.parametrize("kind", DOWN)
def test_the_fifth_task_in_a_row_without_an_answer_finds_the_host_down(
    watch: HostWatch, kind: type[Failure]
) -> None:
    reasons = [fail(watch, kind) for _ in range(7)]

    assert reasons == [kind.reason] * (DOWN_IN_A_ROW - 1) + [HostDown.reason] * 3


@pytest.mark.parametrize("kind", REFUSES)
def test_the_tenth_first_try_in_a_row_that_is_refused_finds_the_host_refusing(
    watch: HostWatch, kind: type[Failure]
) -> None:
    reasons = [fail(watch, kind) for _ in range(12)]

    assert reasons == [kind.reason] * (REFUSED_IN_A_ROW - 1) + [HostRefusing.reason] * 3


@pytest.mark.parametrize("kind", REFUSES)
def test_tasks_that_were_refused_before_do_not_count_against_the_host(
    watch: HostWatch, kind: type[Failure]
) -> None:
    assert {fail(watch, kind, task(first_try=False)) for _ in range(50)} == {kind.reason}


@pytest.mark.parametrize("kind", ONE_FILE)
def test_one_file_says_nothing_about_its_host(watch: HostWatch, kind: type[Failure]) -> None:
    assert {fail(watch, kind) for _ in range(50)} == {kind.reason}


@pytest.mark.parametrize("kind", [StoreError, BucketMissing, UrlRefused])
def test_a_failure_that_does_not_concern_a_host_is_unchanged(watch: HostWatch, kind: type[Failure]) -> None:
    assert {fail(watch, kind) for _ in range(50)} == {kind.reason}
    assert watch.transfers_max(HOST) == 8  # it was never asked


def test_a_bug_of_ours_does_not_count_against_the_host(watch: HostWatch) -> None:
    error = ValueError("a mistake of ours")

    assert watch.judged(task(), error) is error


@pytest.mark.parametrize("answer", [*REFUSES, *ONE_FILE])
def test_any_answer_about_a_file_ends_the_row_of_no_answers(watch: HostWatch, answer: type[Failure]) -> None:
    for _ in range(3):
        assert {fail(watch, FetchTimeout) for _ in range(DOWN_IN_A_ROW - 1)} == {FetchTimeout.reason}
        fail(watch, answer, task(first_try=False))

    assert watch.take_recovered() == {HOST: {HostDown.reason, AssetAddressRefused.reason}}


def test_only_a_whole_file_ends_the_row_of_refusals(watch: HostWatch) -> None:
    for _ in range(REFUSED_IN_A_ROW - 1):
        fail(watch, FetchRefused)
    fail(watch, AssetGone)
    assert fail(watch, NotMedia) == HostRefusing.reason

    watch.came(HOST)

    assert fail(watch, FetchRefused) == FetchRefused.reason
    reasons = {HostDown.reason, HostRefusing.reason, AssetAddressRefused.reason}
    assert watch.take_recovered() == {HOST: reasons}
    assert watch.take_recovered() == {}


def test_one_task_that_fails_again_and_again_is_not_five_tasks(watch: HostWatch) -> None:
    poisonous = task()

    assert {fail(watch, FetchFailed, poisonous) for _ in range(50)} == {FetchFailed.reason}
    assert {fail(watch, FetchRefused, poisonous) for _ in range(50)} == {FetchRefused.reason}


@pytest.mark.parametrize("kind", [*DOWN, *REFUSES])
def test_a_lost_task_s_files_may_be_deleted_and_say_nothing_about_the_host(
    watch: HostWatch, kind: type[Failure]
) -> None:
    watch.came(HOST)

    assert {fail(watch, kind, task(state=State.LOST)) for _ in range(50)} == {kind.reason}
    assert watch.transfers_max(HOST) == 16


def test_hosts_do_not_answer_for_each_other(watch: HostWatch) -> None:
    hosts = [HOST, OTHER_HOST] * (DOWN_IN_A_ROW - 1)

    assert {fail(watch, FetchFailed, host=host) for host in hosts} == {FetchFailed.reason}


def test_the_hold_names_the_file_s_own_host_not_that_of_the_task_s_first_file(watch: HostWatch) -> None:
    for _ in range(DOWN_IN_A_ROW):
        lease, error = task(host=HOST), FetchTimeout("slow", host=OTHER_HOST)
        watch.failed(lease, error)
        judged = watch.judged(lease, error)

    assert isinstance(judged, HostDown)
    assert judged.host == OTHER_HOST
    assert "slow" in str(judged)
    assert watch.transfers_max(HOST) == 8


def test_what_was_stored_is_kept_when_the_host_is_blamed(watch: HostWatch) -> None:
    error = FetchFailed("reset", host=HOST)
    partly = PartlyDone(error, stored=(), failed={"0": error})
    for _ in range(DOWN_IN_A_ROW):
        watch.failed(task(), error)

    held = watch.judged(task(), partly)

    assert isinstance(held, PartlyDone)
    assert isinstance(held.cause, HostDown)
    assert held.failed == {"0": error}


# --- shares -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transfers", "unproven", "failing"), [(16, 8, 4), (8, 4, 2), (4, 2, 1), (3, 2, 1), (1, 1, 1)]
)
def test_a_host_that_has_not_answered_yet_gets_half_of_the_transfers_and_a_failing_one_a_quarter(
    transfers: int, unproven: int, failing: int
) -> None:
    watch = HostWatch(transfers=transfers)
    assert watch.transfers_max(HOST) == unproven

    fail(watch, FetchTimeout)
    assert watch.transfers_max(HOST) == failing

    watch.came(HOST)
    assert watch.transfers_max(HOST) == transfers  # half of its tries are not over half


def test_a_host_is_judged_by_its_last_twenty_files(watch: HostWatch) -> None:
    for _ in range(100):
        watch.came(HOST)
    for failed in range(1, 12):
        fail(watch, AssetGone)
        assert watch.transfers_max(HOST) == (4 if failed > 10 else 16)


def test_a_failing_host_with_its_quarter_of_the_tasks_is_avoided(watch: HostWatch) -> None:
    leases = [task() for _ in range(4)]
    for lease in leases:
        watch.began(lease)
    assert (watch.avoided(), watch.room()) == (set(), 16)

    fail(watch, FetchTimeout)
    assert (watch.avoided(), watch.room()) == ({HOST}, 2)
    watch.ended(leases[0])
    assert (watch.avoided(), watch.room()) == (set(), 1)
    watch.came(HOST)
    assert (watch.avoided(), watch.room()) == (set(), 16)


def test_half_of_a_failing_host_s_quarter_is_for_first_tries(watch: HostWatch) -> None:
    fail(watch, FetchRefused)
    again = [task(first_try=False) for _ in range(2)]
    watch.began(again[0])
    assert (watch.first_tries_only(), watch.room()) == (set(), 1)

    watch.began(again[1])
    assert (watch.first_tries_only(), watch.avoided(), watch.room()) == ({HOST}, set(), 2)
    watch.ended(again[0])
    assert watch.first_tries_only() == set()


def test_the_hold_of_a_host_that_the_proxy_does_not_reach_names_the_proxy(
    watch: HostWatch,
) -> None:
    for _ in range(DOWN_IN_A_ROW):
        lease, error = task(), ProxyFailed("the proxy refuses a way", host=HOST)
        watch.failed(lease, error)
        judged = watch.judged(lease, error)

    assert isinstance(judged, HostDown)
    assert "HTTPS_PROXY" in judged.what_to_do
