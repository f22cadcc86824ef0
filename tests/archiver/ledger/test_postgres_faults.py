"""PostgreSQL going away in every way: what a call says then, what it has done, and that the next one works by itself.

Time-outs are injected, so nothing here waits for long.
"""

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from archiver.failures import LedgerNotReached, LedgerUnavailable
from archiver.ledger import Ledger
from archiver.ledger.databases.postgres import PostgresDatabase
from archiver.ledger.databases.protocol import WriteConflict
from archiver.model import Callback, DiscoveredBy, State, Status
from archiver.problems import Expected, door_closed, look
from tests.harness.ledgers import ACCOUNT, FAMILY, RAND, START, Desk, answer, claim_archive, stored
from tests.postgres import GUARDED, BadNetwork, BlankDatabase, Fate, PostgresServer, plain_engine

FIRST_SECONDS = 0.15
SECONDS_MAX = 0.5
LONG_SECONDS = 30.0


class Remote:
    """A ledger behind a bad network, and the same database seen without it."""

    def __init__(self, network: BadNetwork, blank: BlankDatabase) -> None:
        self.network = network
        self.desk = Desk(blank)
        (row,) = self.desk.rows("SELECT current_database() AS name")
        self.name = str(row["name"])
        self.database = self.connect()
        self.ledger = Ledger(self.database, now=self.desk.clock)

    def connect(self, *, user: str = "postgres", options: str = "") -> PostgresDatabase:
        url = self.network.url(self.name).replace("postgres@", f"{user}@") + f"?connect_timeout=5{options}"
        return PostgresDatabase(
            url, busy_seconds=0.2, first_answer_seconds=FIRST_SECONDS, seconds_max=LONG_SECONDS
        )

    def hurry(self) -> None:
        """A server that hangs is given up soon: not set from the beginning, since a slow machine hangs too."""
        self.database._seconds_max = SECONDS_MAX  # noqa: SLF001 -- in the middle of a test

    def end_sessions(self) -> None:
        """All but the test's own."""
        self.desk.by_hand.rows(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def close(self) -> None:
        self.database.close()
        self.desk.close()


@pytest.fixture
def remote(postgres_server: PostgresServer, blank_database: BlankDatabase) -> Iterator[Remote]:
    with BadNetwork(postgres_server.folder).working() as network:
        made = Remote(network, blank_database)
        yield made
        made.close()


# --- representative calls ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Call:
    """A public method of the ledger, and how a look at the rows shows that it was done."""

    prepare: Callable[[Remote], Callable[[], object]]
    has_happened: Callable[[Remote], bool]


def tell(remote: Remote) -> Callable[[], object]:
    return lambda: remote.ledger.callbacks.record([Callback(ACCOUNT, "t", Status.SUCCEEDED, FAMILY)])


def record(remote: Remote) -> Callable[[], object]:
    return lambda: remote.ledger.records.record(
        [answer()], account=ACCOUNT, discovered_by=DiscoveredBy.SWEEP, rand=RAND
    )


def claim(remote: Remote) -> Callable[[], object]:
    remote.desk.bring(State.SUCCEEDED)
    return lambda: claim_archive(remote.ledger, count=1, account=ACCOUNT)


def archive(remote: Remote) -> Callable[[], object]:
    remote.desk.bring(State.SUCCEEDED)
    (lease,) = claim_archive(remote.ledger, count=1, account=ACCOUNT)
    return lambda: remote.ledger.outcomes.archived(
        lease, manifest_key="m", archived_at=START, stored=[stored()]
    )


def beat(remote: Remote) -> Callable[[], object]:
    return lambda: remote.ledger.daemons.beat("d", version="1", started_at=START)


def finds(query: str) -> Callable[[Remote], bool]:
    return lambda remote: bool(remote.desk.rows(query))


CALLS = {
    "callback": Call(tell, finds("SELECT 1 FROM tasks")),
    "answer": Call(record, finds("SELECT 1 FROM assets")),
    "claim": Call(claim, finds("SELECT 1 FROM tasks WHERE lease_token IS NOT NULL")),
    "archived": Call(archive, finds("SELECT 1 FROM tasks WHERE state = 'archived'")),
    "beat": Call(beat, finds("SELECT 1 FROM daemons")),
}
CALL_NAMES = list(CALLS)


# --- faults that a caller does not notice -----------------------------------------------------------------------


def idle_connections_break(remote: Remote) -> None:
    assert remote.network.cut()


def idle_sessions_are_ended(remote: Remote) -> None:
    remote.end_sessions()


def idle_connections_say_nothing_more(remote: Remote) -> None:
    """As behind a firewall that has forgotten them; new ones get through."""
    remote.network.hang_present()


def the_connection_breaks_in_the_middle(remote: Remote) -> None:
    remote.network.once(b"tasks", Fate.LOST)


def an_answer_is_lost_in_the_middle(remote: Remote) -> None:
    remote.network.once(b"tasks", Fate.UNANSWERED)


def a_serialization_failure(remote: Remote) -> None:
    raise_in_server(remote, "40001", times=2)


def a_deadlock(remote: Remote) -> None:
    raise_in_server(remote, "40P01", times=2)


def raise_in_server(remote: Remote, state: str, *, times: int = 1_000_000) -> None:
    """The next writes of tasks fail with this SQLSTATE. A sequence counts them, which no rollback sets back."""
    remote.desk.by_hand.write_script(
        f"CREATE SEQUENCE raised; CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF nextval('raised') <= {times} THEN RAISE EXCEPTION 'provoked' USING ERRCODE = '{state}'; END IF;"
        f" RETURN NULL; END $$; CREATE TRIGGER fail AFTER INSERT OR UPDATE ON tasks EXECUTE FUNCTION fail()"
    )


@pytest.fixture(autouse=True)
def _no_trigger_stays(remote: Remote) -> Iterator[None]:
    yield
    remote.desk.by_hand.write_script(
        "DROP TRIGGER IF EXISTS fail ON tasks; DROP FUNCTION IF EXISTS fail; DROP SEQUENCE IF EXISTS raised"
    )


@pytest.mark.parametrize(
    "fault",
    [
        idle_connections_break,
        idle_sessions_are_ended,
        idle_connections_say_nothing_more,
        the_connection_breaks_in_the_middle,
        an_answer_is_lost_in_the_middle,
        a_serialization_failure,
        a_deadlock,
    ],
)
@pytest.mark.parametrize("name", CALL_NAMES)
def test_what_certainly_did_not_happen_is_done_again_within_the_call(
    remote: Remote, name: str, fault: Callable[[Remote], None]
) -> None:
    call = CALLS[name].prepare(remote)
    remote.ledger.daemons.ping()
    fault(remote)

    call()

    assert CALLS[name].has_happened(remote)


# --- COMMIT ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fate", "has_happened"), [(Fate.LOST, False), (Fate.UNANSWERED, True)])
@pytest.mark.parametrize("name", CALL_NAMES)
def test_a_commit_without_an_answer_is_unavailable_whether_or_not_it_happened(
    remote: Remote, name: str, fate: Fate, *, has_happened: bool
) -> None:
    call = CALLS[name].prepare(remote)
    remote.network.once(b"COMMIT\0", fate)

    with pytest.raises(LedgerNotReached) as caught:
        call()

    assert not isinstance(caught.value, WriteConflict)
    assert CALLS[name].has_happened(remote) is has_happened


def test_a_callback_that_is_repeated_after_its_commit_had_no_answer_is_one_task(remote: Remote) -> None:
    remote.network.once(b"COMMIT\0", Fate.UNANSWERED)
    with pytest.raises(LedgerUnavailable):
        tell(remote)()

    tell(remote)()

    assert [row["callbacks"] for row in remote.desk.rows("SELECT callbacks FROM tasks")] == [2]


# --- faults that last --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def nobody_listens(remote: Remote) -> Iterator[None]:
    remote.network.is_refusing = True
    remote.network.cut()
    yield
    remote.network.is_refusing = False


@contextlib.contextmanager
def nothing_is_answered(remote: Remote) -> Iterator[None]:
    remote.hurry()
    remote.network.hang()
    yield
    remote.network.flow()
    remote.database._seconds_max = LONG_SECONDS  # noqa: SLF001 -- as in `hurry`


@contextlib.contextmanager
def the_server_is_read_only(remote: Remote) -> Iterator[None]:
    """As a standby is. Sessions that have begun so stay so."""
    setting = f"ALTER DATABASE {remote.name} SET default_transaction_read_only"
    remote.desk.by_hand.write(f"{setting} = on")
    remote.end_sessions()
    try:
        yield
    finally:
        remote.desk.by_hand.write(f"{setting} = off")


@contextlib.contextmanager
def the_rows_are_locked(remote: Remote) -> Iterator[None]:
    connection = remote.desk.ledger.database
    with connection.read() as other:
        other.execute(sa.text("LOCK TABLE tasks, daemons IN EXCLUSIVE MODE"))
        yield


def refuses(state: str) -> Callable[[Remote], contextlib.AbstractContextManager[None]]:
    """The server ends each write with this SQLSTATE."""

    @contextlib.contextmanager
    def refusing(remote: Remote) -> Iterator[None]:
        raise_in_server(remote, state)
        yield
        remote.desk.by_hand.write("DROP TRIGGER fail ON tasks")

    return refusing


def lets_nobody_in(
    closes: str, opens: str, *, user: str = "limited"
) -> Callable[[Remote], contextlib.AbstractContextManager[None]]:
    """An operator says `closes` while a process runs, and its sessions end; `opens` takes that back."""

    @contextlib.contextmanager
    def closed(remote: Remote) -> Iterator[None]:
        by_hand = remote.desk.by_hand
        grants = "IN ROLE pg_read_all_data, pg_write_all_data"
        by_hand.write(f"CREATE ROLE {user.partition(':')[0]} LOGIN PASSWORD 'right' {grants}")
        ledger = Ledger(remote.connect(user=user), now=remote.desk.clock)
        remote.database.close()
        remote.ledger = ledger
        try:
            ledger.daemons.ping()
            say(remote, closes)
            remote.end_sessions()
            yield
            say(remote, opens)
            ledger.daemons.ping()
        finally:
            say(remote, opens)
            ledger.close()
            remote.ledger = Ledger(remote.database, now=remote.desk.clock)
            remote.end_sessions()
            by_hand.write(f"DROP OWNED BY {user.partition(':')[0]}")
            by_hand.write(f"DROP ROLE {user.partition(':')[0]}")

    return closed


def say(remote: Remote, statement: str) -> None:
    """Of the server, in another database."""
    beside = plain_engine(remote.desk.by_hand.url.replace(remote.name, "postgres"))
    with beside.connect() as connection:
        connection.exec_driver_sql(statement.replace("DATABASE d", f"DATABASE {remote.name}"))
    beside.dispose()


LASTING: dict[str, tuple[Callable[[Remote], contextlib.AbstractContextManager[None]], str]] = {
    "not listening": (nobody_listens, "Start the PostgreSQL server"),
    "hanging": (nothing_is_answered, "Start the PostgreSQL server"),
    "read-only": (the_server_is_read_only, "The server only reads"),
    "locked": (the_rows_are_locked, "Another program locks"),
    "too many connections": (
        lets_nobody_in("ALTER ROLE limited CONNECTION LIMIT 0", "ALTER ROLE limited CONNECTION LIMIT 9"),
        "max_connections",
    ),
    "another password": (
        lets_nobody_in(
            f"ALTER ROLE {GUARDED} PASSWORD 'new'",
            f"ALTER ROLE {GUARDED} PASSWORD 'right'",
            user=f"{GUARDED}:right",
        ),
        "Correct user and password in KLING_LEDGER_URL",
    ),
    "no login": (
        lets_nobody_in("ALTER ROLE limited NOLOGIN", "ALTER ROLE limited LOGIN"),
        "ALTER ROLE … LOGIN",
    ),
    "no right to connect": (
        lets_nobody_in(
            "REVOKE CONNECT ON DATABASE d FROM PUBLIC",
            "GRANT CONNECT ON DATABASE d TO PUBLIC",
        ),
        "GRANT CONNECT",
    ),
    "disk full": (refuses("53100"), "Make room on the disk of the PostgreSQL server"),
    "out of memory": (refuses("53200"), "lacks something"),
    "shutting down": (refuses("57P01"), "Start the PostgreSQL server"),
    "cancelled": (refuses("57014"), "pg_stat_activity"),
    "file broken": (refuses("58030"), "cannot use its files"),
    "damaged": (refuses("XX001"), "restore a backup"),
    "no right": (refuses("42501"), "GRANT"),
    "moved": (refuses("42P01"), "has been moved"),
    "prepared by another": (refuses("42P05"), "prepare_threshold=none"),
    "not prepared": (refuses("26000"), "prepare_threshold=none"),
}


@pytest.mark.parametrize("fault", list(LASTING))
def test_a_fault_that_lasts_is_not_now_with_what_to_do_and_ends_by_itself(remote: Remote, fault: str) -> None:
    begin, words = LASTING[fault]
    remote.ledger.daemons.ping()
    began = time.monotonic()

    with begin(remote):
        with pytest.raises(LedgerUnavailable) as caught:
            tell(remote)()
        assert words in caught.value.what_to_do
        assert words in door_closed(caught.value).what_to_do
        assert not CALLS["callback"].has_happened(remote)
        with pytest.raises(LedgerUnavailable):  # so `/readyz` and `status` know of it
            remote.ledger.daemons.ping()

    assert time.monotonic() - began < LONG_SECONDS
    for name in ("callback", "answer", "beat"):
        CALLS[name].prepare(remote)()
        assert CALLS[name].has_happened(remote)


def test_a_server_that_only_reads_can_still_be_looked_at_and_its_door_is_closed(remote: Remote) -> None:
    with the_server_is_read_only(remote):
        view, problems = look(remote.ledger, Expected({ACCOUNT: [FAMILY]}, sweep_interval_ms=1))

    assert view is not None
    assert (problems[0].code, "only reads" in problems[0].what_to_do) == ("door_closed", True)


def test_a_hanging_session_of_the_server_delays_no_other(remote: Remote) -> None:
    with remote.database.read() as connection:
        pid = connection.execute(sa.select(sa.func.pg_backend_pid())).scalar_one()
    os.kill(pid, signal.SIGSTOP)
    try:
        tell(remote)()
    finally:
        os.kill(pid, signal.SIGCONT)

    assert remote.desk.state() is State.REPORTED


def test_a_client_that_stands_still_in_a_transaction_loses_its_locks(remote: Remote) -> None:
    remote.desk.tell()
    idle = "idle_in_transaction_session_timeout"
    with contextlib.suppress(LedgerUnavailable), remote.database.write() as connection:
        seconds = sa.select(sa.extract("epoch", sa.cast(sa.func.current_setting(idle), sa.Interval)))
        assert 0 < connection.execute(seconds).scalar_one() <= LONG_SECONDS
        connection.execute(sa.text("UPDATE tasks SET message = 'x'"))
        connection.execute(sa.text(f"SET LOCAL {idle} = '20ms'"))
        slow = PostgresDatabase(remote.desk.by_hand.url, busy_seconds=LONG_SECONDS)
        Ledger(slow, now=remote.desk.clock).callbacks.record(
            [Callback(ACCOUNT, "t", Status.SUCCEEDED, FAMILY)]
        )
        slow.close()

    (row,) = remote.desk.rows("SELECT message, callbacks FROM tasks")
    assert (row["message"], row["callbacks"]) == (None, 2)


@pytest.mark.parametrize(
    ("is_pooled", "option", "has_some"),
    [(False, "", True), (True, "", False), (True, "&prepare_threshold=1", True)],
)
def test_behind_a_pooler_no_statement_is_prepared_unless_the_url_says_so(
    remote: Remote, option: str, *, is_pooled: bool, has_some: bool
) -> None:
    remote.network.hides_sessions = is_pooled
    database = remote.connect(options=option)
    prepared = sa.select(sa.func.count()).select_from(sa.table("pg_prepared_statements"))
    for _ in range(8):
        with database.read() as connection:
            count = connection.execute(prepared).scalar_one()
    database.close()

    assert (count > 0) is has_some


def test_of_several_servers_one_that_writes_is_taken(remote: Remote) -> None:
    """As libpq writes them, and with its option for the first one that is no standby."""
    several = remote.network.url(remote.name).replace("@", "@127.0.0.1:1,")
    database = PostgresDatabase(several)
    ledger = Ledger(database, now=remote.desk.clock)

    ledger.daemons.ping()
    with the_server_is_read_only(remote), pytest.raises(LedgerUnavailable, match="read-only"):
        ledger.daemons.ping()
    ledger.daemons.ping()
    ledger.close()

    assert several.partition("@")[2].partition("/")[0] not in database.name
    assert database.name.endswith(f"/{remote.name}?host=127.0.0.1%3A1&host=127.0.0.1%3A{remote.network.port}")
