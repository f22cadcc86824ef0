"""Whether a database is intact, and set up as a ledger needs it. Only reads.

`sqlite_file` reads a file through, `postgres_server` asks a server for its settings.
"""

from archiver.ledger.databases.checkup.postgres_server import ServerFacts, facts_of_server
from archiver.ledger.databases.checkup.sqlite_file import Integrity, integrity_of_file

__all__ = ["Integrity", "ServerFacts", "facts_of_server", "integrity_of_file"]
