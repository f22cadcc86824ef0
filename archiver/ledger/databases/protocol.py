"""What the ledger needs of a database. All other SQL of the ledger is SQLAlchemy Core."""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import sqlalchemy as sa

from archiver.failures import LedgerUnavailable

WORK_CONNECTIONS_MAX = 20
"""The connections of one process to a server."""
WAKE_CONNECTIONS_MAX = 2
"""Its connections for wake-ups: one sends, one listens."""
PROCESS_CONNECTIONS_MAX = WORK_CONNECTIONS_MAX + WAKE_CONNECTIONS_MAX
WRITE_SECONDS_MAX = 30.0
"""How long a transaction may take on a server."""
DOOR_SECONDS_MAX = 8.0
"""The same limit while a sender of callbacks waits, which must get an answer within 10 s."""
PROBE_SECONDS_MAX = 4.0
"""The same limit while `/readyz` waits, which is answered within 5 s."""


@dataclasses.dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps the database from working for long, in a sentence for an operator."""

    reason: str
    message: str
    what_to_do: str


@dataclasses.dataclass(frozen=True, slots=True)
class Disk:
    """The file system that a database file is on."""

    path: str
    free_bytes: int
    total_bytes: int


class WriteConflict(LedgerUnavailable):
    """Another process was first, or the connection broke. The transaction is undone, and may begin again at once."""


class Database(Protocol):
    """One open ledger database. Thread-safe."""

    name: str
    """The name in messages to the operator: without secrets."""
    has_one_writer: bool
    """Whether transactions that write wait for each other."""

    def write(self, *, seconds_max: float = WRITE_SECONDS_MAX) -> AbstractContextManager[sa.Connection]:
        """One write transaction: durable when the block ends, undone when it raises. Raises LedgerUnavailable: a server
        that cannot be reached while it commits may have committed.

        `seconds_max` is how long a server has for all of it; `math.inf` for what rewrites a whole ledger.
        """

    def read(self) -> AbstractContextManager[sa.Connection]:
        """One consistent snapshot. Raises LedgerUnavailable."""

    def now(self) -> int:
        """Unix ms by the clock that all processes on the database share. Cheap."""

    def begin_daemon(self, connection: sa.Connection, *, now: int) -> None:
        """A daemon starts: free the leases that dead daemons have left."""

    def insert_new_ids(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> int:
        """Insert the rows of ids that a batch of callbacks named first (`callbacks.unconfirmed_row`); how many. Those
        that another process has inserted meanwhile are left as they are, and forgotten ones are left out. In the order
        given, else two deadlock."""

    def try_change(self, connection: sa.Connection, change: Callable[[], object]) -> None:
        """Prove that `change` could be done on this connection and committed; it is not kept."""

    def keep_bounded(self) -> None:
        """Give back room on the disk that the database does not need. Raises LedgerUnavailable."""

    def obstacle(self) -> Obstacle | None:
        """What keeps the database from working well, and what an operator can do. Cheap, and correct in any process."""

    def disk(self) -> Disk | None:
        """The disk that the database fills; None if it belongs to another machine."""

    def close(self) -> None:
        """Close every connection."""
