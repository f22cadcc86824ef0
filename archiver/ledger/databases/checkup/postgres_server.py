"""What a PostgreSQL server reports about itself, in one query."""

import contextlib
import dataclasses

import sqlalchemy as sa

from archiver.ledger.databases.clock import unix_ms
from archiver.ledger.databases.postgres import PostgresDatabase

# `reset_val` is what the operator has set: each of our transactions sets some for itself.
_FACTS = sa.text(
    "SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS is_standby,"
    " current_setting('default_transaction_read_only') = 'on' AS is_read_only,"
    " current_setting('fsync') = 'on' AS syncs, current_setting('full_page_writes') = 'on' AS writes_full_pages,"
    " (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit') AS synchronous_commit,"
    " current_setting('synchronous_standby_names') AS standbys,"
    " current_setting('max_connections')::int AS connections_max,"
    " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,"
    " (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now"
)


@dataclasses.dataclass(frozen=True, slots=True)
class ServerFacts:
    """The properties of a server that matter to a ledger."""

    name: str
    version: str
    is_standby: bool
    is_read_only: bool
    syncs: bool
    """`fsync`."""
    writes_full_pages: bool
    synchronous_commit: str
    has_synchronous_standby: bool
    connections_max: int
    connections: int
    """The present connections of all clients."""
    ahead_ms: int
    """How far the server's clock is ahead of this machine's."""


def facts_of_server(url: str) -> ServerFacts:
    """Ask the server at `url`. Raises LedgerUnusable, LedgerUnavailable."""
    with contextlib.closing(PostgresDatabase(url)) as database:
        database.require_fit(create=True)
        with database.read() as connection:
            row = connection.execute(_FACTS).one()
            now = unix_ms()
        return ServerFacts(
            database.name,
            row.version.partition(" ")[0],
            row.is_standby,
            row.is_read_only,
            row.syncs,
            row.writes_full_pages,
            row.synchronous_commit,
            bool(row.standbys),
            row.connections_max,
            row.connections,
            row.now - now,
        )
