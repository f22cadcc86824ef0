"""When a put asks the store before it sends the body: the rule, and what goes over the wire to a real server."""

import pytest

from archiver.failures import BucketForbidden, StoreError, StoreUnreachable
from archiver.store import S3Store
from archiver.store.expect_continue import UNASKED_BYTES_MAX, ExpectContinue
from tests.archiver.store.conformance import put
from tests.s3_servers import FaultyProxy, faulty


@pytest.fixture
def accepted() -> ExpectContinue:
    """The store has accepted a body."""
    policy = ExpectContinue()
    with policy.watching():
        pass
    return policy


def test_the_first_put_asks() -> None:
    assert ExpectContinue().is_due(1, is_retry=False)


@pytest.mark.parametrize(
    ("body_bytes", "is_retry", "due"),
    [
        (1, False, False),
        (UNASKED_BYTES_MAX, False, False),
        (UNASKED_BYTES_MAX + 1, False, True),
        (1, True, True),
    ],
)
def test_after_an_accepted_body_only_retries_and_large_bodies_ask(
    accepted: ExpectContinue, body_bytes: int, is_retry: bool, due: bool
) -> None:
    assert accepted.is_due(body_bytes, is_retry=is_retry) is due


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_put_makes_the_next_one_ask_and_keeps_its_error(
    accepted: ExpectContinue, error: type[BaseException]
) -> None:
    with pytest.raises(error), accepted.watching():
        raise error

    assert accepted.is_due(1, is_retry=False)
    with accepted.watching():
        pass
    assert not accepted.is_due(1, is_retry=False)


def expected_continue(proxy: FaultyProxy) -> list[bool]:
    """Of every put so far, whether it had `Expect: 100-continue`."""
    return ["expect" in request.headers for request in proxy.requests if request.method == "PUT"]


def test_a_store_that_took_the_last_body_is_not_asked_for_100_continue_until_a_put_fails(
    swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    for number in range(3):
        put(faulty_store, key=f"archive/{number}.png")
    swift_proxy.on("PUT", faulty.answering(503, "SlowDown"), times=1)
    with pytest.raises(StoreError):
        put(faulty_store, key="archive/3.png")
    for number in (3, 4):
        put(faulty_store, key=f"archive/{number}.png")

    assert expected_continue(swift_proxy) == [True, False, False, False, True, False]


def test_a_large_body_always_expects_100_continue(swift_proxy: FaultyProxy, faulty_store: S3Store) -> None:
    put(faulty_store, key="archive/small.png")
    put(faulty_store, bytes(UNASKED_BYTES_MAX), key="archive/0.png")
    put(faulty_store, bytes(UNASKED_BYTES_MAX + 1), key="archive/1.png")

    assert expected_continue(swift_proxy) == [True, False, True]


def test_a_refusal_by_a_store_that_hangs_up_on_unread_bytes_is_heard_by_the_second_put(
    swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    content = bytes(3 * 1024 * 1024)
    put(faulty_store, content, key="archive/0.png")
    swift_proxy.on("PUT", faulty.refusing_unread(403, "AccessDenied"))
    with pytest.raises((StoreUnreachable, BucketForbidden)):  # whichever the connection's end left to be read
        put(faulty_store, content, key="archive/1.png")

    with pytest.raises(BucketForbidden):
        put(faulty_store, content, key="archive/1.png")


def test_every_put_but_the_first_of_an_object_expects_100_continue(
    swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    put(faulty_store, key="archive/0.png")
    put(faulty_store, key="archive/1.png", look_first=True)
    put(faulty_store, key="archive/2.png")

    assert expected_continue(swift_proxy) == [True, True, False]
