"""Keeps botocore from following a second redirect.

After a redirect botocore sends a HEAD to learn the bucket's region, and another one after a redirect of that HEAD. An
endpoint that redirects everything (http to https, say) would get hundreds of requests for one put, until Python's stack
ends, and the error would be about recursion. Here a HEAD that botocore sends by itself follows no redirect.
"""

import threading
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


def follow_no_second(client: "S3Client") -> None:
    """Keep botocore from following redirects of its own HEAD."""
    thread = threading.local()

    def begin(**_event: object) -> None:
        thread.handles_answer = True

    def end(**_event: object) -> None:
        thread.handles_answer = False

    def mark(context: MutableMapping[str, Any], **_event: object) -> None:
        if getattr(thread, "handles_answer", False):
            thread.handles_answer = False
            context.setdefault("s3_redirect", {})["redirected"] = True

    events = client.meta.events
    # botocore's own handler comes between the first two, and asks HEAD from there.
    events.register_first("needs-retry.s3", begin)
    events.register_last("needs-retry.s3", end)
    # Not for HeadBucket alone: handlers of single operations run first, and botocore's own would set the mark back.
    events.register_last("before-parameter-build.s3", mark)
