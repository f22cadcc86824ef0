"""When a put asks the store before it sends the body. What goes over the wire, `test_s3` checks on a real server."""

import pytest

from archiver.store.expect_continue import UNASKED_BYTES_MAX, ExpectContinue


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
