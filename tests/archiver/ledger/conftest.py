"""Tests of the ledger run on SQLite and on PostgreSQL: those that ask for `place`, and so most that ask for `desk`."""

import pathlib
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tests.harness.ledgers import Desk, Place
from tests.postgres import PostgresServer, plain_engine

SQLITE, POSTGRESQL = "sqlite", "postgresql"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that says so runs on SQLite only."""
    if "place" in metafunc.fixturenames:
        only_sqlite = metafunc.definition.get_closest_marker("sqlite_only")
        metafunc.parametrize("place", [SQLITE] if only_sqlite else [SQLITE, POSTGRESQL], indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Place:
    """Where a `Desk` has its ledger: a folder, or a blank database."""
    if request.param == SQLITE:
        return tmp_path
    database: Place = request.getfixturevalue("blank_database")
    return database


@pytest.fixture
def desk(place: Place) -> Iterator[Desk]:
    """An empty ledger."""
    made = Desk(place)
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[sa.Engine]:
    """A database without any table."""
    if request.param == "sqlite":
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'ledger.db'}", isolation_level="AUTOCOMMIT")
    else:
        engine = plain_engine(request.getfixturevalue("empty_postgres"))
    yield engine
    engine.dispose()


@pytest.fixture
def empty_postgres(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)
