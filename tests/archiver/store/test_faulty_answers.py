"""Answers that no server gives on demand: a proxy before a real server makes them."""

import contextlib
import functools
import hashlib
import io
from collections.abc import Callable

import pytest

from archiver.failures import (
    BucketForbidden,
    BucketMissing,
    Failure,
    ForeignObject,
    ObjectInColdStorage,
    StoreClockSkewed,
    StoreError,
    StoreFull,
    StoreMismatch,
    StoreRefused,
    StoreUnreachable,
    UploadTooLarge,
)
from archiver.store import ConditionalPut, Put, PutOutcome, S3Store, probing
from tests.archiver.store.conformance import CONTENT, KEY, OTHER, outcome, place, put, stored_bytes
from tests.s3_servers import FaultyProxy, S3Server, faulty


def retried(fault: faulty.Fault, proxy: FaultyProxy, store: S3Store) -> Put:
    """The first attempt fails with this fault; the answer to the next."""
    proxy.on("PUT", fault, times=1)
    with pytest.raises((StoreUnreachable, StoreError, StoreRefused)):
        put(store)
    return put(store, look_first=True)


@pytest.mark.parametrize(
    "fault",
    [
        faulty.cut_while_sending(0),
        faulty.cut_while_sending(500),
        faulty.answering(500, "InternalError"),
        faulty.answering(503, "SlowDown"),
        faulty.answering(502),
        faulty.answering(409, "ConditionalRequestConflict"),
        faulty.answering(418, "Teapot"),
        faulty.speaking(b""),
        faulty.speaking(b"\x16\x03\x01 not HTTP"),
    ],
)
def test_a_put_that_failed_leaves_nothing_and_the_next_attempt_creates(
    fault: faulty.Fault, swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    assert retried(fault, swift_proxy, faulty_store) == outcome(PutOutcome.CREATED)


@pytest.mark.parametrize(
    "fault",
    [
        faulty.losing_the_answer,
        faulty.happened_but(500, "InternalError"),
        faulty.happened_but(503, "SlowDown"),
        faulty.happened_but(504, ""),
    ],
)
def test_a_put_that_failed_but_happened_is_found_by_the_next_attempt(
    fault: faulty.Fault, swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    assert retried(fault, swift_proxy, faulty_store) == outcome(PutOutcome.SAME)


def test_the_signature_covers_the_digest_of_the_download_whatever_the_file_has_become(
    swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    with pytest.raises(StoreError):
        put(faulty_store, CONTENT, file=io.BytesIO(OTHER))

    signed = swift_proxy.requests[-1].headers["x-amz-content-sha256"]
    assert signed == hashlib.sha256(CONTENT).hexdigest()


def test_a_412_that_answers_our_own_lost_first_try_is_the_same(
    swift_server: S3Server, swift_bucket: str, swift_proxy: FaultyProxy
) -> None:
    store = swift_server.store(swift_bucket, endpoint_url=swift_proxy.endpoint_url)
    swift_proxy.on("PUT", faulty.losing_the_answer, times=1)

    assert put(store) == outcome(PutOutcome.SAME)
    assert swift_proxy.asked() == ["PUT", "PUT", "HEAD"]


def test_a_412_with_nothing_there_is_tried_again_later(
    swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    swift_proxy.on("PUT", faulty.answering(412, "PreconditionFailed"))

    with pytest.raises(StoreError, match="shows nothing"):
        put(faulty_store)


@pytest.mark.parametrize("etag", ['"0123456789abcdef0123456789abcdef"', '"abc-1"', "", "é"])
def test_an_etag_that_lies_is_settled_by_reading_back(
    etag: str, swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    swift_proxy.on("PUT", faulty.with_headers(ETag=etag))

    assert put(faulty_store) == outcome(PutOutcome.CREATED)
    assert swift_proxy.asked() == ["PUT", "GET"]


def test_an_etag_that_a_proxy_marked_as_weak_is_still_the_md5(
    swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    md5 = hashlib.md5(CONTENT).hexdigest()  # noqa: S324 -- what S3 calls an ETag
    swift_proxy.on("PUT", faulty.with_headers(ETag=f'W/"{md5.upper()}"'))

    assert put(faulty_store) == outcome(PutOutcome.CREATED)
    assert swift_proxy.asked() == ["PUT"]


def test_a_200_with_nothing_stored_is_a_mismatch(swift_proxy: FaultyProxy, faulty_store: S3Store) -> None:
    swift_proxy.on("PUT", faulty.answering(200))

    with pytest.raises(StoreMismatch):
        put(faulty_store)


@pytest.mark.parametrize("kept", [OTHER, CONTENT[:-1], b""])
def test_a_200_with_other_bytes_stored_is_a_mismatch(
    kept: bytes,
    swift_server: S3Server,
    swift_bucket: str,
    swift_proxy: FaultyProxy,
    faulty_store: S3Store,
) -> None:
    place(swift_server, swift_bucket, kept)
    swift_proxy.on("PUT", faulty.answering(200, headers={"ETag": '"of something else"'}))

    with pytest.raises(StoreMismatch, match="other bytes"):
        put(faulty_store)


def refusing_conditions(request: faulty.Request) -> faulty.Fault | None:
    """A server without conditional puts."""
    return faulty.answering(501, "NotImplemented") if "if-none-match" in request.headers else None


def test_a_server_without_conditional_puts_is_remembered_and_looked_at_first(
    swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    swift_proxy.rule = refusing_conditions
    first, second = put(faulty_store), put(faulty_store, key=KEY + ".webp")

    assert (first, second) == (outcome(PutOutcome.CREATED), outcome(PutOutcome.CREATED))
    assert swift_proxy.asked() == ["PUT", "HEAD", "PUT", "HEAD", "PUT"]


def test_without_conditional_puts_a_foreign_object_stays(
    swift_server: S3Server, swift_bucket: str, swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    place(swift_server, swift_bucket, OTHER)
    swift_proxy.rule = refusing_conditions

    for _ in range(2):
        with pytest.raises(ForeignObject):
            put(faulty_store)
    assert stored_bytes(faulty_store) == OTHER


def test_a_501_that_was_not_about_the_condition_is_not_remembered(
    swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    swift_proxy.on("PUT", faulty.answering(501, "NotImplemented"))
    with pytest.raises(StoreRefused):
        put(faulty_store)
    swift_proxy.rule = lambda _: None
    put(faulty_store)

    assert swift_proxy.requests[-1].headers["if-none-match"] == "*"


def test_the_probe_tells_a_server_that_refuses_the_condition(
    swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    swift_proxy.rule = refusing_conditions

    assert probing.probe(faulty_store, "").second_put is ConditionalPut.REFUSED


@pytest.mark.parametrize("body_bytes", [0, 100, len(CONTENT) - 1])
def test_a_body_that_ends_early_is_never_taken_for_the_object(
    body_bytes: int, swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    put(faulty_store)
    swift_proxy.on("GET", faulty.cut_while_answering(body_bytes))

    with pytest.raises(StoreUnreachable):
        faulty_store.digest(KEY)
    with pytest.raises(StoreUnreachable):
        stored_bytes(faulty_store)


@pytest.mark.parametrize(
    ("status", "code", "failure"),
    [
        (403, "RequestTimeTooSkewed", StoreClockSkewed),
        (400, "RequestTimeTooSkewed", StoreClockSkewed),
        (400, "InvalidToken", BucketForbidden),
        (403, "AccessDenied", BucketForbidden),
        (403, "SomethingNew", BucketForbidden),
        (401, "", BucketForbidden),
        (403, "QuotaExceeded", StoreFull),
        (507, "InsufficientStorage", StoreFull),
        (507, "", StoreFull),
        (404, "NoSuchBucket", BucketMissing),
        (503, "SlowDown", StoreError),
        (500, "InternalError", StoreError),
        (413, "", UploadTooLarge),
        (413, "EntityTooLarge", UploadTooLarge),
        (400, "EntityTooLarge", UploadTooLarge),
        (403, "InvalidObjectState", ObjectInColdStorage),
        (400, "BadDigest", StoreError),
        (429, "TooManyRequests", StoreError),
    ],
)
def test_every_answer_has_its_failure(
    status: int, code: str, failure: type[Failure], swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    swift_proxy.on("PUT", faulty.answering(status, code))

    with pytest.raises(failure) as raised:
        put(faulty_store)
    assert type(raised.value) is failure


def test_the_check_asks_what_names_the_reason_of_a_refusal(
    swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    swift_proxy.on_all(faulty.answering(403, "RequestTimeTooSkewed"))

    with pytest.raises(StoreClockSkewed):
        faulty_store.check()
    assert swift_proxy.asked() == ["GET"]


def page_of(size: str, *, more: str = "false") -> bytes:
    return (
        '<?xml version="1.0"?><ListBucketResult><Contents><Key>archive/0.png</Key>'
        f"<Size>{size}</Size></Contents><IsTruncated>{more}</IsTruncated>"
        "<NextContinuationToken>again</NextContinuationToken></ListBucketResult>"
    ).encode()


def http_answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def of_length(value: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {value}\r\n\r\nx".encode()


NONSENSE = {
    "a web page": http_answer(b"<html><body>Welcome<br></html>", "Content-Type: text/html"),
    "an error page": http_answer(b"<html>Bad", "Content-Type: text/html", status="502 Bad Gateway"),
    "a 400 page": http_answer(b"<html>Bad", "Content-Type: text/html", status="400 Bad Request"),
    "a 400 without a body": http_answer(b"", status="400 Bad Request"),
    "json": http_answer(b'{"error": 1}', "Content-Type: application/json", status="400 Bad Request"),
    "nul bytes": http_answer(b"\0" * 100),
    "not utf-8": http_answer(b"<Error><Code>\xff\xfe</Code></Error>", status="400 Bad Request"),
    "deep xml": http_answer(b"<a>" * 20_000 + b"</a>" * 20_000),
    "a deep error": http_answer(b"<a>" * 20_000 + b"</a>" * 20_000, status="400 Bad Request"),
    "another document": http_answer(b"<Owner><ID>1</ID></Owner>"),
    "an empty error": http_answer(b"<Error/>", status="403 Forbidden"),
    "an error in an error": http_answer(
        b"<Error><Code><Code>x</Code></Code><Message><b/></Message></Error>", status="400 Bad Request"
    ),
    "two codes": http_answer(b"<Error><Code>a</Code><Code>b</Code></Error>", status="400 Bad Request"),
    "a size that is no number": http_answer(page_of("many")),
    "a size of 400 digits": http_answer(page_of("9" * 400)),
    "a size of 5000 digits": http_answer(page_of("9" * 5_000)),
    "the same page for ever": http_answer(page_of("1", more="true")),
    "a page without sizes": http_answer(
        b"<ListBucketResult><Contents><Key>k</Key></Contents></ListBucketResult>"
    ),
    "a date that there is not": http_answer(b"", "Last-Modified: Tue, 99 Foo 99999 99:99:99 GMT"),
    "a date of 400 digits": http_answer(b"", f"Last-Modified: {'9' * 400}"),
    "a clock that there is not": http_answer(b"", "Date: never", status="503 Slow Down"),
    "metadata that is no ascii": http_answer(b"", "x-amz-meta-sha256: é\xa0", "x-amz-missing-meta: lots"),
    "a length that is no number": of_length("many"),
    "a length of 400 digits": of_length("9" * 400),
    "a length of 5000 digits": of_length("9" * 5_000),
    "a negative length": of_length("-1"),
    "no length": b"HTTP/1.1 200 OK\r\n\r\n",
    "a chunk size that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx",
    "a status of 400 digits": b"HTTP/1.1 " + b"9" * 400 + b" OK\r\n\r\n",
    "a status of 99": b"HTTP/1.1 99 Low\r\n\r\n",
    "a 304": http_answer(b"", status="304 Not Modified"),
    "a redirect to itself": http_answer(b"", "Location: /", status="307 Temporary Redirect"),
    "a redirect to another region": http_answer(
        b"<Error><Code>PermanentRedirect</Code></Error>",
        "x-amz-bucket-region: nowhere/else",
        status="301 Moved Permanently",
    ),
    "a header without end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    "a thousand headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000 + b"\r\n",
    "half a status line": b"HTTP/1.1",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nothing": b"",
}
METHODS: dict[str, Callable[[S3Store], object]] = {
    "check": S3Store.check,
    "put": put,
    "put again": functools.partial(put, look_first=True),
    "list": lambda store: store.list("archive/"),
    "head": lambda store: store.head(KEY),
    "read": stored_bytes,
    "digest": lambda store: store.digest(KEY),
}


# urllib3 under Python 3.13 leaves the socket of an answer that is no HTTP to the collector; we never see it.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("method", METHODS)
def test_nonsense_for_an_answer_ends_in_an_answer_or_a_failure(
    method: str, swift_proxy: FaultyProxy, faulty_store: S3Store, subtests: pytest.Subtests
) -> None:
    """Any other exception fails the subtest by itself."""
    for name, nonsense in NONSENSE.items():
        swift_proxy.on_all(faulty.speaking(nonsense))
        with subtests.test(name), contextlib.suppress(Failure):
            METHODS[method](faulty_store)


@pytest.mark.parametrize("method", ["put", "put again", "list"])
def test_a_web_page_in_place_of_an_answer_is_never_a_success(
    method: str, swift_proxy: FaultyProxy, faulty_store: S3Store
) -> None:
    swift_proxy.on_all(faulty.speaking(NONSENSE["a web page"]))

    with pytest.raises(Failure):
        METHODS[method](faulty_store)
