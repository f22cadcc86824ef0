"""Real PostgreSQL servers for the tests: started by the tests themselves, as any user, root included."""

from tests.postgres.blank import BlankDatabase
from tests.postgres.network import BadNetwork, Fate
from tests.postgres.pair import PostgresPair, running_pair
from tests.postgres.server import (
    DURABLE,
    GUARDED,
    SUITE_VERSION,
    PostgresServer,
    installed_versions,
    plain_engine,
    running_postgres,
)

__all__ = [
    "DURABLE",
    "GUARDED",
    "SUITE_VERSION",
    "BadNetwork",
    "BlankDatabase",
    "Fate",
    "PostgresPair",
    "PostgresServer",
    "installed_versions",
    "plain_engine",
    "running_pair",
    "running_postgres",
]
