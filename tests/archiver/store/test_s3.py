"""The store against real servers: what it promises on each of them, and what it makes of their failures."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import gc
import hashlib
import io
import json
import os
import socket
import ssl
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx2
import pytest
from botocore.exceptions import ClientError

from archiver.failures import (
    BucketForbidden,
    BucketMissing,
    Failure,
    ForeignObject,
    ObjectInColdStorage,
    Stopped,
    StoreClockSkewed,
    StoreError,
    StoreFull,
    StoreMismatch,
    StoreRefused,
    StoreUnreachable,
    UploadTooLarge,
)
from archiver.store import ConditionalPut, Put, PutOutcome, S3Store, StoredObject, probing
from archiver.store.expect_continue import UNASKED_BYTES_MAX
from tests.archiver.store.conformance import CONTENT, KEY, LONGER, OTHER, outcome, put, stored_bytes
from tests.harness.repository import DEPLOY
from tests.s3_servers import CephServer, FaultyProxy, S3Server, Weakness, faulty, process
from tests.s3_servers.swift import LISTING_ROWS_MAX

URLLIB3_PIECE_BYTES = 16 * 1024
POLICY = json.loads((DEPLOY / "iam-policy.json").read_text())


def place(server: S3Server, bucket: str, content: bytes, *, key: str = KEY, **metadata: str) -> None:
    """A foreign object."""
    server.client.put_object(Bucket=bucket, Key=key, Body=content, Metadata=metadata)


# --- what it promises, on every server --------------------------------------------------------------------


def test_an_object_is_created_with_its_type_and_metadata(store: S3Store) -> None:
    created = put(store)

    assert created == outcome(PutOutcome.CREATED)
    assert stored_bytes(store) == CONTENT
    assert store.head(KEY) == StoredObject(
        bytes=len(CONTENT),
        etag=hashlib.md5(CONTENT).hexdigest(),  # noqa: S324 -- what S3 calls an ETag
        content_type="image/png",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        task_id="881",
        family="images/generations",
    )


def test_a_spool_file_is_sent_from_its_start_whatever_was_read_of_it(store: S3Store, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "spool").write_bytes(content)
    with (tmp_path / "spool").open("rb") as file:
        file.read(1_000)
        put(store, content, file=file)

    assert store.digest(KEY) == (hashlib.sha256(content).hexdigest(), 3_000_000)


def test_the_same_bytes_again_are_the_same(store: S3Store) -> None:
    put(store)

    assert put(store, look_first=True) == outcome(PutOutcome.SAME)


def test_the_same_bytes_again_are_the_same_without_looking_first(store: S3Store, s3_server: S3Server) -> None:
    put(store)
    overwrites = Weakness.CONDITION_IGNORED in s3_server.weaknesses

    assert put(store) == outcome(PutOutcome.CREATED if overwrites else PutOutcome.SAME)


@pytest.mark.parametrize("content", [OTHER, LONGER])
def test_an_earlier_attempt_of_the_same_task_is_adopted_as_it_lies_there(
    store: S3Store, content: bytes
) -> None:
    put(store, content)

    assert put(store, look_first=True) == outcome(PutOutcome.ADOPTED, content)
    assert stored_bytes(store) == content


@pytest.mark.parametrize("content", [OTHER, LONGER])
def test_an_object_of_another_task_is_foreign_and_stays(store: S3Store, content: bytes) -> None:
    put(store, content, task_id="another")

    with pytest.raises(ForeignObject):
        put(store, look_first=True)
    assert stored_bytes(store) == content


def test_a_foreign_object_stays_without_looking_first(
    store: S3Store, s3_server: S3Server, bucket: str
) -> None:
    place(s3_server, bucket, OTHER)
    if Weakness.CONDITION_IGNORED in s3_server.weaknesses:
        assert put(store) == outcome(PutOutcome.CREATED)
        assert stored_bytes(store) == CONTENT
    else:
        with pytest.raises(ForeignObject):
            put(store)
        assert stored_bytes(store) == OTHER


def test_equal_bytes_that_another_program_put_there_are_the_same(
    store: S3Store, s3_server: S3Server, bucket: str
) -> None:
    place(s3_server, bucket, CONTENT)

    assert put(store, look_first=True) == outcome(PutOutcome.SAME)


def test_a_damaged_earlier_attempt_is_not_adopted(store: S3Store, s3_server: S3Server, bucket: str) -> None:
    claimed = {"task-id": "881", "sha256": hashlib.sha256(LONGER).hexdigest()}
    place(s3_server, bucket, LONGER[:-1], **claimed)

    with pytest.raises(StoreMismatch, match="damaged"):
        put(store, look_first=True)


def test_an_object_in_parts_has_no_md5_for_an_etag_and_is_read_back(
    store: S3Store, s3_server: S3Server, bucket: str
) -> None:
    client = s3_server.client
    upload = client.create_multipart_upload(Bucket=bucket, Key=KEY)["UploadId"]
    part = client.upload_part(Bucket=bucket, Key=KEY, UploadId=upload, PartNumber=1, Body=CONTENT)
    client.complete_multipart_upload(
        Bucket=bucket,
        Key=KEY,
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )

    assert put(store, look_first=True) == outcome(PutOutcome.SAME)


def test_racing_puts_of_the_same_bytes_all_succeed(store: S3Store) -> None:
    barrier = threading.Barrier(8)

    def racer(_: int) -> PutOutcome:
        barrier.wait()
        return put(store, look_first=True).outcome

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = set(pool.map(racer, range(8)))

    assert outcomes <= {PutOutcome.CREATED, PutOutcome.SAME}
    assert stored_bytes(store) == CONTENT


def test_racing_tasks_leave_one_whole_object_and_at_most_one_believes_it_created(
    store: S3Store, s3_server: S3Server
) -> None:
    barrier = threading.Barrier(8)

    def racer(number: int) -> bool:
        barrier.wait()
        try:
            put(store, CONTENT + b"%d" % number, task_id=str(number))
        except (ForeignObject, StoreMismatch):
            return False
        return True

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        created = sum(pool.map(racer, range(8)))

    assert stored_bytes(store)[:-1] == CONTENT
    if Weakness.CONDITION_RACES not in s3_server.weaknesses:
        assert created == 1


def test_bytes_that_are_not_what_their_md5_says_are_not_stored(store: S3Store) -> None:
    with pytest.raises(StoreError):
        put(store, CONTENT, file=io.BytesIO(OTHER))

    assert store.head(KEY) is None


def test_a_listing_shows_the_folder_and_nothing_beside_it(store: S3Store) -> None:
    put(store, key="ä b+c/881/0.png")
    put(store, LONGER, key="ä b+c/881/0.watermark.png")
    put(store, key="ä b+c/8812/0.png")

    assert store.list("ä b+c/881/") == {
        "ä b+c/881/0.png": len(CONTENT),
        "ä b+c/881/0.watermark.png": len(LONGER),
    }
    assert store.list("ä b+c/nothing/") == {}


def test_a_listing_goes_through_all_pages(store: S3Store) -> None:
    keys = [f"881/{number:03}.png" for number in range(2 * LISTING_ROWS_MAX + 5)]
    for key in keys:
        put(store, b"x", key=key)

    assert list(store.walk("881/")) == [(key, 1) for key in keys]


def test_what_is_missing_reads_as_missing(store: S3Store) -> None:
    assert store.head(KEY) is None
    with pytest.raises(StoreMismatch, match="no object"):
        store.read(KEY, bytes_max=1)
    with pytest.raises(StoreMismatch, match="no object"):
        store.digest(KEY)


def test_reading_stops_at_its_limit(store: S3Store) -> None:
    put(store)

    assert store.read(KEY, bytes_max=len(CONTENT)) == CONTENT
    with pytest.raises(StoreMismatch, match="larger"):
        store.read(KEY, bytes_max=len(CONTENT) - 1)


def test_a_presigned_link_reads_the_object_without_credentials(store: S3Store) -> None:
    put(store)
    link = store.presigned(KEY, seconds=60)

    assert httpx2.get(link, trust_env=False).content == CONTENT


def test_the_probe_tells_what_a_second_create_only_put_does(store: S3Store, s3_server: S3Server) -> None:
    ignored = Weakness.CONDITION_IGNORED in s3_server.weaknesses

    expected = ConditionalPut.IGNORED if ignored else ConditionalPut.RESPECTED
    assert probing.probe(store, "archive/").second_put == expected


def test_what_was_stored_outlives_the_death_of_the_server(store: S3Store, s3_server: S3Server) -> None:
    put(store)
    s3_server.kill()
    with pytest.raises(StoreUnreachable):
        store.check()
    with pytest.raises(StoreUnreachable):
        put(store, look_first=True)
    s3_server.start()

    assert put(store, look_first=True) == outcome(PutOutcome.SAME)
    forgotten = Weakness.METADATA_FORGOTTEN in s3_server.weaknesses
    found = store.head(KEY)
    assert found is not None
    assert found.task_id == (None if forgotten else "881")


# --- rights and settings, on every server -----------------------------------------------------------------


def test_a_bucket_that_is_open_to_us_passes_the_check(store: S3Store) -> None:
    store.check()

    assert store.list("") == {}


def test_a_missing_bucket_is_named_by_every_method_that_can_know(s3_server: S3Server) -> None:
    store = s3_server.store(f"missing-{uuid.uuid4().hex[:8]}")

    for act in (store.check, lambda: put(store), lambda: store.list(""), lambda: store.digest(KEY)):
        with pytest.raises(BucketMissing):
            act()


@pytest.mark.parametrize("wrong", ["access_key", "secret_key"])
def test_wrong_credentials_are_forbidden_everywhere(s3_server: S3Server, bucket: str, wrong: str) -> None:
    store = s3_server.store(bucket, session=s3_server.session(**{wrong: "WRONGWRONGWRONG00001"}))

    for act in (store.check, lambda: put(store), lambda: store.list(""), lambda: store.head(KEY)):
        with pytest.raises(BucketForbidden):
            act()


def without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> boto3.Session:
    """boto3's own chain, and nothing in it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    return boto3.Session()


def test_no_credentials_at_all_are_forbidden_too(
    swift_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = swift_server.store("any-bucket", session=without_credentials(tmp_path, monkeypatch))

    for act in (store.check, lambda: put(store), lambda: store.presigned(KEY, seconds=1)):
        with pytest.raises(BucketForbidden):
            act()


def test_the_environment_for_a_daemon_is_all_that_the_store_needs(
    swift_server: S3Server, swift_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_credentials(tmp_path, monkeypatch)
    environment = swift_server.environment(swift_bucket)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    store = S3Store.from_settings(
        bucket=environment["KLING_S3_BUCKET"],
        endpoint_url=environment["KLING_S3_ENDPOINT_URL"],
        region=environment["KLING_S3_REGION"],
    )

    assert put(store) == outcome(PutOutcome.CREATED)


@pytest.mark.parametrize("bucket_name", ["No Such Name!", "x", "a\0b", "\ud800", "name/with/slash"])
def test_a_name_that_no_bucket_can_have_is_a_missing_bucket(swift_server: S3Server, bucket_name: str) -> None:
    with pytest.raises(BucketMissing):
        swift_server.store(bucket_name).check()


@pytest.mark.parametrize(
    "settings",
    [
        {"endpoint_url": "not a url"},
        {"endpoint_url": "http://[::1"},
        {"addressing_style": "sideways"},
        {"region": "no/such region"},
    ],
)
def test_settings_that_boto3_cannot_use_are_a_failure_at_once(settings: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="settings"):
        S3Store.from_settings(bucket="bucket", session=boto3.Session(), **settings)


def test_a_put_that_fails_while_it_is_sent_leaves_a_file_that_can_be_closed(
    swift_server: S3Server,
) -> None:
    content = bytes(8 * 1024 * 1024)
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections, and never reads
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        store = S3Store.from_settings(
            bucket="bucket",
            endpoint_url=f"http://127.0.0.1:{deaf.getsockname()[1]}",
            region="us-east-1",
            connect_timeout_seconds=0.2,
            session=swift_server.session(),
        )
        file = io.BytesIO(content)
        gc.disable()  # the exception, its traceback and what they hold go when the collector likes
        try:
            with pytest.raises(StoreUnreachable) as raised:
                put(store, content, file=file)
            file.close()
        finally:
            gc.enable()

    assert (file.closed, raised.value.disposition) == (True, StoreUnreachable.disposition)


def test_an_endpoint_without_a_listener_is_unreachable(swift_server: S3Server, unused_port: int) -> None:
    store = swift_server.store("bucket", endpoint_url=f"http://127.0.0.1:{unused_port}")

    for act in (store.check, lambda: put(store), lambda: store.list(""), lambda: store.digest(KEY)):
        with pytest.raises(StoreUnreachable):
            act()


@pytest.fixture
def unused_port() -> int:
    return process.free_port()


# --- on Ceph: what only an administrator can arrange ------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Tenant:
    """A second user of the gateway."""

    arn: str
    session: boto3.Session


def tenant_of(server: S3Server, name: str) -> Tenant:
    assert isinstance(server, CephServer)
    keys = {"access_key": f"TENANT{name.upper()}", "secret_key": "tenantSecret"}
    return Tenant(server.create_user(name, **keys), server.session(**keys))


def test_the_published_policy_is_enough_for_everything_the_store_does(ceph_server: S3Server) -> None:
    bucket = ceph_server.create_bucket()
    tenant = tenant_of(ceph_server, "least")
    store = ceph_server.store(bucket, session=tenant.session)
    with pytest.raises(BucketForbidden):
        store.check()

    policy = json.loads(json.dumps(POLICY).replace("YOUR-BUCKET", bucket))
    for statement in policy["Statement"]:
        statement["Principal"] = {"AWS": [tenant.arn]}
    ceph_server.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))

    store.check()
    assert put(store).outcome is PutOutcome.CREATED
    assert put(store, OTHER, look_first=True).outcome is PutOutcome.ADOPTED
    assert store.head("missing") is None
    assert store.list("archive/") == {KEY: len(CONTENT)}
    with pytest.raises(ClientError, match="AccessDenied"):
        tenant.session.client("s3", endpoint_url=ceph_server.endpoint_url).delete_object(
            Bucket=bucket, Key=KEY
        )


def test_a_used_up_quota_is_a_full_store(ceph_server: S3Server) -> None:
    assert isinstance(ceph_server, CephServer)
    tenant = tenant_of(ceph_server, "small")
    ceph_server.limit_objects("small", 0)
    bucket = "quota-" + uuid.uuid4().hex[:8]
    tenant.session.client("s3", endpoint_url=ceph_server.endpoint_url).create_bucket(Bucket=bucket)

    with pytest.raises(StoreFull):
        put(ceph_server.store(bucket, session=tenant.session))


@pytest.fixture
def ceph_tls_proxy(
    ceph_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultyProxy]:
    """TLS before Ceph, which is where boto3's own defaults fail on it."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    kind = [
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=127.0.0.1",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", "-x509", *kind, *files], check=True, capture_output=True)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with FaultyProxy(ceph_server.port, tls=context).serving() as proxy:
        yield proxy


def test_over_tls_the_payload_is_signed_and_sent_as_it_is(
    ceph_server: S3Server, ceph_tls_proxy: FaultyProxy
) -> None:
    store = ceph_server.store(ceph_server.create_bucket(), endpoint_url=ceph_tls_proxy.endpoint_url)

    assert put(store) == outcome(PutOutcome.CREATED)
    sent = ceph_tls_proxy.requests[-1].headers
    assert sent["x-amz-content-sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert "content-md5" in sent
    assert "x-amz-trailer" not in sent


# --- failures that no server produces on demand -----------------------------------------------------------


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


@pytest.mark.parametrize("size", [0, 1, URLLIB3_PIECE_BYTES, 3 * URLLIB3_PIECE_BYTES + 1])
def test_what_is_stored_is_the_same_from_memory_and_from_a_file(
    size: int, store: S3Store, tmp_path: Path
) -> None:
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    path = tmp_path / "spool"
    path.write_bytes(content)
    put(store, content, key="archive/memory.png")
    with path.open("rb", buffering=0) as file:
        put(store, content, key="archive/file.png", file=file)

    stored = [store.read(f"archive/{name}.png", bytes_max=size) for name in ("memory", "file")]
    assert stored == [content, content]


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


def test_a_listing_may_begin_after_any_key(store: S3Store) -> None:
    keys = [f"881/{number:03}.png" for number in range(LISTING_ROWS_MAX + 5)]
    for key in keys:
        put(store, b"x", key=key)

    assert [key for key, _ in store.walk("881/", after=keys[3])] == keys[4:]
    assert [key for key, _ in store.walk("881/", after="881/0030")] == keys[4:]
    assert list(store.walk("881/", after="8810")) == []


def test_a_reader_of_a_digest_sees_each_piece_and_may_stop(store: S3Store) -> None:
    put(store)
    pieces: list[int] = []

    store.digest(KEY, on_piece=pieces.append)

    def stop(_size: int) -> None:
        raise Stopped

    assert sum(pieces) == len(CONTENT)
    with pytest.raises(Stopped):
        store.digest(KEY, on_piece=stop)
