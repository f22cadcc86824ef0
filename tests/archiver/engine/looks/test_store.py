"""The daemon finds out by looking whether the store works for it."""

from collections.abc import Callable, Mapping

import pytest

from archiver.engine.looks.look import Look, StoreLook
from archiver.failures import Outside, StoreUnreachable
from archiver.store import S3Store
from tests.harness.looks import CLOSED, MINUTE, UNKNOWN, Daemon
from tests.s3_servers import S3Server


def endpoint(url: str) -> Callable[[S3Server], S3Store]:
    return lambda server: S3Store.from_settings(
        bucket="results",
        endpoint_url=url,
        region="us-east-1",
        session=server.session(),
        connect_timeout_seconds=1,
        read_timeout_seconds=1,
    )


def missing_bucket(server: S3Server) -> S3Store:
    return server.store("not-here")


def bucket_in_the_path(server: S3Server) -> S3Store:
    bucket = server.create_bucket()
    return S3Store.from_settings(
        bucket=bucket,
        endpoint_url=f"{server.endpoint_url}/{bucket}",
        region="us-east-1",
        session=server.session(),
    )


def wrong_keys(server: S3Server) -> S3Store:
    session = server.session(access_key="wrong", secret_key="wrong-secret")
    return server.store(server.create_bucket(), session=session)


def no_keys(server: S3Server) -> S3Store:
    return S3Store.from_settings(
        bucket=server.create_bucket(), endpoint_url=server.endpoint_url, region="us-east-1"
    )


STORE_TROUBLES: Mapping[str, Callable[[S3Server], S3Store]] = {
    "closed port": endpoint(CLOSED),
    "unresolvable name": endpoint(UNKNOWN),
    "missing bucket": missing_bucket,
    "bucket in the endpoint's path": bucket_in_the_path,
    "wrong keys": wrong_keys,
    "no keys": no_keys,
}


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in botocore's chain has any."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/dev/null")


@pytest.mark.usefixtures("no_credentials")
@pytest.mark.parametrize("trouble", STORE_TROUBLES)
def test_a_store_that_is_not_there_at_start_is_a_hold_at_once_on_an_empty_account(
    swift_server: S3Server, started: Callable[[Look], Daemon], trouble: str
) -> None:
    daemon = started(StoreLook(STORE_TROUBLES[trouble](swift_server), "kling/"))

    daemon.begin()

    assert daemon.held() == {"archive"}
    assert all(hold.what_to_do for hold in daemon.ledger.holds.all())


@pytest.mark.usefixtures("no_credentials")
@pytest.mark.parametrize("trouble", STORE_TROUBLES)
def test_a_store_that_fails_later_is_a_hold_within_a_minute_of_the_first_work_that_it_stops(
    swift_server: S3Server, started: Callable[[Look], Daemon], trouble: str
) -> None:
    good = swift_server.store(swift_server.create_bucket())
    daemon = started(StoreLook(good, "kling/"))
    daemon.begin()
    assert daemon.held() == set()
    daemon.look.current = StoreLook(STORE_TROUBLES[trouble](swift_server), "kling/")
    daemon.fail(StoreUnreachable("no connection"))

    assert daemon.pass_time(MINUTE, until=lambda: bool(daemon.held())) < MINUTE
    daemon.look.current = StoreLook(good, "kling/")
    assert daemon.pass_time(MINUTE, until=lambda: not daemon.held()) <= 30


@pytest.mark.usefixtures("no_credentials")
def test_credentials_that_come_later_end_the_hold_without_a_restart(
    swift_server: S3Server, started: Callable[[Look], Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = started(StoreLook(no_keys(swift_server), ""))
    daemon.begin()
    assert daemon.held() == {"archive"}

    for name, value in swift_server.environment("results").items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)

    assert daemon.pass_time(MINUTE, until=lambda: not daemon.held()) <= 30


def test_a_store_that_hangs_is_found_out_while_the_put_still_waits(
    started: Callable[[Look], Daemon], swift_server: S3Server
) -> None:
    daemon = started(StoreLook(swift_server.store(swift_server.create_bucket()), ""))
    daemon.begin()
    daemon.pass_time(MINUTE)
    daemon.look.current = StoreLook(endpoint(CLOSED)(swift_server), "")

    with daemon.outages.of(Outside.STORE).under_way():
        assert daemon.pass_time(MINUTE, until=lambda: bool(daemon.held())) < MINUTE
