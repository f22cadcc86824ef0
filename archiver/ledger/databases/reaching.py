"""Whether a PostgreSQL server can hold a ledger: looked at once when it is opened, and said in a sentence.

The driver has no code for a refused connection, only the server's words. They are English unless the server was set up
otherwise, so words that are not known here are passed on with the setting to look at.
"""

import re

import sqlalchemy as sa
from sqlalchemy import exc

from archiver.failures import LedgerNotReached
from archiver.ledger.databases.errors import LedgerUnusable

VERSION_MIN = 15
"""The oldest that the tests run on."""

_REFUSALS = (
    (
        re.compile(r"password authentication failed|no password supplied|role \".*\" does not exist"),
        "Correct user and password in KLING_LEDGER_URL (in a password, write %40 for @ and %2F for /)",
    ),
    (
        re.compile(r"no pg_hba\.conf entry"),
        "Let the server's pg_hba.conf admit this machine and user, or name others in KLING_LEDGER_URL",
    ),
    (
        re.compile(r"database \".*\" does not exist"),
        "Create the database (CREATE DATABASE … ENCODING 'UTF8'), or name another in KLING_LEDGER_URL",
    ),
    (
        re.compile(r"permission denied for database"),
        "GRANT CONNECT on the database to the user, or name others in KLING_LEDGER_URL",
    ),
)
"""What only an operator can change; anything else may pass."""

_FACTS = sa.text(
    "SELECT current_setting('server_version_num')::int AS version, current_setting('server_encoding') AS encoding,"
    " current_user AS username, current_schema() AS schema, to_regclass('alembic_version') IS NOT NULL AS has_ledger,"
    " coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create"
)


def require_fit(engine: sa.Engine, *, name: str, create: bool) -> bool:
    """Whether the server has a ledger, of whatever schema.

    Raises LedgerUnusable if it cannot hold one (with `create`: cannot be given one), LedgerNotReached if it does not
    answer now.
    """
    facts = _facts(engine, name=name)
    if facts.version < VERSION_MIN * 10_000:
        raise LedgerUnusable(
            f"the server of the ledger {name} is PostgreSQL {facts.version // 10_000}: KLING_LEDGER_URL must name one "
            f"of version {VERSION_MIN} or newer"
        )
    if facts.encoding != "UTF8":
        raise LedgerUnusable(
            f"the database of the ledger {name} has the encoding {facts.encoding}: create one with ENCODING 'UTF8', "
            "and name it in KLING_LEDGER_URL"
        )
    if create and not facts.has_ledger and not facts.may_create:
        where = f"the schema {facts.schema}" if facts.schema else "any schema of its search_path"
        raise LedgerUnusable(
            f"the user {facts.username} may not create tables in {where} of the ledger {name}: make it the owner of "
            f"the database, or GRANT CREATE ON SCHEMA {facts.schema or 'public'} TO {facts.username}, or name another "
            "user in KLING_LEDGER_URL"
        )
    return bool(facts.has_ledger)


def _facts(engine: sa.Engine, *, name: str) -> sa.Row[tuple[object, ...]]:
    try:
        with engine.connect() as connection:
            return connection.execute(_FACTS).one()
    except exc.DBAPIError as error:
        # Of several addresses tried, the last; the server is named already.
        said = " ".join(str(error.orig).replace("connection failed: ", "").split())
        for words, what_to_do in _REFUSALS:
            if words.search(said):
                raise LedgerUnusable(f"the ledger {name} cannot be opened: {said}. {what_to_do}") from error
        raise LedgerNotReached(f"the server of the ledger {name} is not reached: {said}") from error
