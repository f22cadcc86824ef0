"""What a PostgreSQL server's refusal means, by its SQLSTATE: begin again, wait, or a bug of ours."""

import dataclasses
import re

import sqlalchemy as sa
from sqlalchemy import event, exc

from archiver.failures import LedgerNotReached, LedgerUnavailable
from archiver.ledger.databases.protocol import PROCESS_CONNECTIONS_MAX, WriteConflict

_CONFLICTS = frozenset({"40001", "40P01"})
"""Serialization failure, deadlock."""

_OURS = ("22", "23", "42")

_WHAT_TO_DO = {
    "25006": (
        "The server only reads, as a standby does: set KLING_LEDGER_URL to the server that accepts writes, or to all "
        "servers (postgresql://USER@HOST,HOST/DATABASE)."
    ),
    "25P": (
        "The server ended a transaction that took too long: look into pg_stat_activity for what is slow, and check the "
        "time-outs of the user in KLING_LEDGER_URL and of the database."
    ),
    "26000": "The pooler keeps no prepared statements: add ?prepare_threshold=none to KLING_LEDGER_URL.",
    "42501": "GRANT the user of KLING_LEDGER_URL all rights on the ledger's tables and sequences.",
    "42P01": (
        "The ledger has been moved, or the user has another search_path: set KLING_LEDGER_URL to where the ledger is "
        "now, and restart."
    ),
    "53": "The PostgreSQL server lacks something: look into its log.",
    "53100": "Make room on the disk of the PostgreSQL server.",
    "53300": (
        f"Raise max_connections of the PostgreSQL server (a process uses up to {PROCESS_CONNECTIONS_MAX}), "
        "put PgBouncer before it, or run fewer processes."
    ),
    "55P03": (
        "Another program locks the ledger's rows or tables, or COMMIT waits for a standby that is away (wait_event "
        "SyncRep): look for it in pg_stat_activity."
    ),
    "57014": "The server is slow, or another program locks the ledger: look into pg_stat_activity.",
    "58": "The PostgreSQL server cannot use its files: look into its log.",
    "XX": "The PostgreSQL server finds its files damaged: look into its log, and restore a backup.",
}
"""SQLSTATE, or its class."""

_STANDBY_TO_DO = (
    "Start the standby that synchronous_standby_names waits for (pg_stat_replication shows those that run), or correct "
    "that setting; if the PostgreSQL server itself hangs, restart it."
)
_NONE_WRITES_TO_DO = (
    "None of the servers in KLING_LEDGER_URL accepts writes: promote the standby, or start the primary."
)

_SAME = {"42P05": "26000"}
"""A prepared statement of that name exists already."""

_NOT_REACHED = ("08", "57P")
"""Connection lost; the server shuts down or starts."""

_OF_SERVER = ("25006", "53", "57P", "58", "XX")
"""Errors that concern every statement, not only this one."""

_TOO_MANY = re.compile(
    r"too many (clients|connections)|connection slots are reserved|no more connections allowed"
)
_NONE_WRITES = re.compile(r"session is read-only|server is in hot standby mode")
_REFUSED = (
    (
        re.compile(r"password authentication failed|no password supplied|role \".*\" does not exist"),
        "Correct user and password in KLING_LEDGER_URL (in a password, write %40 for @ and %2F for /).",
    ),
    (
        re.compile(r"role \".*\" is not permitted to log in"),
        "ALTER ROLE … LOGIN, or name another user in KLING_LEDGER_URL.",
    ),
    (
        re.compile(r"no pg_hba\.conf entry|pg_hba\.conf rejects connection"),
        "Let the server's pg_hba.conf admit this machine and user, or name others in KLING_LEDGER_URL.",
    ),
    (
        re.compile(r"database \".*\" does not exist"),
        "Create the database (CREATE DATABASE … ENCODING 'UTF8'), or name another in KLING_LEDGER_URL.",
    ),
    (
        re.compile(r"database \".*\" is not currently accepting connections"),
        "ALTER DATABASE … ALLOW_CONNECTIONS true, or name another in KLING_LEDGER_URL.",
    ),
    (
        re.compile(r"permission denied for database"),
        "GRANT CONNECT on the database to the user, or name others in KLING_LEDGER_URL.",
    ),
    (
        re.compile(r"SSL error|does not support SSL|server certificate for|root certificate file"),
        "Correct sslmode and sslrootcert in KLING_LEDGER_URL, or the certificate of the PostgreSQL server.",
    ),
)
"""Refusals that an operator can usually end; any other passes by itself.

The driver has no code for a refused connection, only the server's words. They are English unless the server was set up
otherwise, so words that are not known here are passed on with the setting to look at.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """Why a server refuses all logins, and what an operator can do about it."""

    said: str
    what_to_do: str


def refusal_of(error: exc.DBAPIError) -> Refusal | None:
    """The refusal of a connection, if it is lasting."""
    if _state(error.orig):
        return None
    # The last of several tried addresses; the message names the server already.
    said = _said(error).replace("connection failed: ", "")
    matching = (what_to_do for words, what_to_do in _REFUSED if words.search(said))
    return next((Refusal(said, what_to_do) for what_to_do in matching), None)


def failure_of(error: exc.DBAPIError, *, name: str) -> LedgerUnavailable | None:
    """The failure that an error of the server or the connection means for the ledger `name`; None if it is a bug of
    ours."""
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
    if what_to_do is None and (refusal := refusal_of(error)):
        what_to_do = refusal.what_to_do
    if what_to_do is None and not state and _NONE_WRITES.search(said):
        what_to_do = _NONE_WRITES_TO_DO
    if what_to_do is None and (not state or state.startswith(_NOT_REACHED)):
        return LedgerNotReached(f"the server of the ledger {name} is not reached: {said}")
    return LedgerUnavailable(f"the ledger {name} cannot be used: {said}", what_to_do=what_to_do)


def is_lost(error: exc.DBAPIError) -> bool:
    """Whether only the connection has broken: another connection may work at once."""
    state = _state(error.orig)
    return error.connection_invalidated and (not state or state.startswith(_NOT_REACHED))


def lost(error: exc.DBAPIError, *, name: str) -> WriteConflict:
    """The error for a connection that broke in the middle of a transaction: the server undoes the transaction."""
    said = f"the connection to the ledger {name} broke: {_said(error)}"
    return WriteConflict(said, what_to_do=LedgerNotReached.what_to_do)


def unanswered_commit(*, name: str) -> LedgerUnavailable:
    """The server took COMMIT, and has not answered in time."""
    return LedgerUnavailable(
        f"the server of the ledger {name} has not answered COMMIT in time", what_to_do=_STANDBY_TO_DO
    )


def unreplicated(*, name: str) -> LedgerUnavailable:
    """The error for a commit without the standby: a failover to the standby would lose it."""
    return LedgerUnavailable(
        f"the server of the ledger {name} committed without its standby", what_to_do=_STANDBY_TO_DO
    )


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
    return _WHAT_TO_DO.get(state) or _WHAT_TO_DO.get(state[:3]) or _WHAT_TO_DO.get(state[:2])
