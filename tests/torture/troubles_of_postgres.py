"""What stops a ledger on PostgreSQL, as `troubles` has it.

A full disk is not among them: it stops only what finds no room in the pages of the tables (see `fleet`, and
`test_full_server`).
"""

import functools
from collections.abc import Callable, Sequence

from tests.postgres import GUARDED, BadNetwork, PostgresServer, plain_engine, running_pair
from tests.torture.troubles import TROUBLES, Said, Stage, Trouble, full_ledger


def behind_network(change: Callable[[BadNetwork], object]) -> Callable[[Stage], None]:
    """A network before the server that fails later."""

    def arrange(stage: Stage) -> None:
        assert stage.server is not None
        network = stage.opened.enter_context(BadNetwork(stage.server.folder).working())
        stage.opened.callback(network.flow)
        stage.set(KLING_LEDGER_URL=network.url(_database(stage)))
        stage.later(functools.partial(change, network))

    return arrange


def refuse(network: BadNetwork) -> None:
    network.is_refusing = True
    network.cut()


def said_to_server(statement: str, *, user: str = "postgres") -> Callable[[Stage], None]:
    """An operator says it later, and all sessions end. `{database}` is the ledger's."""

    def arrange(stage: Stage) -> None:
        assert stage.server is not None
        database = _database(stage)
        if user != "postgres":
            _say(stage.server, f"CREATE ROLE {user} LOGIN SUPERUSER PASSWORD 'right'")
            url = stage.server.url(database).replace("postgres@", f"{user}:right@")
            stage.set(KLING_LEDGER_URL=url)
        words = statement.format(database=database, user=user)
        stage.later(functools.partial(_say_and_end, stage.server, words, database=database))

    return arrange


def _say(server: PostgresServer, statement: str) -> None:
    engine = plain_engine(server.url("postgres"))
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def _say_and_end(server: PostgresServer, statement: str, *, database: str) -> None:
    _say(server, statement)
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
    _say(server, f"{end}'{database}'")


def _database(stage: Stage) -> str:
    return stage.site.environment["KLING_LEDGER_URL"].partition("?")[0].rpartition("/")[2]


def no_standby(stage: Stage) -> None:
    """A pair of its own; its standby dies."""
    pair = stage.opened.enter_context(running_pair())
    stage.set(KLING_LEDGER_URL=pair.url(pair.create_database()))
    stage.later(pair.standby.kill)


def no_primary(stage: Stage) -> None:
    """The same; the other one dies, and an address leads to the standby."""
    pair = stage.opened.enter_context(running_pair())
    stage.set(KLING_LEDGER_URL=f"postgresql://postgres@/{pair.create_database()}?host={pair.folder}")

    def begin() -> None:
        pair.primary.kill()
        pair.point_at(pair.standby)

    stage.later(begin)


def _closed(advice: str) -> Said:
    return Said("door_closed", advice=advice)


_OF_POSTGRES = (
    Trouble("PostgreSQL: not reached", behind_network(refuse), _closed("Start the PostgreSQL server")),
    Trouble("PostgreSQL: never answers", behind_network(BadNetwork.hang), _closed("")),
    Trouble("PostgreSQL: only its standby is left", no_primary, _closed("The server only reads")),
    Trouble("PostgreSQL: its standby is gone", no_standby, _closed("synchronous_standby_names")),
    Trouble(
        "PostgreSQL: another password",
        said_to_server("ALTER ROLE {user} PASSWORD 'new'", user=GUARDED),
        _closed("Correct user and password"),
    ),
    Trouble(
        "PostgreSQL: too many connections",
        said_to_server(
            "ALTER DATABASE {database} CONNECTION LIMIT 0; ALTER ROLE {user} NOSUPERUSER", user="limited"
        ),
        _closed("max_connections"),
    ),
    Trouble(
        "PostgreSQL: the database is closed",
        said_to_server("ALTER DATABASE {database} ALLOW_CONNECTIONS false"),
        _closed("ALLOW_CONNECTIONS"),
    ),
)
TROUBLES_ON_POSTGRES: Sequence[Trouble] = (
    *(trouble for trouble in TROUBLES if trouble.arrange is not full_ledger),
    *_OF_POSTGRES,
)
