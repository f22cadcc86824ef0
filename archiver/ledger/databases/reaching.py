"""Where a PostgreSQL ledger is, and whether its server can hold one. Checked once when the ledger is opened; a refusal
is a sentence for the operator."""

import dataclasses
import urllib.parse
from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy import exc

from archiver.failures import LedgerUnavailable
from archiver.ledger.databases.errors import LedgerRefused, LedgerUnfit, LedgerUnusable
from archiver.ledger.databases.limits import CONNECT_OPTIONS
from archiver.ledger.databases.refusals import failure_of, refusal_of

VERSION_MIN = 15
"""The oldest version that the tests run on."""

_FACTS = sa.text(
    "SELECT current_setting('server_version_num')::int AS version, current_setting('server_encoding') AS encoding,"
    " current_user AS username, current_schema() AS schema, to_regclass('alembic_version') IS NOT NULL AS has_ledger,"
    " coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create"
)


def require_fit(engine: sa.Engine, *, name: str, create: bool) -> bool:
    """Whether the server has a ledger, of whatever schema.

    Raises LedgerUnfit if it cannot hold one (with `create`: cannot be given one), LedgerUnavailable if it cannot
    answer now.
    """
    facts = _facts(engine, name=name)
    if facts.version < VERSION_MIN * 10_000:
        raise LedgerUnfit(
            f"the server of the ledger {name} is PostgreSQL {facts.version // 10_000}: KLING_LEDGER_URL must name one "
            f"of version {VERSION_MIN} or newer"
        )
    if facts.encoding != "UTF8":
        raise LedgerUnfit(
            f"the database of the ledger {name} has the encoding {facts.encoding}: create one with ENCODING 'UTF8', "
            "and name it in KLING_LEDGER_URL"
        )
    if create and not facts.has_ledger and not facts.may_create:
        where = f"the schema {facts.schema}" if facts.schema else "any schema of its search_path"
        raise LedgerUnfit(
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
        if refusal := refusal_of(error):
            said = f"the ledger {name} cannot be opened: {refusal.said}"
            raise LedgerRefused(said, what_to_do=refusal.what_to_do) from error
        raise failure_of(error, name=name) or LedgerUnavailable(
            f"the ledger {name} cannot be used: {error.orig}"
        ) from error


@dataclasses.dataclass(frozen=True, slots=True)
class Location:
    """Where to connect."""

    url: sa.URL
    options: Mapping[str, int | str | None]
    """Further options of the driver."""

    @property
    def name(self) -> str:
        """The name in messages: without password and options."""
        shown = self.url.set(drivername="postgresql", query={})
        if host := self.url.query.get("host"):
            shown = shown.set(query={"host": host})
        return shown.render_as_string(hide_password=True)


def location_of(url: str) -> Location:
    """What the URL names. Raises LedgerUnusable.

    `prepare_threshold=none` makes no prepared statements, a number makes them behind a pooler too.
    """
    try:
        location = sa.make_url(_with_hosts_apart(url)).set(drivername="postgresql+psycopg")
    except (exc.ArgumentError, ValueError):  # its words may contain the password
        raise LedgerUnusable("KLING_LEDGER_URL is no URL of a PostgreSQL database") from None
    options: dict[str, int | str | None] = {
        name: value for name, value in CONNECT_OPTIONS.items() if name not in location.query
    }
    if isinstance(location.query.get("host"), tuple) and "target_session_attrs" not in location.query:
        options["target_session_attrs"] = "read-write"
    threshold = location.query.get("prepare_threshold")
    if threshold is None:
        return Location(location, options)
    if not isinstance(threshold, str) or not (threshold == "none" or threshold.isdecimal()):
        raise LedgerUnusable("prepare_threshold in KLING_LEDGER_URL must be a number, or none")
    options["prepare_threshold"] = None if threshold == "none" else int(threshold)
    return Location(location.difference_update_query(["prepare_threshold"]), options)


def _with_hosts_apart(url: str) -> str:
    """`USER@HOST:PORT,HOST:PORT/…`, as libpq writes several hosts, in the way that SQLAlchemy knows."""
    parts = urllib.parse.urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return url
    query = "&".join([*filter(None, [parts.query]), *(f"host={host}" for host in hosts.split(","))])
    return parts._replace(netloc=user + at, query=query).geturl()
