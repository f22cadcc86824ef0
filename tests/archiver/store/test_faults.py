"""Stores that fail in the middle of things, on Swift and on Ceph: nothing half is ever there, and nothing is lost.

The store's own tests show every answer on one server. Here the faults that depend on the server behind them happen to
each of the two, some to the store alone and the others to the whole archive stage with its real ledger.
"""

import hashlib
import pathlib
from collections.abc import Callable, Iterator

import pytest
import structlog.testing

from archiver.failures import Failure, StoreError, StoreMismatch, StoreUnreachable
from archiver.store import Put, PutOutcome, ReadObject, S3Store, StoredObject, Upload
from tests.archiver.store.conformance import put
from tests.harness.engine import Engine
from tests.harness.fake_store import FakeStore
from tests.s3_servers import CephServer, FaultyProxy, S3Server, faulty
from tests.simulator import KlingSimulator
from tests.simulator.media import media

KEY = "archive/images/generations/2026/11/20/882/0.png"
CONTENT = media("a picture of a usual size", "png", (704, 704))
OTHER = media("another picture", "png", (24, 24))
TENTHS = range(11)
TIMEOUT_SECONDS = 3.0
SUSPENDED = "suspended"


@pytest.fixture(params=["swift", "ceph"])
def server(request: pytest.FixtureRequest) -> S3Server:
    """Each of the two in turn."""
    found = request.getfixturevalue(f"{request.param}_server")
    assert isinstance(found, S3Server)
    return found


@pytest.fixture
def bucket_name(server: S3Server) -> str:
    return server.create_bucket()


@pytest.fixture
def proxy(server: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(server.port).serving() as made:
        yield made


def store_behind(proxy: FaultyProxy, server: S3Server, bucket_name: str) -> S3Store:
    """The program's store, by way of the proxy; one attempt and little patience."""
    return S3Store.from_settings(
        bucket=bucket_name,
        endpoint_url=proxy.endpoint_url,
        region=server.region,
        session=server.session(),
        read_timeout_seconds=TIMEOUT_SECONDS,
        attempts_max=1,
    )


@pytest.fixture
def flaky(server: S3Server, bucket_name: str, proxy: FaultyProxy) -> S3Store:
    return store_behind(proxy, server, bucket_name)


def offer(store: S3Store, *, look_first: bool = False) -> Put:
    return put(store, CONTENT, key=KEY, task_id="882", look_first=look_first)


def keys(server: S3Server, bucket_name: str) -> dict[str, int]:
    """What lies there, asked for past the proxy."""
    rows = server.client.list_objects_v2(Bucket=bucket_name).get("Contents", [])
    return {row["Key"]: row["Size"] for row in rows}


# --- one put ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tenth", TENTHS)
def test_an_upload_cut_at_any_tenth_leaves_nothing_half_and_succeeds_the_next_time(
    tenth: int, server: S3Server, bucket_name: str, proxy: FaultyProxy, flaky: S3Store
) -> None:
    proxy.on("PUT", faulty.cut_while_sending(len(CONTENT) * tenth // 10), times=1)
    with pytest.raises(StoreUnreachable):
        offer(flaky)
    assert keys(server, bucket_name) in ({}, {KEY: len(CONTENT)} if tenth == 10 else {})

    done = offer(flaky, look_first=True)
    assert done.outcome in {PutOutcome.CREATED, PutOutcome.SAME if tenth == 10 else PutOutcome.CREATED}
    assert flaky.digest(KEY) == (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


FAILED = {
    "500": faulty.answering(500, "InternalError"),
    "503 SlowDown": faulty.answering(503, "SlowDown"),
    "timing out": faulty.hanging,
}
HAPPENED = {
    "500": faulty.happened_but(500, "InternalError"),
    "503 SlowDown": faulty.happened_but(503, "SlowDown"),
    "timing out": faulty.hanging_afterwards,
    "cut": faulty.losing_the_answer,
}


@pytest.mark.parametrize("name", FAILED)
def test_a_put_that_failed_is_made_good_by_the_next(
    name: str, server: S3Server, bucket_name: str, proxy: FaultyProxy, flaky: S3Store
) -> None:
    proxy.on("PUT", FAILED[name], times=1)
    with pytest.raises((StoreUnreachable, StoreError)):
        offer(flaky)
    assert keys(server, bucket_name) == {}

    assert offer(flaky, look_first=True).outcome is PutOutcome.CREATED


@pytest.mark.parametrize("name", HAPPENED)
def test_a_put_that_failed_but_happened_is_found_by_the_next(
    name: str, server: S3Server, bucket_name: str, proxy: FaultyProxy, flaky: S3Store
) -> None:
    proxy.on("PUT", HAPPENED[name], times=1)
    with pytest.raises((StoreUnreachable, StoreError)):
        offer(flaky)
    assert keys(server, bucket_name) == {KEY: len(CONTENT)}

    assert offer(flaky, look_first=True).outcome is PutOutcome.SAME


@pytest.mark.parametrize("etag", [None, f'"{hashlib.md5(OTHER).hexdigest()}"', '"not-an-md5-1"'])  # noqa: S324 -- an ETag
def test_a_200_that_stored_nothing_is_no_success(
    etag: str | None, proxy: FaultyProxy, flaky: S3Store
) -> None:
    proxy.on("PUT", faulty.answering(200, headers={} if etag is None else {"ETag": etag}), times=1)

    with pytest.raises(StoreMismatch):
        offer(flaky)
    assert offer(flaky, look_first=True).outcome is PutOutcome.CREATED


@pytest.mark.parametrize("kept", [OTHER, CONTENT[:-1], CONTENT[:-1] + b"\0", b""])
def test_a_200_that_stored_other_bytes_is_no_success_and_what_lies_there_is_not_overwritten(
    kept: bytes, server: S3Server, bucket_name: str, proxy: FaultyProxy, flaky: S3Store
) -> None:
    def keep_others(exchange: faulty.Exchange) -> None:
        done = server.client.put_object(Bucket=bucket_name, Key=KEY, Body=kept)
        exchange.read()
        exchange.send(200, {"Content-Length": "0", "ETag": done["ETag"]}, b"")

    proxy.on("PUT", keep_others)
    with pytest.raises(StoreMismatch):
        offer(flaky)
    with pytest.raises(Failure):
        offer(flaky, look_first=True)

    assert keys(server, bucket_name) == {KEY: len(kept)}


# --- the whole stage --------------------------------------------------------------------------------------


class Bucket(FakeStore):
    """The engine's store, for once a real one: everything is passed on to it."""

    def __init__(self, store: S3Store) -> None:
        super().__init__()
        self._store = store

    def check(self, prefix: str = "") -> None:
        self._store.check(prefix)

    def put(self, upload: Upload, *, look_first: bool) -> Put:
        return self._store.put(upload, look_first=look_first)

    def head(self, key: str) -> StoredObject | None:
        return self._store.head(key)

    def list(self, folder: str) -> dict[str, int]:
        return self._store.list(folder)

    def walk(self, prefix: str, *, after: str = "") -> Iterator[tuple[str, int]]:
        return self._store.walk(prefix, after=after)

    def read(self, key: str, *, bytes_max: int) -> bytes:
        return self._store.read(key, bytes_max=bytes_max)

    def get(self, key: str, *, bytes_max: int) -> ReadObject:
        return self._store.get(key, bytes_max=bytes_max)

    def digest(self, key: str, *, on_piece: Callable[[int], object] = int) -> tuple[str, int]:
        return self._store.digest(key, on_piece=on_piece)


class Works:
    """The archive stage on a real bucket behind a proxy."""

    def __init__(self, engine: Engine, server: S3Server, bucket_name: str, proxy: FaultyProxy) -> None:
        self.engine = engine
        self.server = server
        self.bucket_name = bucket_name
        self.proxy = proxy

    def from_put(self, number: int, fault: faulty.Fault, *, only_puts: bool = True) -> None:
        """The fault for the `number`-th PUT (from 1) and for all that is asked afterwards."""
        seen = [0]

        def rule(request: faulty.Request) -> faulty.Fault | None:
            seen[0] += request.method == "PUT"
            struck = seen[0] >= number and (request.method == "PUT" or not only_puts)
            return fault if struck else None

        self.proxy.rule = rule

    def at_manifest(self, fault: faulty.Fault) -> None:
        """The fault for the next PUT of a manifest."""
        left = [fault]

        def rule(request: faulty.Request) -> faulty.Fault | None:
            is_manifest = request.method == "PUT" and request.path.endswith("manifest.json")
            return left.pop() if is_manifest and left else None

        self.proxy.rule = rule

    def repair(self) -> None:
        self.proxy.rule = lambda _: None

    def assert_archived(self, task_id: str) -> None:
        """One whole set of the right bytes, and nothing else in the bucket."""
        folder = self.engine.folder(task_id)
        names = self.engine.sim.expected_names(task_id)
        assert self.engine.show(task_id)["state"] == "archived"
        found = keys(self.server, self.bucket_name)
        assert sorted(found) == sorted(folder + name for name in [*names, "manifest.json"])
        for name in names:
            body = self.server.client.get_object(Bucket=self.bucket_name, Key=folder + name)["Body"].read()
            assert body == self.engine.sim.expected_bytes(task_id, name)
        assert self.engine.spool.promised_bytes == 0
        assert self.engine.sim.complaints == []


@pytest.fixture
def sim() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator


@pytest.fixture
def works(
    sim: KlingSimulator, tmp_path: pathlib.Path, server: S3Server, bucket_name: str, proxy: FaultyProxy
) -> Iterator[Works]:
    store = Bucket(store_behind(proxy, server, bucket_name))
    with Engine(sim, tmp_path, store=store) as engine:
        yield Works(engine, server, bucket_name, proxy)


def reason(error: Exception | None) -> str:
    assert isinstance(error, Failure), repr(error)
    return error.reason


def probed(works: Works) -> Exception | None:
    """What the probe of a hold comes to, half a minute later."""
    works.engine.clock.advance(seconds=31)
    return works.engine.attempt()


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"])
def test_credentials_that_are_refused_from_the_second_put_on_hold_the_stage_until_they_are_taken_again(
    code: str, works: Works
) -> None:
    task_id = works.engine.succeeded(images=3)
    works.from_put(2, faulty.answering(403, code), only_puts=False)
    assert reason(works.engine.attempt()) == "bucket_forbidden"
    assert reason(probed(works)) == "bucket_forbidden"
    (hold,) = works.engine.ledger.views.status().holds
    assert (hold.stage, hold.reason) == ("archive", "bucket_forbidden")

    works.repair()
    assert probed(works) is None
    works.assert_archived(task_id)


def test_keys_that_ceph_really_revokes_before_the_manifest_hold_the_stage(
    sim: KlingSimulator, tmp_path: pathlib.Path, ceph_server: S3Server
) -> None:
    assert isinstance(ceph_server, CephServer)
    gateway = ceph_server
    pair = {"access_key": "REVOKEDKEY0000000001", "secret_key": "revokedSecret"}
    ceph_server.create_user(SUSPENDED, **pair)
    session = ceph_server.session(**pair)
    client = session.client("s3", endpoint_url=ceph_server.endpoint_url)
    client.create_bucket(Bucket="revoked-midway")
    store = ceph_server.store("revoked-midway", session=session)

    class Revoking(Bucket):
        """The keys are revoked once both objects lie there, before they have been seen to."""

        def list(self, folder: str) -> dict[str, int]:
            found = super().list(folder)
            if len(found) == 2 and not self.revoked:
                self.revoked = True
                gateway.suspend_user(SUSPENDED, suspended=True)
            return found

        revoked = False

    with Engine(sim, tmp_path, store=Revoking(store)) as engine:
        task_id = engine.succeeded(images=2)
        assert reason(engine.attempt()) == "bucket_forbidden"
        gateway.suspend_user(SUSPENDED, suspended=False)
        engine.clock.advance(seconds=31)
        assert engine.attempt() is None
        folder = engine.folder(task_id)
        assert sorted(store.list(folder)) == [
            f"{folder}{name}" for name in ("0.png", "1.png", "manifest.json")
        ]


def test_a_bucket_that_is_deleted_before_the_manifest_holds_the_stage_and_is_filled_anew(
    works: Works,
) -> None:
    def delete_bucket() -> None:
        for key in keys(works.server, works.bucket_name):
            works.server.client.delete_object(Bucket=works.bucket_name, Key=key)
        works.server.client.delete_bucket(Bucket=works.bucket_name)

    task_id = works.engine.succeeded(images=2)
    works.at_manifest(faulty.after(delete_bucket))
    assert reason(works.engine.attempt()) == "bucket_missing"
    assert reason(probed(works)) == "bucket_missing"

    works.server.client.create_bucket(Bucket=works.bucket_name)
    assert probed(works) is None
    works.assert_archived(task_id)


@pytest.mark.parametrize("name", FAILED)
def test_a_store_that_fails_for_a_while_delays_a_task_and_costs_none_of_it(name: str, works: Works) -> None:
    task_id = works.engine.succeeded(images=2)
    works.from_put(2, FAILED[name])
    for _ in range(2):
        assert reason(works.engine.attempt()) in {"store_error", "store_unreachable"}
        works.engine.clock.advance(seconds=16 * 60)

    works.repair()
    assert works.engine.attempt() is None
    works.assert_archived(task_id)


def test_a_manifest_that_the_store_said_it_took_and_did_not_is_put_again(works: Works) -> None:
    task_id = works.engine.succeeded(images=2)
    works.at_manifest(faulty.answering(200))
    assert reason(works.engine.attempt()) == "store_mismatch"

    assert works.engine.attempt_again() is None
    works.assert_archived(task_id)


def test_an_object_that_became_another_one_stops_its_task_only_until_an_operator_removes_it(
    works: Works,
) -> None:
    task_id = works.engine.succeeded()
    key = works.engine.folder(task_id) + "0.png"

    def keep_others(exchange: faulty.Exchange) -> None:
        works.server.client.put_object(Bucket=works.bucket_name, Key=key, Body=OTHER)
        exchange.read()
        exchange.send(200, {"Content-Length": "0"}, b"")

    works.from_put(1, keep_others)
    assert reason(works.engine.attempt()) == "store_mismatch"
    works.repair()
    assert reason(works.engine.attempt_again()) == "foreign_object"
    shown = works.engine.show(task_id)
    assert (shown["state"], shown["reason"]) == ("buried", "foreign_object")

    works.server.client.delete_object(Bucket=works.bucket_name, Key=key)
    works.engine.ledger.registrations.retry([task_id], account="default")
    works.engine.verify(task_id)
    assert works.engine.attempt() is None
    works.assert_archived(task_id)


NGINX_REFUSES = (
    b"<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n"
    b"<center><h1>413 Request Entity Too Large</h1></center>\r\n</body>\r\n</html>\r\n"
)


def refusing_above(bytes_max: int) -> Callable[[faulty.Request], faulty.Fault | None]:
    """nginx before the store, with `client_max_body_size`: it answers at once, and hangs up on the unread body."""

    def refuse(exchange: faulty.Exchange) -> None:
        length = str(len(NGINX_REFUSES))
        exchange.send(413, {"Content-Type": "text/html", "Content-Length": length}, NGINX_REFUSES)

    def rule(request: faulty.Request) -> faulty.Fault | None:
        return refuse if int(request.headers.get("content-length", 0)) > bytes_max else None

    return rule


def refusal_of_large_upload(works: Works) -> str:
    """The reason of the first attempt. Where the proxy's end of the connection swallowed its answer, that of the next,
    two seconds later, which asks before it sends."""
    first = reason(works.engine.attempt())
    if first != "store_unreachable":
        return first
    works.engine.clock.advance(seconds=2)
    return reason(works.engine.attempt())


def test_an_upload_that_a_proxy_refuses_for_its_size_is_named_at_once_and_holds_no_smaller_one(
    works: Works,
) -> None:
    small = works.engine.succeeded()
    assert works.engine.attempt() is None
    works.proxy.rule = refusing_above(256 * 1024)
    large = works.engine.succeeded(size=(320, 320))

    with structlog.testing.capture_logs() as lines:
        assert refusal_of_large_upload(works) == "upload_too_large"
    (buried,) = [line for line in lines if line["event"] == "task.buried"]
    assert (buried["log_level"], buried["reason"]) == ("error", "upload_too_large")
    assert "client_max_body_size" in buried["what_to_do"]
    assert "KLING_S3_ENDPOINT_URL" in buried["what_to_do"]
    another = works.engine.succeeded()
    assert works.engine.attempt() is None
    assert works.engine.ledger.views.status().holds == ()
    assert [works.engine.show(task_id)["state"] for task_id in (small, large, another)] == [
        "archived",
        "buried",
        "archived",
    ]


def test_an_upload_that_was_refused_for_its_size_is_tried_again_by_itself(works: Works) -> None:
    task_id = works.engine.succeeded(size=(320, 320))
    works.proxy.rule = refusing_above(256 * 1024)
    assert refusal_of_large_upload(works) == "upload_too_large"
    works.repair()

    works.engine.clock.advance(seconds=24 * 3600)
    (lease,) = works.engine.ledger.claims.verify(account="default", count=1, offset=0)
    assert lease.task_id == task_id
    works.engine.verify(task_id)
    assert works.engine.attempt() is None
    works.assert_archived(task_id)


def test_the_server_itself_may_be_gone_and_come_back(works: Works) -> None:
    task_id = works.engine.succeeded(images=2)
    works.server.kill()
    works.proxy.on_all(faulty.speaking(b""))  # no server behind it any more
    assert reason(works.engine.attempt()) == "store_unreachable"
    works.server.start()
    works.repair()

    assert works.engine.attempt_again() is None
    works.assert_archived(task_id)
