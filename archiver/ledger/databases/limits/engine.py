"""Connections to PostgreSQL that give up a server which does not answer.

A server that hangs, or a network that drops packets, closes no connection: the driver would wait for hours. The
server's own time-outs do not help, because the server itself would have to keep them.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import sqlalchemy as sa
from sqlalchemy import event

if TYPE_CHECKING:
    from psycopg.errors import Diagnostic

    from archiver.ledger.databases.limits.connection import LimitedConnection

CONNECT_SECONDS = 5
"""The limit for each address of the server."""

CONNECT_OPTIONS = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 30,  # firewalls forget a connection that was silent for minutes
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""libpq's names. With the TCP options the kernel notices that the other machine is gone."""

_LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout")
_TRANSACTION_TIMEOUT_VERSION = 17_00_00
"""The first version that has this setting, as libpq writes versions."""


def limit_connections(engine: sa.Engine) -> None:
    """Make the engine create such connections."""
    # Imported here for the reason at its head.
    from archiver.ledger.databases.limits.connection import LimitedConnection  # noqa: PLC0415

    def connect(
        _dialect: object, _record: object, positional: Any, named: dict[str, Any]
    ) -> "LimitedConnection":
        connection = LimitedConnection.connect(*positional, **named)
        connection.answer_by = time.monotonic() + CONNECT_SECONDS  # SQLAlchemy asks for the server's version
        connection.add_notice_handler(functools.partial(_count_warning, connection))
        return connection

    event.listen(engine, "do_connect", connect)


def limits_of(connection: sa.Connection, *, limit: str) -> dict[str, str]:
    """The settings that end a transaction, or a statement of one, which takes longer than `limit`: an operator may have
    set each for the user or the database. "0" is without end."""
    limits = dict.fromkeys(_LIMITS, limit)
    if _driver_connection(connection).info.server_version >= _TRANSACTION_TIMEOUT_VERSION:
        limits["transaction_timeout"] = "0"  # a running limit can be switched off, not raised
    return limits


def forgo_prepared_if_pooled(connection: sa.Connection, *, session: int) -> None:
    """Prepare no statements where `session`, the server's, is another than the one that was connected to. A pooler that
    gives each transaction another session would run another statement of the same name: a wrong one, silently."""
    driver_connection = _driver_connection(connection)
    if driver_connection.info.backend_pid != session:
        driver_connection.prepare_threshold = None


@contextlib.contextmanager
def hear_unreplicated(connection: sa.Connection) -> Iterator[Callable[[], bool]]:
    """Around a COMMIT: whether the server has warned. It does only when an operator or a time-out has ended its wait
    for a standby, and calls that a success. Of a transaction that began before, all warnings are forgotten."""
    driver_connection = _driver_connection(connection)
    driver_connection.warnings = 0
    yield lambda: driver_connection.warnings > 0


def _count_warning(connection: "LimitedConnection", notice: "Diagnostic") -> None:
    # The severity that is the same in every language.
    connection.warnings += notice.severity_nonlocalized == "WARNING"


def set_limit(connection: sa.Connection, *, answer_by: float) -> None:
    """Every answer on this connection must have come by then."""
    _driver_connection(connection).answer_by = answer_by


def _driver_connection(connection: sa.Connection) -> "LimitedConnection":
    return cast("LimitedConnection", connection.connection.driver_connection)
