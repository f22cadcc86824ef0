"""How boto3 is made to send what S3-compatible stores take, and no more of it than they need. Four ways, each of them
botocore's own for being told so:

1. Digests. `PutObject` is signed over the SHA-256 that the bytes had while they were downloaded. botocore would read
   the file and sign what it finds; bytes that have changed in between would then be stored under a perfect signature.
   This way the store refuses them. It also saves hashing each file a second time.
2. Leave. boto3 asks before each body of a file whether it may send it (`Expect: 100-continue`), which costs a round
   trip, and reads the answer a byte at a time: fifty calls into the kernel, each of them a turn of all threads at the
   interpreter. A store that took the last body is not asked again for a small one, until something goes wrong: then
   the next put asks, so that an answer that refuses it (403, 507) is read, and not lost with a connection that the
   store closes on unread bytes.
3. Pieces. urllib3 sends 16 KiB at a time; here it is what the line takes (see `body`).
4. Dates are left as text. Nothing here reads one, and a store's idea of a date can no longer fail a listing.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import boto3
import botocore.session
from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config

from archiver.failures import StoreError
from archiver.store.errors import NO_CREDENTIALS, STUMBLES, said
from archiver.store.upload import Body
from archiver.version import USER_AGENT

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CONNECT_SECONDS = 20.0
"""For connecting, and, because urllib3 sends under the connect timeout, for each piece of a body (see `body`). Sixteen
uploads that share a line need it: on one of 2 Mbit/s, 20 images of 1.5 MB cost 94 failed puts at 5 s, and none at 20 s.
At 1 Mbit/s some fail even so, and come again."""
UNASKED_BYTES_MAX = 4 * 1024 * 1024
"""A larger body is never sent without asking: what a refusal would waste is more than a round trip."""


class _DigestAuth(S3SigV4Auth):
    """Signature version 4 over the digest that the body carries."""

    def payload(self, request: AWSRequest) -> str:
        """Hexadecimal; the library's own reading where the body is none of ours (there is no such `put`)."""
        body: object = request.body  # whatever `put_object` was given, not only what its stubs say
        return body.sha256 if isinstance(body, Body) else super().payload(request)


_DIGEST_SIGNATURE = "kling-archiver-s3v4"
# The registry is botocore's own way to add a signature version; there is none that belongs to one client.
AUTH_TYPE_MAPS[_DIGEST_SIGNATURE] = _DigestAuth


def prepare(client: "S3Client") -> None:
    """Let `PutObject` of this client, and nothing else, go by the digest and the leave of its `Body`."""

    def choose_signature(**_context: object) -> str:
        return _DIGEST_SIGNATURE

    def ask_leave_or_not(request: AWSRequest, **_context: object) -> None:
        if isinstance(request.data, Body) and not request.data.asks_leave:
            del request.headers["Expect"]  # it is not signed

    # The stubs know of handlers without an answer only; the first event is asked for one.
    client.meta.events.register("choose-signer.s3.PutObject", cast("Callable[..., None]", choose_signature))
    client.meta.events.register("request-created.s3.PutObject", ask_leave_or_not)


def open_client(
    *,
    endpoint_url: str | None,
    region: str | None,
    addressing_style: str | None,
    max_pool_connections: int,
    attempts_max: int,
    connect_timeout_seconds: float,
    read_timeout_seconds: float,
    session: boto3.Session | None,
) -> "S3Client":
    """A client of these settings; opens no connection.

    Raises `StoreError` when boto3 cannot make anything of the settings or of its own configuration files.
    """
    style = addressing_style or ("path" if endpoint_url else "auto")
    try:
        config = Config(
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # a setting is any text: boto3 judges whether it is a style
            s3={"addressing_style": style, "payload_signing_enabled": True},  # type: ignore[arg-type]
            retries={"mode": "standard", "total_max_attempts": attempts_max},
            connect_timeout=connect_timeout_seconds,
            read_timeout=read_timeout_seconds,
            max_pool_connections=max_pool_connections,
            tcp_keepalive=True,
            user_agent=f"{USER_AGENT} boto3/{boto3.__version__}",
            parameter_validation=False,  # of types: what is passed here, mypy has looked at
        )
        return (session or open_session()).client(
            "s3", endpoint_url=endpoint_url or None, region_name=region or None, config=config
        )
    except (*NO_CREDENTIALS, *STUMBLES) as error:
        raise StoreError(f"the store's settings are of no use to boto3: {said(error)}") from error


def open_session(*, access_key: str | None = None, secret_key: str | None = None) -> boto3.Session:
    """Of these credentials, or of those that boto3's own chain finds; its clients leave dates as the text that came."""
    core = botocore.session.get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
    return boto3.Session(
        aws_access_key_id=access_key, aws_secret_access_key=secret_key, botocore_session=core
    )
