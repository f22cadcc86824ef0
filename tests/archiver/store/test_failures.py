"""Which failure each refusal of a store is, and what it tells the operator: the setting, and the cause that was seen.

No server refuses all this on demand, so a proxy with nothing behind it answers in its place.
"""

import errno
import io
import os
import pathlib
import threading
from collections.abc import Callable, Iterator

import boto3
import botocore.session
import pytest
from botocore.exceptions import CredentialRetrievalError

from archiver.failures import Disposition, Failure
from archiver.store import PutOutcome, S3Store, Upload, digests_of
from archiver.store.client import open_session
from tests.archiver.store.conformance import KEY, outcome, put
from tests.s3_servers import FaultyProxy, S3Server, faulty
from tests.s3_servers.process import free_port

BUCKET = "results"


@pytest.fixture
def proxy() -> Iterator[FaultyProxy]:
    with FaultyProxy(free_port()).serving() as made:
        yield made


@pytest.fixture(scope="module")
def session() -> boto3.Session:
    return open_session(access_key="TESTACCESSKEY", secret_key="testSecretKey")


def store_at(endpoint_url: str, session: boto3.Session) -> S3Store:
    return S3Store.from_settings(
        bucket=BUCKET, endpoint_url=endpoint_url, region="us-east-1", session=session, attempts_max=1
    )


def failure_of(act: Callable[[], object]) -> Failure:
    with pytest.raises(Failure) as raised:
        act()
    return raised.value


def error(status: int, code: str, message: str = "as the test wants it", more: str = "") -> faulty.Fault:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>" if code else ""

    def fault(exchange: faulty.Exchange) -> None:
        exchange.read()
        shown = b"" if exchange.request.method == "HEAD" else body.encode()
        exchange.send(status, {"Content-Length": str(len(shown))}, shown)

    return fault


GENERATE = "User: arn:aws:iam::1:user/a is not authorized to perform: kms:GenerateDataKey on resource: arn"
HOLDS = [
    (error(400, "KMS.DisabledException"), "store_encryption_refused", "KMS key"),
    (error(400, "KMS.NotFoundException"), "store_encryption_refused", "default encryption"),
    (
        error(400, "InvalidArgument", "Server side encryption specified but KMS is not configured"),
        "store_encryption_refused",
        "KLING_S3_BUCKET",
    ),
    (error(501, "NotImplemented", "encryption by KMS"), "store_encryption_refused", "KMS key"),
    (error(403, "AccessDenied", GENERATE), "store_encryption_refused", "kms:GenerateDataKey"),
    (error(400, "InvalidRequest"), "store_refused", "KLING_S3_ENDPOINT_URL"),
    (error(400, ""), "store_refused", "KLING_S3_ENDPOINT_URL"),
    (error(403, "AccessDenied"), "bucket_forbidden", "policy"),
    (error(403, ""), "bucket_forbidden", "policy"),
    (error(403, "SomethingNew"), "bucket_forbidden", "policy"),
    (
        error(403, "AccessDenied", "Cannot upload files, storage cap exceeded."),
        "store_full",
        "KLING_S3_BUCKET",
    ),
    (error(403, "SomethingNew", "Bucket quota has been exceeded"), "store_full", "KLING_S3_BUCKET"),
    (error(403, "SignatureDoesNotMatch"), "bucket_forbidden", "AWS credentials"),
    (error(403, "InvalidAccessKeyId"), "bucket_forbidden", "AWS credentials"),
    (error(403, "RequestTimeTooSkewed"), "store_clock_skewed", "NTP"),
    (
        error(
            400,
            "AccessDenied",
            "The difference between the request time and the server's time exceeds the maximum",
        ),
        "store_clock_skewed",
        "NTP",
    ),
    (error(400, "ExpiredToken"), "store_credentials_expired", "renew"),
    (error(403, "SecurityTokenExpired"), "store_credentials_expired", "renew"),
    (error(404, "NoSuchBucket"), "bucket_missing", "KLING_S3_BUCKET"),
    (error(404, "NoSuchKey"), "bucket_missing", "KLING_S3_ENDPOINT_URL"),
    (error(404, ""), "bucket_missing", "KLING_S3_ENDPOINT_URL"),
    (error(301, ""), "bucket_missing", "KLING_S3_ENDPOINT_URL"),
    (error(308, ""), "bucket_missing", "KLING_S3_ENDPOINT_URL"),
    (error(405, "MethodNotAllowed"), "store_refused", "KLING_S3_ENDPOINT_URL"),
    (error(405, ""), "store_refused", "KLING_S3_ENDPOINT_URL"),
    (error(411, "MissingContentLength"), "store_refused", "proxy"),
    (error(414, ""), "store_refused", "proxy"),
    (error(415, ""), "store_refused", "proxy"),
    (error(417, ""), "store_refused", "proxy"),
    (error(451, ""), "store_refused", "message"),
    (error(501, "NotImplemented"), "store_refused", "KLING_S3_ENDPOINT_URL"),
    (
        error(403, "SecondLevelDomainForbidden", "Please use virtual hosted style to access."),
        "store_addressing_refused",
        "KLING_S3_ADDRESSING_STYLE=virtual",
    ),
    (error(403, "PathStyleDomainForbidden"), "store_addressing_refused", "KLING_S3_ADDRESSING_STYLE"),
    (error(403, "InvalidPathAccess"), "store_addressing_refused", "KLING_S3_ADDRESSING_STYLE"),
    (
        error(400, "SomethingNew", "Virtual host domain is required while accessing a specific bucket."),
        "store_addressing_refused",
        "KLING_S3_ADDRESSING_STYLE",
    ),
    (
        error(
            400,
            "AuthorizationHeaderMalformed",
            "the region 'us-east-1' is wrong",
            "<Region>eu-west-3</Region>",
        ),
        "store_region_wrong",
        "KLING_S3_REGION",
    ),
    (error(400, "IllegalLocationConstraintException"), "store_region_wrong", "KLING_S3_REGION"),
]


def test_what_every_put_would_be_refused_for_is_a_hold_that_names_the_setting(
    proxy: FaultyProxy, session: boto3.Session, subtests: pytest.Subtests
) -> None:
    store = store_at(proxy.endpoint_url, session)
    for fault, reason, words in HOLDS:
        with subtests.test(reason=reason, words=words):
            proxy.rule = lambda request: faulty.answering(404) if request.method == "HEAD" else fault  # noqa: B023 -- asked before the next
            for act in (lambda: put(store), lambda: store.list("archive/")):
                failure = failure_of(act)
                assert (failure.reason, failure.disposition) == (reason, Disposition.HOLD)
                assert words in failure.what_to_do


def test_https_at_a_port_of_plain_http_fails_with_the_advice_to_use_http(
    proxy: FaultyProxy, session: boto3.Session
) -> None:
    failure = failure_of(
        lambda: store_at(proxy.endpoint_url.replace("http:", "https:"), session).list("archive/")
    )

    assert failure.reason == "store_unreachable"
    assert "try http://" in failure.what_to_do


def test_no_message_has_the_header_that_signs_the_request(proxy: FaultyProxy) -> None:
    broken = boto3.Session(aws_access_key_id="AKIAEXAMPLE\r", aws_secret_access_key="hidden")

    failure = failure_of(lambda: store_at(proxy.endpoint_url, broken).list("archive/"))

    assert "Invalid header value" in str(failure)
    assert not any(word in str(failure) for word in ("AWS4", "AKIAEXAMPLE", "Signature", "Credential"))


SEVERAL_HOLD = [
    (error(500, "InternalError"), "store_error"),
    (error(503, "SlowDown"), "store_error"),
    (error(502, ""), "store_error"),
    (error(429, "TooManyRequests"), "store_error"),
    (error(409, "OperationAborted"), "store_error"),
    (error(400, "RequestTimeout"), "store_error"),
    (error(400, "BadDigest"), "store_error"),
    (error(413, ""), "upload_too_large"),
    (faulty.answering(200, headers={"Content-Type": "text/html"}), "store_mismatch"),
    (faulty.speaking(b""), "store_unreachable"),
]


def test_what_may_be_of_one_request_alone_holds_only_when_several_get_it(
    proxy: FaultyProxy, session: boto3.Session, subtests: pytest.Subtests
) -> None:
    store = store_at(proxy.endpoint_url, session)
    for fault, reason in SEVERAL_HOLD:
        with subtests.test(reason=reason):
            proxy.on_all(fault)
            failure = failure_of(lambda: put(store))
            assert (failure.reason, failure.outside) == (reason, "store")
            assert failure.disposition is not Disposition.HOLD
            assert "KLING_S3_ENDPOINT_URL" in failure.what_to_do
            assert failure.as_hold().disposition is Disposition.HOLD


def test_a_store_on_a_closed_port_or_under_an_unknown_name_is_not_reached(
    session: boto3.Session,
) -> None:
    for endpoint_url in (f"http://127.0.0.1:{free_port()}", "http://store.invalid:9000"):
        failure = failure_of(store_at(endpoint_url, session).check)

        assert (failure.reason, failure.outside) == ("store_unreachable", "store")
        assert "KLING_S3_ENDPOINT_URL" in failure.what_to_do


def test_a_web_page_in_place_of_a_store_is_named_as_one(proxy: FaultyProxy, session: boto3.Session) -> None:
    page = b"<html><body>Welcome<br></html>"
    proxy.on_all(
        faulty.speaking(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s"
            % (len(page), page)
        )
    )

    failure = failure_of(lambda: store_at(proxy.endpoint_url, session).list("archive/"))
    assert (failure.reason, failure.outside) == ("store_answer_unreadable", "store")


@pytest.mark.parametrize("path", ["results", "results/", "browser/x"])
def test_an_endpoint_with_a_path_is_named_as_the_likely_cause(
    path: str, swift_server: S3Server, swift_bucket: str
) -> None:
    store = swift_server.store(swift_bucket, endpoint_url=f"{swift_server.endpoint_url}/{path}")

    for act in (store.check, lambda: store.list("archive/")):
        failure = failure_of(act)
        assert failure.disposition is Disposition.HOLD
        assert failure.what_to_do.startswith(f"KLING_S3_ENDPOINT_URL ends in the path /{path}")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_an_endpoint_that_redirects_everything_is_asked_twice_at_most_and_named(
    status: int, proxy: FaultyProxy, session: boto3.Session
) -> None:
    proxy.on_all(error(status, ""))
    store = store_at(proxy.endpoint_url, session)

    for act in (store.check, lambda: put(store), lambda: store.list("archive/")):
        before = len(proxy.requests)
        failure = failure_of(act)
        assert (failure.reason, failure.disposition) == ("bucket_missing", Disposition.HOLD)
        assert "KLING_S3_ENDPOINT_URL" in failure.what_to_do
        assert len(proxy.requests) - before <= 2


def test_the_region_that_the_store_tells_stands_in_the_message(
    proxy: FaultyProxy, session: boto3.Session
) -> None:
    proxy.on_all(error(400, "AuthorizationHeaderMalformed", more="<Region>eu-west-3</Region>"))

    assert "eu-west-3" in str(failure_of(lambda: put(store_at(proxy.endpoint_url, session))))


def test_no_credentials_are_told_from_refused_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    core = botocore.session.get_session()

    failure = failure_of(store_at("http://127.0.0.1:9", boto3.Session(botocore_session=core)).check)
    assert (failure.reason, failure.disposition) == ("store_credentials_missing", Disposition.HOLD)
    assert "AWS_ACCESS_KEY_ID" in failure.what_to_do
    assert "refuse" not in failure.what_to_do


def test_unavailable_credentials_are_a_hold_too(
    session: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_at("http://127.0.0.1:9", session)

    def fail(*_: object, **__: object) -> None:
        raise CredentialRetrievalError(provider="sso", error_msg="the token has expired")

    monkeypatch.setattr(store._check_client, "list_objects_v2", fail)  # noqa: SLF001 -- no role to be had here
    failure = failure_of(store.check)
    assert (failure.reason, failure.disposition) == ("store_credentials_missing", Disposition.HOLD)
    assert "the token has expired" in str(failure)


@pytest.mark.parametrize(
    ("config", "environment"),
    [
        ("credential_process = /nonexistent/helper", {}),
        ("credential_process = /bin/echo none", {}),
        ("", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/role"}),
        (
            "",
            {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/role",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/nonexistent/token",
            },
        ),
        (
            "",
            {
                "AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent/token",
                "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/archive",
            },
        ),
    ],
)
def test_a_source_of_credentials_that_fails_is_a_hold_and_no_fault_of_the_store(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, config: str, environment: dict[str, str]
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(f"[default]\n{config}\n")
    settings = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": str(tmp_path / "config")}
    for name, value in (settings | {"AWS_SHARED_CREDENTIALS_FILE": "/dev/null"} | environment).items():
        monkeypatch.setenv(name, value)
    # Its own waits between tries.
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)

    failure = failure_of(store_at("http://127.0.0.1:9", open_session()).check)
    assert (failure.reason, failure.disposition) == ("store_credentials_missing", Disposition.HOLD)


def test_a_spool_that_cannot_be_read_is_no_fault_of_the_store(
    proxy: FaultyProxy, session: boto3.Session
) -> None:
    class Broken(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    content = b"whole"
    upload = Upload(
        key="a",
        file=Broken(content),
        digests=digests_of(content),
        content_type="text/plain",
        task_id="1",
        family="f",
        check=lambda: None,
    )
    store = store_at(proxy.endpoint_url, session)

    failure = failure_of(lambda: store.put(upload, look_first=False))
    assert (failure.reason, failure.disposition) == ("spool_unreadable", Disposition.HOLD)


def test_of_first_uploads_that_race_none_is_lost_to_a_store_without_conditional_puts(
    swift_server: S3Server, swift_bucket: str
) -> None:
    first_is_done = threading.Event()

    def rule(request: faulty.Request) -> faulty.Fault | None:
        if "if-none-match" not in request.headers:
            return None
        if request.path.endswith("late.png"):
            first_is_done.wait(10)
        return faulty.answering(501, "NotImplemented")

    with FaultyProxy(swift_server.port).serving() as proxy:
        proxy.rule = rule
        store = swift_server.store(swift_bucket, endpoint_url=proxy.endpoint_url, attempts_max=1)
        puts: list[object] = []
        late = threading.Thread(target=lambda: puts.append(put(store, key="archive/late.png")))
        late.start()
        while not proxy.requests:  # it carries the condition, and waits for its 501
            late.join(0.001)
        puts.append(put(store, key=KEY))
        first_is_done.set()
        late.join()

    assert puts == [outcome(PutOutcome.CREATED)] * 2
