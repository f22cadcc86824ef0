"""A PostgreSQL ledger with nothing in it, again and again."""

from archiver.ledger import Ledger
from archiver.ledger.databases.postgres import PostgresDatabase
from archiver.ledger.tables import schema
from tests.postgres.server import PostgresServer, plain_engine


class BlankDatabase:
    """A database with the ledger's tables. `url` is as KLING_LEDGER_URL names it."""

    def __init__(self, server: PostgresServer) -> None:
        self.url = server.url(server.create_database())
        Ledger.open(self.url, daemon=False, create=True).close()
        self.kept = PostgresDatabase(self.url)
        """Usable again after each `close`."""
        self.engine = plain_engine(self.url)

    def empty(self) -> None:
        """Delete all rows and count ids from 1: 1 ms, where TRUNCATE takes 20 and a database of its own 30."""
        tables = list(reversed(schema.metadata.sorted_tables))
        statements = [f"DELETE FROM {table.name}" for table in tables]  # noqa: S608 -- our tables
        statements += [
            f"ALTER SEQUENCE {table.name}_id_seq RESTART"
            for table in tables
            if table.autoincrement_column is not None
        ]
        with self.engine.connect() as connection:
            connection.exec_driver_sql("; ".join(statements))

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()
