"""A put that must stop: because the lease of its task is over, or because it takes too long. On real Swift."""

from collections.abc import Callable

import pytest

from archiver.failures import Disposition, LeaseLost, PutTimeout
from archiver.store import PutOutcome, S3Store
from archiver.store.s3 import PUT_SECONDS_MAX
from tests.archiver.store.conformance import put
from tests.s3_servers import FaultyProxy, S3Server, faulty

LARGE = bytes(32 * 1024 * 1024)
"""More than the sockets between client and proxy hold: the client still has pieces to read when the proxy pauses."""
PIECE_BYTES = 64 * 1024


class Watch:
    """A clock and a lease, both in the hands of the test."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.lease_is_over = False

    def __call__(self) -> float:
        return self.seconds

    def check(self) -> None:
        if self.lease_is_over:
            raise LeaseLost("the lease is over")

    def end_lease(self) -> None:
        self.lease_is_over = True

    def pass_half_an_hour(self) -> None:
        self.seconds += PUT_SECONDS_MAX

    def reset(self) -> None:
        self.seconds, self.lease_is_over = 1000.0, False


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def patient_store(
    swift_server: S3Server, swift_bucket: str, swift_proxy: FaultyProxy, watch: Watch
) -> S3Store:
    """The store as the daemon has it: boto3 may try twice. One connection, so that each put uses that of the last."""
    return S3Store.from_settings(
        bucket=swift_bucket,
        endpoint_url=swift_proxy.endpoint_url,
        region=swift_server.region,
        session=swift_server.session(),
        max_pool_connections=1,
        clock=watch,
    )


def after_a_piece(event: Callable[[], None]) -> faulty.Fault:
    """The proxy takes one piece of the body, then `event` happens, then it takes the rest."""

    def fault(exchange: faulty.Exchange) -> None:
        exchange.read(PIECE_BYTES)
        event()
        exchange.read()

    return fault


STOPS = {
    "its lease ends": (Watch.end_lease, LeaseLost),
    "half an hour is over": (Watch.pass_half_an_hour, PutTimeout),
}


@pytest.mark.parametrize("name", STOPS)
def test_a_put_is_stopped_between_two_pieces_and_not_sent_a_second_time(
    name: str, watch: Watch, swift_proxy: FaultyProxy, patient_store: S3Store
) -> None:
    event, reason = STOPS[name]
    swift_proxy.on("PUT", after_a_piece(lambda: event(watch)))

    with pytest.raises(reason):
        put(patient_store, LARGE, check=watch.check)

    assert swift_proxy.asked() == ["PUT"]


@pytest.mark.parametrize("name", STOPS)
def test_a_stopped_put_leaves_nothing_in_the_bucket_and_nothing_in_the_way_of_the_next(
    name: str, watch: Watch, swift_proxy: FaultyProxy, patient_store: S3Store
) -> None:
    event, reason = STOPS[name]
    swift_proxy.on("PUT", after_a_piece(lambda: event(watch)), times=1)
    with pytest.raises(reason):
        put(patient_store, LARGE, check=watch.check)
    assert patient_store.list("") == {}
    watch.reset()

    assert put(patient_store, LARGE, look_first=True).outcome is PutOutcome.CREATED


@pytest.mark.parametrize("name", STOPS)
def test_the_bytes_are_not_read_back_to_their_end_either(
    name: str, watch: Watch, swift_proxy: FaultyProxy, patient_store: S3Store
) -> None:
    event, reason = STOPS[name]
    swift_proxy.on("PUT", faulty.with_headers(ETag='"0123456789abcdef0123456789abcdef"'), times=1)
    accepted = swift_proxy.rule

    def rule(request: faulty.Request) -> faulty.Fault | None:
        return faulty.after(lambda: event(watch)) if request.method == "GET" else accepted(request)

    swift_proxy.rule = rule

    with pytest.raises(reason):
        put(patient_store, LARGE, check=watch.check)


def test_a_put_that_takes_too_long_is_tried_again_and_sets_no_hold() -> None:
    assert PutTimeout.disposition is Disposition.RETRY
