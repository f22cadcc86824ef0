"""Rights, credentials and settings of a bucket, on every server; on Ceph, what only an administrator can arrange."""

import dataclasses
import gc
import hashlib
import io
import json
import os
import socket
import ssl
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from archiver.failures import (
    BucketForbidden,
    BucketMissing,
    StoreError,
    StoreFull,
    StoreUnreachable,
)
from archiver.store import PutOutcome, S3Store
from tests.archiver.store.conformance import CONTENT, KEY, OTHER, outcome, put
from tests.harness.repository import DEPLOY
from tests.s3_servers import CephServer, FaultyProxy, S3Server, process

POLICY = json.loads((DEPLOY / "iam-policy.json").read_text())


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
