"""What every test file may ask for: real S3 servers, one of each kind per session, a fresh bucket per test."""

import gc
import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest
import structlog

from archiver.store import S3Store
from tests.harness.memory import keep_temporary_files_in_memory
from tests.postgres import (
    SUITE_VERSION,
    BlankDatabase,
    PostgresServer,
    installed_versions,
    running_postgres,
)
from tests.s3_servers import (
    CephServer,
    FaultyProxy,
    RcloneServer,
    S3Server,
    ServerMissing,
    SwiftServer,
    running,
)

pytest.register_assert_rewrite("tests.archiver.store.conformance")
pytest_plugins = [
    "pytester",
    "tests.harness.browser",
    "tests.harness.certificates",
    "tests.harness.compiled_statements",
    "tests.harness.journal",
    "tests.harness.server",
    "tests.harness.service",
    "tests.harness.wheel",
    "tests.project.secret_watch",
]

# The suite tries the same examples on every machine, however slow it is; `make fuzz` looks for new ones.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")

LONG_FIRST = ("tests/daemon/", "tests/demo/", "tests/deadlines/")
SENT_BY_TESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def pytest_configure() -> None:
    """Let children answer the signals that tests send them, and print tracebacks as Python does.

    A process inherits ignored and blocked signals: the shell of a script starts jobs in the background with SIGINT
    ignored, and every daemon and command that a test starts would ignore it too.

    With PYTHONUNBUFFERED, which some environments set, they would print at once what an operator's keep back. A test
    that waits for a line would pass there only.

    Where a test does not configure the log, structlog lets Rich paint tracebacks with all local variables: half a
    second of CPU each.
    """
    keep_temporary_files_in_memory()
    os.environ.pop("PYTHONUNBUFFERED", None)
    structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SENT_BY_TESTS)
    for number in SENT_BY_TESTS:
        if signal.getsignal(number) is signal.SIG_IGN:
            default = signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)


def pytest_report_header() -> str:
    """Which versions of PostgreSQL are tried: the machine may have some of its own."""
    others = [str(version) for version in sorted(installed_versions()) if version != SUITE_VERSION]
    return f"PostgreSQL: {SUITE_VERSION}, and a task's life on {', '.join(others)}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take longest, which start daemons: at the end one process would run them alone."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG_FIRST))


def pytest_collection_finish() -> None:
    """Leave the collected tests out of every garbage collection: they live as long as the process (5 % of its time)."""
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Refuse parameters whose order differs from process to process: pytest-xdist then runs no test at all."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        parameters = mark.args[1] if len(mark.args) > 1 else mark.kwargs.get("argvalues")
        if isinstance(parameters, set | frozenset):
            pytest.fail(
                f"{metafunc.definition.name} is parametrized over a set: use a list or a dict", pytrace=False
            )


@pytest.fixture(autouse=True)
def _fresh_log() -> Iterator[None]:
    """A test that sets the log up, or a command in it that does, sets it up for itself only."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def _session_of(kind: type[S3Server]) -> Iterator[S3Server]:
    try:
        kind.require()
    except ServerMissing as missing:
        pytest.skip(str(missing))
    with running(kind) as server:
        yield server


@pytest.fixture(scope="session")
def swift_server() -> Iterator[S3Server]:
    """OpenStack Swift: real, and there wherever pip works. The one for end-to-end tests."""
    with running(SwiftServer) as server:
        yield server


@pytest.fixture(scope="session")
def ceph_server() -> Iterator[S3Server]:
    """A Ceph gateway, where it is installed."""
    yield from _session_of(CephServer)


@pytest.fixture(scope="session")
def rclone_server() -> Iterator[S3Server]:
    """rclone: a gateway with the weaknesses of small gateways."""
    with running(RcloneServer) as server:
        yield server


@pytest.fixture(scope="session", params=["swift", "ceph", "rclone"])
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """Every server in turn."""
    server = request.getfixturevalue(f"{request.param}_server")
    assert isinstance(server, S3Server)
    return server


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """A fresh bucket on the `s3_server` of this test."""
    return s3_server.create_bucket()


@pytest.fixture
def store(s3_server: S3Server, bucket: str) -> S3Store:
    """The program's store on that bucket."""
    return s3_server.store(bucket)


@pytest.fixture
def swift_bucket(swift_server: S3Server) -> str:
    """A fresh bucket for a test that needs one server only."""
    return swift_server.create_bucket()


@pytest.fixture
def swift_proxy(swift_server: S3Server) -> Iterator[FaultyProxy]:
    """A proxy before Swift that fails on demand."""
    with FaultyProxy(swift_server.port).serving() as proxy:
        yield proxy


@pytest.fixture
def faulty_store(swift_server: S3Server, swift_bucket: str, swift_proxy: FaultyProxy) -> S3Store:
    """The store with the faulty proxy between it and Swift."""
    return swift_server.store(swift_bucket, endpoint_url=swift_proxy.endpoint_url, attempts_max=1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """PostgreSQL."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def _session_database(postgres_server: PostgresServer) -> Iterator[BlankDatabase]:
    database = BlankDatabase(postgres_server)
    yield database
    database.close()


@pytest.fixture
def blank_database(_session_database: BlankDatabase) -> BlankDatabase:
    """An empty ledger in PostgreSQL."""
    _session_database.empty()
    return _session_database


@pytest.fixture
def unanalyzed_database(postgres_server: PostgresServer) -> Iterator[BlankDatabase]:
    """An empty ledger of the test's own: PostgreSQL keeps what ANALYZE counted when the rows are deleted."""
    database = BlankDatabase(postgres_server)
    yield database
    database.close()
