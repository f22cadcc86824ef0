"""A PostgreSQL ledger with nothing in it, again and again."""

from archiver.ledger import Ledger
from archiver.ledger.databases.postgres import PostgresDatabase
from archiver.ledger.tables import schema
from tests.postgres.server import PostgresServer, plain_engine


class KeptDatabase(PostgresDatabase):
    """Closed by no ledger: the next one begins with its connections and the statements it has compiled, which are two
    thirds of a short test's time."""

    def close(self) -> None:
        """Keep all."""

    def end(self) -> None:
        """Close it for good."""
        super().close()


class BlankDatabase:
    """A database with the ledger's tables. `url` is as KLING_LEDGER_URL names it."""

    def __init__(self, server: PostgresServer) -> None:
        self.url = server.url(server.create_database())
        Ledger.open(self.url, daemon=False, create=True).close()
        self.kept = KeptDatabase(self.url)
        self.engine = plain_engine(self.url)

    def empty(self) -> None:
        """Delete all rows and count ids from 1: 0.5 ms, where TRUNCATE takes 20 and a database of its own 30."""
        tables = [
            table for table in reversed(schema.metadata.sorted_tables) if table is not schema.schema_uses
        ]
        statements = [f"DELETE FROM {table.name}" for table in tables]  # noqa: S608 -- our tables
        statements += [
            f"SELECT setval('{table.name}_id_seq', 1, false)"
            for table in tables
            if table.autoincrement_column is not None
        ]
        with self.engine.connect() as connection:
            connection.exec_driver_sql("; ".join(statements))

    def close(self) -> None:
        """Close every connection."""
        self.kept.end()
        self.engine.dispose()
