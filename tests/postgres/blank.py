"""A PostgreSQL ledger with nothing in it, again and again."""

import psycopg

from archiver.ledger import Ledger
from archiver.ledger.databases.postgres import PostgresDatabase
from archiver.ledger.tables import schema
from tests.postgres.server import PostgresServer


class BlankDatabase:
    """A database with the ledger's tables. `url` is as KLING_LEDGER_URL names it."""

    def __init__(self, server: PostgresServer) -> None:
        self.url = server.url(server.create_database())
        Ledger.open(self.url, daemon=False, create=True).close()
        self.kept = PostgresDatabase(self.url)
        """Usable again after each `close`."""

    def empty(self) -> None:
        """Delete all rows and count ids from 1: 1 ms, where TRUNCATE takes 20 and a database of its own 30."""
        tables = list(reversed(schema.metadata.sorted_tables))
        statements = [f"DELETE FROM {table.name}" for table in tables]  # noqa: S608 -- our tables
        statements += [
            f"ALTER SEQUENCE {table.name}_id_seq RESTART"
            for table in tables
            if table.autoincrement_column is not None
        ]
        with psycopg.connect(self.url) as connection:
            connection.execute("; ".join(statements).encode())
