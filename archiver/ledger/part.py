"""What every part of the ledger is built on."""

from collections.abc import Callable

from archiver.ledger.databases.protocol import Database


class Part:
    """One part of the ledger. Each public method is one transaction; `now` (Unix ms) is read once in it."""

    def __init__(self, database: Database, *, now: Callable[[], int]) -> None:
        self._database = database
        self._now = now
