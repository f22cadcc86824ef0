"""The boto3 client, by options that botocore itself offers.

- `PutObject` is signed over the SHA-256 of the download, so that the store refuses bytes that have changed since.
  botocore would hash the file a second time and sign what it finds.
- Dates stay text: we read none, and a store's odd date cannot fail a listing.
- Credentials may come later, as a role of the machine does: botocore looks for them once, when a client is made, and
  that client would fail for ever.

urllib3 sends a body in pieces of 16 KiB. Rejected: pieces of 64 KiB or growing to 1 MiB (images/s and CPU
per image within 4 %, which is noise), and a body in one piece (on a slow line it exceeds `CONNECT_SECONDS`).
"""

import contextlib
import datetime
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

import boto3
import botocore.session
from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials, ReadOnlyCredentials
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    SSOError,
    TokenRetrievalError,
)
from urllib3.exceptions import HTTPError

from archiver.failures import StoreError
from archiver.store.body import Body
from archiver.store.errors import NO_CREDENTIALS, PARSE_ERRORS, described
from archiver.version import USER_AGENT

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CONNECT_SECONDS = 20.0
"""Also the limit for sending each piece of a body, because urllib3 sends under the connect timeout. Sixteen uploads on
one slow line need it: at 2 Mbit/s, 20 images of 1.5 MB cost 94 failed puts with 5 s, and none with 20 s. At 1 Mbit/s
some fail even with 20 s, and are retried."""


class _DigestAuth(S3SigV4Auth):
    """Signature version 4 over the digest that the body carries."""

    def payload(self, request: AWSRequest) -> str:
        body: object = request.body  # the stubs do not know what `put_object` was given
        return body.sha256 if isinstance(body, Body) else super().payload(request)


_DIGEST_SIGNATURE = "kling-archiver-s3v4"
# botocore has one registry for all clients.
AUTH_TYPE_MAPS[_DIGEST_SIGNATURE] = _DigestAuth


_UNAVAILABLE = (CredentialRetrievalError, TokenRetrievalError, SSOError, ClientError, HTTPError)
"""Exceptions of a source of credentials that may work later."""


class _LateCredentials(Credentials):
    """Credentials that may come later: while the chain finds none, each request asks it again.

    The source of credentials (a role's service, a token's file, a program) may fail. That is no failure of the store.
    """

    def __init__(self, find: Callable[[], Credentials | None], found: Credentials | None = None) -> None:
        super().__init__("", "")
        self._find = find
        self._found = found

    def ends_at(self) -> datetime.datetime | None:
        return _end_of(self._found)

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        try:
            self._found = self._found or self._find()
            if self._found is not None:
                return self._found.get_frozen_credentials()
        except NO_CREDENTIALS:
            raise
        except (*PARSE_ERRORS, ClientError, HTTPError, OSError) as error:
            raise CredentialRetrievalError(
                provider=_LateProvider.METHOD, error_msg=described(error)
            ) from error
        raise NoCredentialsError


def _end_of(credentials: Credentials | None) -> datetime.datetime | None:
    """botocore keeps the end of credentials to itself."""
    if isinstance(credentials, _LateCredentials):
        return credentials.ends_at()
    end = getattr(credentials, "_expiry_time", None)
    return end if isinstance(end, datetime.datetime) else None


def seconds_left(session: boto3.Session) -> int | None:
    """For how long the session's credentials are still good, once renewed where it is time; None: without an end.

    Raises what botocore raises where there are none.
    """
    credentials = session.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    credentials.get_frozen_credentials()
    end = _end_of(credentials)
    if end is None:
        return None
    return int((end - datetime.datetime.now(tz=end.tzinfo)).total_seconds())


def ca_bundle_of(session: boto3.Session) -> str | None:
    """AWS_CA_BUNDLE, or `ca_bundle` of the AWS configuration."""
    path: object = session._session.get_config_variable("ca_bundle")  # noqa: SLF001 -- boto3 does not show it
    return path if isinstance(path, str) else None


class _LateProvider(CredentialProvider):
    """Botocore's chain of providers, as one that always has credentials."""

    METHOD = "kling-archiver-late"

    def __init__(self, chain: CredentialResolver) -> None:
        super().__init__()
        self._before = CredentialResolver(list(chain.providers))

    def load(self) -> Credentials:
        """What stands in the environment or a file is taken as it is. A source that fails now may serve later; what is
        set wrongly raises."""
        find = self._before.load_credentials
        try:
            found = find()
        except (*_UNAVAILABLE, json.JSONDecodeError, OSError):
            found = None
        return found if type(found) is Credentials else _LateCredentials(find, found)


def sign_by_digest(client: "S3Client") -> None:
    """Sign `PutObject` of this client over its body's digest."""

    def choose_signature(**_context: object) -> str:
        return _DIGEST_SIGNATURE

    # The stubs know only handlers that return nothing; this event takes an answer.
    client.meta.events.register("choose-signer.s3.PutObject", cast("Callable[..., None]", choose_signature))


def open_client(
    *,
    endpoint_url: str | None,
    region: str | None,
    addressing_style: str | None,
    max_pool_connections: int,
    attempts_max: int,
    connect_timeout_seconds: float,
    read_timeout_seconds: float,
    session: boto3.Session,
) -> "S3Client":
    """Opens no connection. Raises `StoreError` when boto3 rejects the settings or its own configuration files."""
    style = addressing_style or ("path" if endpoint_url else "auto")
    with _rejections():
        config = Config(
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # boto3 judges whether the setting, any text, is a style
            s3={"addressing_style": style, "payload_signing_enabled": True},  # type: ignore[arg-type]
            retries={"mode": "standard", "total_max_attempts": attempts_max},
            connect_timeout=connect_timeout_seconds,
            read_timeout=read_timeout_seconds,
            max_pool_connections=max_pool_connections,
            tcp_keepalive=True,
            user_agent=f"{USER_AGENT} boto3/{boto3.__version__}",
            parameter_validation=False,  # of types, which mypy has checked
        )
        return session.client(
            "s3", endpoint_url=endpoint_url or None, region_name=region or None, config=config
        )


def open_session(*, access_key: str | None = None, secret_key: str | None = None) -> boto3.Session:
    """Without credentials given, boto3's own chain finds them, sooner or later. Clients of the session leave dates as
    text. Raises `StoreError` as `open_client` does."""
    with _rejections():
        core = botocore.session.get_session()
        core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
        session = boto3.Session(
            aws_access_key_id=access_key, aws_secret_access_key=secret_key, botocore_session=core
        )
        chain = core.get_component("credential_provider")
        chain.providers = [_LateProvider(chain)]
        return session


@contextlib.contextmanager
def _rejections() -> Iterator[None]:
    try:
        yield
    except (*NO_CREDENTIALS, *PARSE_ERRORS) as error:
        raise StoreError(f"boto3 rejects the store's settings: {described(error)}") from error
