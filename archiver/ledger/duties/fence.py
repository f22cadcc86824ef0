"""Fences the writes of a process that may have lost its duty: each checks, in its own transaction, that it still has
it.

The row is locked against a takeover until the write is committed. So a process that has lost an account writes nothing
for it, however long it was paused and whatever its clock says.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.failures import Deposed
from archiver.ledger.databases.protocol import WRITE_SECONDS_MAX, Database, Disk, Obstacle
from archiver.ledger.duties.leasing import Duty
from archiver.ledger.tables import schema

_HELD = (
    sa.select(schema.duties.c.account)
    .where(
        schema.duties.c.kind == sa.bindparam("of_kind", type_=sa.Text),
        schema.duties.c.account == sa.bindparam("of_account", type_=sa.Text),
        schema.duties.c.lease_token == sa.bindparam("token", type_=sa.Text),
    )
    .with_for_update(read=True)
)


class FencedDatabase:
    """The database of another ledger, for the holder of one duty. Only writes are fenced."""

    def __init__(self, database: Database, duty: Duty, token: Callable[[], str | None]) -> None:
        """`token` gives the token of the lease; None while the process has none."""
        self.name = database.name
        self.has_one_writer = database.has_one_writer
        self._database = database
        self._duty = duty
        self._token = token

    @contextlib.contextmanager
    def write(self, *, seconds_max: float = WRITE_SECONDS_MAX) -> Iterator[sa.Connection]:
        """Raises Deposed, and then writes nothing."""
        token = self._token()
        if token is None:
            raise Deposed(self._duty.account)
        held = {"of_kind": self._duty.kind, "of_account": self._duty.account, "token": token}
        with self._database.write(seconds_max=seconds_max) as connection:
            if connection.execute(_HELD, held).first() is None:
                raise Deposed(self._duty.account)
            yield connection

    def read(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """One consistent snapshot."""
        return self._database.read()

    def now(self) -> int:
        """Unix ms."""
        return self._database.now()

    def begin_daemon(self, connection: sa.Connection, *, now: int) -> None:
        """As the database does."""
        self._database.begin_daemon(connection, now=now)

    def insert_new_ids(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> int:
        """As the database does."""
        return self._database.insert_new_ids(connection, rows)

    def try_change(self, connection: sa.Connection, change: Callable[[], object]) -> None:
        """As the database does."""
        self._database.try_change(connection, change)

    def keep_bounded(self) -> None:
        """As the database does."""
        self._database.keep_bounded()

    def obstacle(self) -> Obstacle | None:
        """Of the database."""
        return self._database.obstacle()

    def disk(self) -> Disk | None:
        """Of the database."""
        return self._database.disk()

    def close(self) -> None:
        """Does nothing: the process that opened the database closes it."""
