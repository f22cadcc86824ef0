"""When the API is asked for fresh URLs: where one may help, once a day a task, and never while a host is at fault."""

import itertools

import pytest

from archiver.archive.fresh_urls import wants_fresh_urls
from archiver.failures import (
    AssetGone,
    BodyIncomplete,
    Failure,
    FetchFailed,
    FetchRefused,
    FetchTimeout,
    HostDown,
    HostRefusing,
    NeverMedia,
    NotMedia,
    PartlyDone,
    ResultsMissing,
    SpoolFull,
    StoreError,
    TooLarge,
    UrlRefused,
)
from archiver.model import DAY_MS, Asset, Lease, LeasedAsset, Role
from tests.harness.leases import archive_lease

NOW = 1_800_000_000_000
SOON, AGO = (NOW // 1000 + 3600), (NOW // 1000 - 60)


def task(*urls: str, asked_at: int | None = None) -> Lease:
    assets = tuple(
        LeasedAsset(Asset(str(place), url, Role.IMAGE, place, watermarked=False), None, None, None)
        for place, url in enumerate(urls or ("https://cdn.klingai.com/0.png",))
    )
    return archive_lease(assets=assets, fresh_asked_at=asked_at)


def failed(*kinds: type[Failure], cause: Failure | None = None) -> PartlyDone:
    errors = {str(place): kind("said") for place, kind in enumerate(kinds)}
    return PartlyDone(cause or next(iter(errors.values())), stored=(), failed=errors)


@pytest.mark.parametrize("kind", [AssetGone, FetchRefused, NotMedia, NeverMedia, UrlRefused])
def test_a_url_that_no_longer_works_is_asked_for_afresh(kind: type[Failure]) -> None:
    assert wants_fresh_urls(task(), failed(kind), now=NOW)


@pytest.mark.parametrize("kind", [FetchTimeout, FetchFailed, BodyIncomplete, TooLarge, SpoolFull, StoreError])
def test_where_no_fresh_url_can_help_none_is_asked_for(kind: type[Failure]) -> None:
    assert not wants_fresh_urls(task(), failed(kind), now=NOW)


def test_a_bug_of_ours_requests_no_fresh_url() -> None:
    assert not wants_fresh_urls(task(), ValueError("a mistake of ours"), now=NOW)


@pytest.mark.parametrize("held", [HostDown("x"), HostRefusing("x")])
def test_while_the_host_is_at_fault_no_fresh_url_is_asked_for(held: Failure) -> None:
    assert not wants_fresh_urls(task(), failed(FetchRefused, AssetGone, cause=held), now=NOW)


@pytest.mark.parametrize(
    ("hours", "asks"), list(zip([0, 1, 23, 24, 48], [False, False, False, True, True], strict=True))
)
def test_a_task_is_asked_about_once_a_day(hours: int, asks: bool) -> None:
    lease = task(asked_at=NOW - hours * DAY_MS // 24)

    assert wants_fresh_urls(lease, failed(AssetGone), now=NOW) is asks


@pytest.mark.parametrize(
    ("expires", "asked_seconds_ago", "asks"),
    list(
        itertools.chain(
            [(AGO, 3600, True)],  # it has expired since we asked
            [(AGO, 10, False)],  # the API was asked after that, and has no better one
            [(SOON, 3600, False)],  # it still holds
        )
    ),
)
def test_a_url_that_has_expired_since_is_asked_for_at_once(
    expires: int, asked_seconds_ago: int, asks: bool
) -> None:
    url = f"https://cdn.klingai.com/0.png?Expires={expires}"
    lease = task(url, asked_at=NOW - asked_seconds_ago * 1000)

    assert wants_fresh_urls(lease, failed(FetchRefused), now=NOW) is asks


def test_the_expiry_of_a_file_that_did_not_fail_does_not_count() -> None:
    lease = task(
        "https://cdn.klingai.com/0.png",
        f"https://cdn.klingai.com/1.png?Expires={AGO}",
        asked_at=NOW - 3_600_000,
    )

    assert not wants_fresh_urls(lease, failed(AssetGone), now=NOW)


def test_a_task_without_any_file_is_asked_about_whenever_it_is_tried() -> None:
    assert wants_fresh_urls(task(asked_at=NOW - 1), ResultsMissing("no file"), now=NOW)
