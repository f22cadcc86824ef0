"""An engine that each test steps by hand, on the store that checks every put, or on each real server too."""

import pathlib
from collections.abc import Iterator

import pytest

from tests.harness.engine import Engine
from tests.harness.fake_store import FakeStore
from tests.harness.real_bucket import RealBucket
from tests.s3_servers import S3Server
from tests.simulator import KlingSimulator, Switches


@pytest.fixture(scope="module")
def account() -> Iterator[KlingSimulator]:
    with KlingSimulator(switches=Switches(fresh_urls=False)) as simulator:
        yield simulator


@pytest.fixture(params=["checked", "swift", "ceph", "rclone"])
def each_store(request: pytest.FixtureRequest) -> FakeStore:
    """The store that checks every put against those before it, and each real server."""
    if request.param == "checked":
        return FakeStore()
    server = request.getfixturevalue(f"{request.param}_server")
    assert isinstance(server, S3Server)
    return RealBucket(server.store(server.create_bucket()))


@pytest.fixture
def engine(account: KlingSimulator, tmp_path: pathlib.Path) -> Iterator[Engine]:
    """On the store that checks."""
    yield from _engine(account, tmp_path, FakeStore())


@pytest.fixture
def engine_of_each(
    account: KlingSimulator, tmp_path: pathlib.Path, each_store: FakeStore
) -> Iterator[Engine]:
    yield from _engine(account, tmp_path, each_store)


def _engine(account: KlingSimulator, folder: pathlib.Path, store: FakeStore) -> Iterator[Engine]:
    account.clear_faults()
    account.complaints.clear()
    with Engine(account, folder, store=store) as engine:
        yield engine
