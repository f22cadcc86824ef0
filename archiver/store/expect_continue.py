"""Which puts ask the store before they send the body (`Expect: 100-continue`).

For speed: boto3 asks for every body that is a file. That costs a quarter of `make bench`'s images/s with the store 100
ms away, 2-3 % of its CPU per image, and 8 % of a put's own CPU: a round trip, and an answer that boto3 reads byte by
byte, in fifty system calls.

A store that accepted the last body gets a small one unasked, until a put fails. The next put asks again: otherwise a
refusal (403, 507) would be lost when the store closes the connection on unread bytes.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from botocore.awsrequest import AWSRequest

from archiver.store.body import Body

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

UNASKED_BYTES_MAX = 4 * 1024 * 1024
"""Larger bodies always ask: a refusal would waste more than the round trip."""


class ExpectContinue:
    """Remembers whether the store accepted the last body. Threads need no lock: a stale flag costs a round trip, or a
    refusal that the next attempt, a retry, reads."""

    def __init__(self) -> None:
        self._last_accepted = False

    def is_due(self, body_bytes: int, *, is_retry: bool) -> bool:
        """A retry asks, because this very object may have been refused before."""
        return is_retry or not self._last_accepted or body_bytes > UNASKED_BYTES_MAX

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Around each put."""
        try:
            yield
        except BaseException:
            self._last_accepted = False
            raise
        self._last_accepted = True


def register(client: "S3Client") -> None:
    """Remove the header that boto3 adds, from bodies that do not want it. It is not signed."""

    def remove_header(request: AWSRequest, **_context: object) -> None:
        if isinstance(request.data, Body) and not request.data.expect_continue:
            del request.headers["Expect"]

    client.meta.events.register("request-created.s3.PutObject", remove_header)
