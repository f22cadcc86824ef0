"""What a PostgreSQL server's refusal means, by its SQLSTATE: begin again, wait, or a bug of ours."""

import re

import sqlalchemy as sa
from sqlalchemy import event, exc

from archiver.failures import LedgerNotReached, LedgerUnavailable
from archiver.ledger.databases.protocol import WriteConflict

_CONFLICTS = frozenset({"40001", "40P01"})
"""Serialization failure, deadlock."""

_OURS = ("22", "23", "42")

_WHAT_TO_DO = {
    "25006": (
        "The server only reads, as a standby does: let KLING_LEDGER_URL name the one that writes, or several of which "
        "one does (postgresql://USER@HOST,HOST/DATABASE)."
    ),
    "26000": "The pooler keeps no prepared statements: add ?prepare_threshold=none to KLING_LEDGER_URL.",
    "42501": "GRANT the user of KLING_LEDGER_URL all rights on the ledger's tables and sequences.",
    "42P01": "The ledger has been moved: let KLING_LEDGER_URL name where it is now, and restart.",
    "53": "The PostgreSQL server lacks something: look into its log.",
    "53100": "Make room on the disk of the PostgreSQL server.",
    "53300": (
        "Raise max_connections of the PostgreSQL server (a process uses up to 20), put PgBouncer before it, or run "
        "fewer processes."
    ),
    "55P03": "Another program locks the ledger's rows or tables: look for it in pg_stat_activity.",
    "57014": "The server is slow, or another program locks the ledger: look into pg_stat_activity.",
    "58": "The PostgreSQL server cannot use its files: look into its log.",
    "XX": "The PostgreSQL server finds its files damaged: look into its log, and restore a backup.",
}
"""SQLSTATE, or its class."""

_SAME = {"42P05": "26000"}
"""A prepared statement that is there already."""

_NOT_REACHED = ("08", "57P")
"""Connection lost; the server shuts down or starts."""

_OF_SERVER = ("25006", "53", "57P", "58", "XX")
"""Not of this statement, but of everything that the server is asked."""

_TOO_MANY = re.compile(
    r"too many (clients|connections)|connection slots are reserved|no more connections allowed"
)
"""The driver has no code for a refused connection, only the server's words."""


def failure_of(error: exc.DBAPIError, *, name: str) -> LedgerUnavailable | None:
    """As what an error of the server or the connection leaves the ledger `name`; None for a bug of ours."""
    state = _state(error.orig)
    said = _said(error)
    if state in _CONFLICTS:
        return WriteConflict(f"the ledger {name}: {said}")
    if (
        state.startswith("08") and "prepared statement" in said
    ):  # a statement of another session by the same name
        state = "26000"
    what_to_do = _what_to_do(_SAME.get(state, state))
    if what_to_do is None and state.startswith(_OURS):
        return None
    if what_to_do is None and _TOO_MANY.search(said):
        what_to_do = _WHAT_TO_DO["53300"]
    if what_to_do is None and (not state or state.startswith(_NOT_REACHED)):
        return LedgerNotReached(f"the server of the ledger {name} is not reached: {said}")
    return LedgerUnavailable(f"the ledger {name} cannot be used: {said}", what_to_do=what_to_do)


def is_lost(error: exc.DBAPIError) -> bool:
    """Whether the connection has broken, and the server refuses nothing: another connection may do at once."""
    state = _state(error.orig)
    return error.connection_invalidated and (not state or state.startswith(_NOT_REACHED))


def lost(error: exc.DBAPIError, *, name: str) -> WriteConflict:
    """Of such an error in the middle of a transaction: the server undoes it."""
    said = f"the connection to the ledger {name} broke: {_said(error)}"
    return WriteConflict(said, what_to_do=LedgerNotReached.what_to_do)


def drop_connections_when_refused(engine: sa.Engine) -> None:
    """Let the engine use no connection again that is older than a refusal by the server."""

    def judge(context: sa.engine.ExceptionContext) -> None:
        context.is_disconnect |= _state(context.original_exception).startswith(_OF_SERVER)

    event.listen(engine, "handle_error", judge)


def _state(error: BaseException | None) -> str:
    return getattr(error, "sqlstate", None) or ""


def _said(error: exc.DBAPIError) -> str:
    return " ".join(str(error.orig).split())


def _what_to_do(state: str) -> str | None:
    return _WHAT_TO_DO.get(state) or _WHAT_TO_DO.get(state[:2])
