"""What is PostgreSQL's own: its schema, several daemons, a server that goes away and comes back."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from archiver.failures import LedgerNotReached, LedgerUnavailable
from archiver.ledger import Ledger, LedgerMissing, LedgerUnusable, unix_ms
from archiver.ledger.claims import LEASE_SECONDS, TAKEOVER_SECONDS
from archiver.ledger.databases import reaching
from archiver.ledger.databases.clock import ServerClock
from archiver.ledger.databases.opening import perishable_file, require_usable
from archiver.ledger.databases.postgres import PostgresDatabase
from archiver.ledger.databases.protocol import WriteConflict
from archiver.ledger.migrations import revisions
from archiver.ledger.tables import schema
from archiver.ledger.tables.named_values import LAST_CALLBACK_AT, set_named_value
from archiver.model import Callback, DiscoveredBy, Stage, State, Status
from tests.harness.ledgers import ACCOUNT, FAMILY, RAND, SECOND, START, Clock, Desk, answer, claim_archive
from tests.postgres import (
    GUARDED,
    SUITE_VERSION,
    BlankDatabase,
    PostgresServer,
    installed_versions,
    plain_engine,
    running_postgres,
)


@pytest.fixture
def desk(blank_database: BlankDatabase) -> Iterator[Desk]:
    made = Desk(blank_database)
    yield made
    made.close()


@pytest.fixture
def empty_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database without any table."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


# --- schema -----------------------------------------------------------------------------------------------------

_COLUMNS = (
    "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
    " WHERE table_schema = 'public'"
)
_INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
_CONSTRAINTS = (
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace AND contype <> 'n'"
)
_ROW_IDS = {"id", "task"}


def asked(url: str, query: str) -> list[tuple[Any, ...]]:
    engine = plain_engine(url)
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.exec_driver_sql(query)]
    engine.dispose()
    return rows


def schema_at(url: str) -> list[set[tuple[Any, ...]]]:
    """Columns, indexes and constraints."""
    return [set(asked(url, query)) for query in (_COLUMNS, _INDEXES, _CONSTRAINTS)]


def test_a_new_ledger_has_the_schema_that_all_revisions_together_make(
    blank_database: BlankDatabase, empty_url: str
) -> None:
    engine = plain_engine(empty_url)
    with engine.begin() as connection:
        revisions.run(connection, revisions.newest())
    engine.dispose()

    assert schema_at(blank_database.url) == schema_at(empty_url)


def test_rows_are_numbered_by_eight_bytes(blank_database: BlankDatabase) -> None:
    columns = asked(blank_database.url, _COLUMNS)
    widths = {(name, kind) for _, name, kind, *_ in columns if name in _ROW_IDS}

    assert widths == {("id", "bigint"), ("task", "bigint"), ("id", "text")}


def test_daemons_that_start_at_once_on_an_empty_database_make_one_ledger(empty_url: str) -> None:
    errors: list[BaseException] = []
    together = threading.Barrier(4)

    def start() -> None:
        together.wait()
        try:
            Ledger.open(empty_url, daemon=True).close()
        except BaseException as error:  # noqa: BLE001 -- shown below
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert asked(empty_url, "SELECT count(*) FROM alembic_version") == [(1,)]


def test_a_command_makes_no_ledger_and_an_older_program_touches_no_newer_one(
    desk: Desk, empty_url: str
) -> None:
    with pytest.raises(LedgerMissing, match="start kling-receiver"):
        Ledger.open(empty_url, daemon=False)
    (ours,) = desk.rows("SELECT version_num FROM alembic_version")
    desk.by_hand.write("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(LedgerUnusable, match="written by a newer version"):
        Ledger.open(desk.by_hand.url, daemon=True)

    desk.by_hand.write("UPDATE alembic_version SET version_num = ?", ours["version_num"])


@pytest.mark.parametrize(
    "version", [version for version in sorted(installed_versions()) if version != SUITE_VERSION]
)
def test_a_task_lives_on_every_version_that_is_installed(version: int) -> None:
    with running_postgres(version=version) as server:
        database = BlankDatabase(server)
        desk = Desk(database)
        for state in (State.UNKNOWN, State.BURIED, State.FAILED, State.ARCHIVED, State.LOST):
            desk.bring(state, state)
        assert desk.ledger.views.status().states[State.ARCHIVED] == 1
        desk.close()
        database.close()


# --- several daemons --------------------------------------------------------------------------------------------


def test_a_starting_daemon_leaves_the_leases_of_living_ones_and_those_of_dead_ones_end(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    token = desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)
    assert token is not None
    lease = desk.claim(Stage.ARCHIVE)

    desk.reopen()

    assert desk.ledger.claims.renew([lease]) == {lease.row_id}
    assert desk.ledger.sweeps.renew(token)
    desk.clock.advance((LEASE_SECONDS + TAKEOVER_SECONDS) * SECOND)
    assert desk.claim(Stage.ARCHIVE).attempt == 2


def test_no_door_waits_for_another_to_say_when_the_last_callback_came(desk: Desk) -> None:
    desk.tell("first")
    other = Ledger.open(desk.by_hand.url, daemon=False, now=desk.clock, busy_seconds=0.2)
    with desk.ledger.database.write() as connection:
        set_named_value(connection, LAST_CALLBACK_AT, START + 1, even_if_locked=False)
        other.callbacks.record([Callback(ACCOUNT, "second", Status.SUCCEEDED, FAMILY)])
    other.close()

    assert desk.ledger.views.status().last_callback_at == START + 1


def test_what_waits_for_a_row_too_long_is_unavailable_and_no_conflict(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    other = Ledger.open(desk.by_hand.url, daemon=False, now=desk.clock, busy_seconds=0.2)
    with desk.ledger.database.write() as connection:
        connection.execute(sa.update(schema.tasks).values(message="x"))
        with pytest.raises(LedgerUnavailable, match="lock timeout") as caught:
            other.callbacks.record([Callback(ACCOUNT, "t", Status.SUCCEEDED, FAMILY)])
        assert not isinstance(caught.value, WriteConflict)
        assert other.callbacks.record([Callback(ACCOUNT, "new", Status.SUCCEEDED, FAMILY)])
    other.close()


def test_a_deadlock_is_undone_and_begun_again(desk: Desk) -> None:
    """Two transactions that write two rows in opposite orders: the server ends one of them."""
    for task_id in "ab":
        desk.tell(task_id)
    together = threading.Barrier(2)
    ended: list[str] = []

    def write(order: str) -> None:
        try:
            with desk.ledger.database.write() as connection:
                for place, task_id in enumerate(order):
                    row = sa.update(schema.tasks).where(schema.tasks.c.task_id == task_id)
                    connection.execute(row.values(message=order))
                    if not place:
                        together.wait(20)
        except WriteConflict:
            ended.append("conflict")
        else:
            ended.append("written")

    threads = [threading.Thread(target=write, args=(order,)) for order in ("ab", "ba")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(ended) == ["conflict", "written"]


@pytest.mark.parametrize(("option", "has_some"), [("", True), ("&prepare_threshold=none", False)])
def test_statements_are_prepared_unless_the_url_says_not_to(
    blank_database: BlankDatabase, option: str, has_some: bool
) -> None:
    database = PostgresDatabase(blank_database.url + option)
    prepared = sa.select(sa.func.count()).select_from(sa.table("pg_prepared_statements"))
    for _ in range(8):
        with database.read() as connection:
            count = connection.execute(prepared).scalar_one()
    database.close()

    assert (count > 0) is has_some


@pytest.mark.parametrize(
    "url", ["postgresql://u:hidden@host:port/db", "postgresql:///db?prepare_threshold=x"]
)
def test_a_url_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(LedgerUnusable, match="KLING_LEDGER_URL") as caught:
        Ledger.open(url, daemon=True)

    assert "hidden" not in str(caught.value)


WORK_IN_A_LOOP = """
import itertools, sys
from archiver.ledger import Ledger, unix_ms
from archiver.model import DiscoveredBy
from tests.harness.ledgers import RAND, answer, claim_archive, stored

ledger = Ledger.open(sys.argv[1], daemon=True)
for number in itertools.count():
    task_id = f"{sys.argv[2]}-{number}"
    task = answer(task_id, created_at=unix_ms())
    ledger.records.record([task], account="default", discovered_by=DiscoveredBy.SWEEP, rand=RAND)
    print("recorded", task_id, flush=True)
    for lease in claim_archive(ledger, count=2, account="default")[:1]:  # the other one stays leased
        ledger.outcomes.archived(lease, manifest_key="m", archived_at=1, stored=[stored()])
        print("archived", lease.task_id, flush=True)
"""


def test_processes_that_are_killed_lose_nothing_and_hold_nothing_up(desk: Desk) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORK_IN_A_LOOP, desk.by_hand.url, name], stdout=subprocess.PIPE, text=True
        )
        for name in "abc"
    ]
    said = []
    for worker in workers:
        assert worker.stdout is not None
        said += [worker.stdout.readline() for _ in range(20)]
        worker.kill()
    for worker in workers:
        assert worker.stdout is not None
        said += worker.stdout.read().splitlines(keepends=True)
        worker.stdout.close()
        worker.wait()
    words = [line.split() for line in said if line.endswith("\n")]
    recorded = {task_id for word, task_id in words if word == "recorded"}
    archived = [task_id for word, task_id in words if word == "archived"]

    states = {row["task_id"]: row["state"] for row in desk.rows("SELECT task_id, state FROM tasks")}
    assert recorded <= states.keys()
    assert {states[task_id] for task_id in archived} == {State.ARCHIVED}
    assert len(archived) == len(set(archived))
    desk.clock.now = unix_ms() + (LEASE_SECONDS + TAKEOVER_SECONDS) * SECOND
    left = [lease.task_id for lease in desk.claim_all(Stage.ARCHIVE, count=len(states))]
    assert sorted(left) == sorted(task_id for task_id, state in states.items() if state == State.SUCCEEDED)


# --- the server -------------------------------------------------------------------------------------------------


def test_a_server_that_goes_away_is_unavailable_and_all_goes_on_when_it_is_back() -> None:
    with running_postgres() as server:
        database = BlankDatabase(server)
        clock = Clock()
        ledger = Ledger.open(database.url, daemon=True, now=clock)
        ledger.records.record([answer()], account=ACCOUNT, discovered_by=DiscoveredBy.SWEEP, rand=RAND)
        server.kill()
        for _ in range(2):
            with pytest.raises(LedgerUnavailable):
                ledger.callbacks.record([Callback(ACCOUNT, "lost", Status.SUCCEEDED, FAMILY)])
            with pytest.raises(LedgerUnavailable):
                ledger.views.status()

        server.start()

        ledger.callbacks.record([Callback(ACCOUNT, "new", Status.SUCCEEDED, FAMILY)])
        assert len(claim_archive(ledger, count=9, account=ACCOUNT)) == 1
        assert ledger.records.states(account=ACCOUNT, task_ids=["t", "lost", "new"]) == {
            "t": State.SUCCEEDED,
            "new": State.REPORTED,
        }
        ledger.close()
        database.close()


def test_tables_that_are_moved_away_are_unavailable_and_no_bug(desk: Desk) -> None:
    desk.by_hand.write("ALTER TABLE tasks RENAME TO moved")
    try:
        with pytest.raises(LedgerUnavailable, match="does not exist"):
            desk.tell()
    finally:
        desk.by_hand.write("ALTER TABLE moved RENAME TO tasks")


# --- what is said when a ledger cannot be opened -----------------------------------------------------------------


@pytest.fixture(scope="module")
def refusing(postgres_server: PostgresServer) -> Iterator[dict[str, str]]:
    """URLs, each of which has something wrong."""
    engine, name = plain_engine(postgres_server.url("postgres")), postgres_server.create_database()
    latin = f"{name}_latin"
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {GUARDED} LOGIN PASSWORD 'right'; CREATE ROLE plain LOGIN")
        connection.exec_driver_sql(f"CREATE DATABASE {latin} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    where = f"@/{name}?host={postgres_server.folder}"
    yield {
        "wrong password": f"postgresql://{GUARDED}:hidden{where}",
        "no password": f"postgresql://{GUARDED}{where}",
        "no such user": f"postgresql://nobody-here:hidden{where}",
        "no such database": f"postgresql://postgres:hidden@/nowhere?host={postgres_server.folder}",
        "no right to create": f"postgresql://plain:hidden{where}",
        "another encoding": f"postgresql://postgres:hidden@/{latin}?host={postgres_server.folder}",
        "not reached": "postgresql://postgres:hidden@127.0.0.1:1/ledger",
        "no such host": "postgresql://postgres:hidden@host.invalid/ledger",
        "too old": f"postgresql://postgres:hidden{where}",
    }
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP ROLE {GUARDED}; DROP ROLE plain")
        connection.exec_driver_sql(f"DROP DATABASE {latin}")
    engine.dispose()
    postgres_server.drop_database(name)


@pytest.mark.parametrize(
    ("wrong", "words", "is_for_good"),
    [
        ("wrong password", "password authentication failed", True),
        ("no password", "no password supplied", True),
        ("no such user", 'role "nobody-here" does not exist', True),
        ("no such database", "CREATE DATABASE", True),
        ("no right to create", "GRANT CREATE ON SCHEMA public TO plain", True),
        ("another encoding", "ENCODING 'UTF8'", True),
        ("not reached", "Connection refused", False),
        ("no such host", "host.invalid", False),
        ("too old", "of version 99 or newer", True),
    ],
)
def test_a_ledger_that_cannot_be_opened_says_what_to_do_and_names_the_setting(
    refusing: dict[str, str],
    wrong: str,
    words: str,
    is_for_good: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if wrong == "too old":
        monkeypatch.setattr(reaching, "VERSION_MIN", 99)
    told = []
    for use in (lambda url: Ledger.open(url, daemon=True), require_usable):
        with pytest.raises(LedgerUnusable if is_for_good else LedgerNotReached) as caught:
            use(refusing[wrong])
        error = caught.value
        told.append(f"{error} {getattr(error, 'what_to_do', '')}")

    assert told[0] == told[1]
    assert words in told[0]
    assert "KLING_LEDGER_URL" in told[0]
    assert "hidden" not in told[0]


def test_a_check_tells_a_ledger_from_a_database_without_one_and_makes_none(
    empty_url: str, blank_database: BlankDatabase
) -> None:
    assert [require_usable(url).exists for url in (empty_url, empty_url, blank_database.url)] == [
        False,
        False,
        True,
    ]


def test_messages_name_the_database_without_its_password() -> None:
    with pytest.raises(LedgerUnavailable) as caught:
        Ledger.open("postgresql://user:hidden@127.0.0.1:1/ledger", daemon=True)

    assert "postgresql://user:***@127.0.0.1:1/ledger" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_database_does_not_vanish_with_a_container() -> None:
    assert perishable_file("postgresql://user@host/ledger") is None


# --- clocks -----------------------------------------------------------------------------------------------------


def test_a_process_whose_clock_is_ahead_takes_over_no_lease(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Ledger.open(desk.by_hand.url, daemon=False)
    right.records.record(
        [answer(created_at=unix_ms())], account=ACCOUNT, discovered_by=DiscoveredBy.SWEEP, rand=RAND
    )
    assert len(claim_archive(right, count=1, account=ACCOUNT)) == 1
    assert len(right.duties.take_part("right", accounts=[ACCOUNT]).held) == 2
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 600 * 10**9)
    wrong = Ledger.open(desk.by_hand.url, daemon=False)

    assert claim_archive(wrong, count=1, account=ACCOUNT) == []
    assert wrong.duties.take_part("wrong", accounts=[ACCOUNT]).held == ()
    assert abs(wrong.now() - right.now()) < 60 * SECOND
    right.close()
    wrong.close()


def test_the_servers_clock_goes_on_between_two_words_of_it() -> None:
    passed = [100.0]
    clock = ServerClock(monotonic=lambda: passed[0], local=lambda: 7)
    assert clock.now() == 7

    clock.heard(START)
    passed[0] += 1.5
    assert clock.now() == START + 1500
    clock.heard(START - 1000)
    assert clock.now() == START - 1000
