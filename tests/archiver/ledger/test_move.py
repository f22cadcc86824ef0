"""A ledger from one database to another: whole or not at all, and never two that can be used."""

import contextlib
import pathlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from archiver.failures import BucketMissing, LedgerUnavailable
from archiver.ledger import Ledger, LedgerMissing, LedgerUnusable
from archiver.ledger.databases import whole
from archiver.ledger.databases.file import APPLICATION_ID
from archiver.ledger.databases.postgres import PostgresDatabase
from archiver.ledger.moving.copying import Phase, Progress
from archiver.ledger.moving.move import Moved, move_ledger
from archiver.ledger.tables import schema
from archiver.model import Callback, Stage, State, Status
from tests.harness.histories import History
from tests.harness.killed_moves import MOMENTS, KilledMoves
from tests.harness.ledgers import ACCOUNT, FAMILY, MINUTE, START, Clock, Desk
from tests.harness.revisions import added_revisions, lay_old_ledger
from tests.postgres import PostgresServer, plain_engine

SQLITE, POSTGRESQL = "sqlite", "postgresql"
WAYS = [(SQLITE, POSTGRESQL), (POSTGRESQL, SQLITE)]
LATER = START + 400 * 24 * 60 * MINUTE
"""When nothing has worked on the sample for long."""


TEXTS = ["plain", '{"a": "\\u0000 \\ud800"}', "狐 🦊 \\N \t\n\r'\"%s\\.", "", "\x7f\x01", "\ufffd\uffff"]
"""What a database could take for something else."""


class Places:
    """Where ledgers may be. `filled` has one with rows in every table."""

    def __init__(self, folder: pathlib.Path, server: PostgresServer) -> None:
        self.folder = folder
        self.server = server
        self._made: list[str] = []
        self._sample: pathlib.Path | None = None
        self._template: str | None = None
        self._number = 0

    def empty(self, kind: str) -> str:
        """The URL of a place with nothing."""
        if kind == SQLITE:
            self._number += 1
            return f"sqlite:///{self.folder / f'{self._number}.db'}"
        self._made.append(self.server.create_database())
        return self.server.url(self._made[-1])

    def filled(self, kind: str) -> str:
        """The URL of a copy of one and the same ledger."""
        if self._sample is None:
            self._sample = make_sample(self.folder)
        url = self.empty(SQLITE)
        shutil.copy(self._sample, file_of(url))
        if kind == SQLITE:
            return url
        if self._template is None:
            where = self.empty(POSTGRESQL)
            move_ledger(url, where, now=lambda: LATER)
            self._template = self._made[-1]
        self._made.append(self.server.create_database(template=self._template))
        return self.server.url(self._made[-1])


def make_sample(folder: pathlib.Path) -> pathlib.Path:
    """A ledger as work leaves it: tasks in every state, leases, holds, sweeps. And rows with awkward values."""
    place = folder / "sample"
    place.mkdir()
    desk = Desk(place)
    for state in (State.UNKNOWN, State.BURIED, State.FAILED, State.ARCHIVED, State.LOST):
        desk.bring(state, f"of {state}")
    history = History(desk, 7)
    for _ in range(40):
        history.go()
    desk.bring(State.SUCCEEDED, "leased")
    desk.claim_all(Stage.ARCHIVE)
    desk.ledger.holds.set(BucketMissing("gone"), account=ACCOUNT, stage=Stage.ARCHIVE)
    desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)
    desk.ledger.daemons.beat("d", version="1", started_at=START)
    for number, text in enumerate(TEXTS):
        desk.write(
            "INSERT INTO tasks (account, task_id, result_arrays, state, queue, attempts, held, due_at, deadline_at,"
            " first_seen_at, asked, ask_singly, discovered_by, callbacks, message, request, last_callback_at)"
            " VALUES ('x', ?, '', 'reported', 'inquire', 0, 0, ?, ?, 1, 0, ?, 'callback', 1, ?, ?, ?)",
            *(f"text {number}", 2**63 - 1, -1, number % 2, text, text * 5000, START + number),
        )
    desk.close()
    return desk.path


def file_of(url: str) -> pathlib.Path:
    return pathlib.Path(url.removeprefix("sqlite:///"))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Places:
    return Places(tmp_path_factory.mktemp("places"), postgres_server)


@contextlib.contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    """Past the code that is tested."""
    is_postgres = url.startswith(POSTGRESQL)
    engine = plain_engine(url) if is_postgres else sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def value(url: str, query: str) -> Any:
    with connected(url) as connection:
        return connection.exec_driver_sql(query).scalar()


def execute(url: str, statement: str) -> None:
    with connected(url) as connection:
        connection.exec_driver_sql(statement)


def content(url: str, *, suffix: str = "") -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table but for what a move notes, in an order of its own."""
    found = {}
    with connected(url) as connection:
        for table in schema.metadata.sorted_tables:
            names = ", ".join(f'"{column.name}"' for column in table.columns)
            rows = connection.exec_driver_sql(f'SELECT {names} FROM "{table.name}{suffix}"')  # noqa: S608 -- our tables
            found[table.name] = sorted((tuple(row) for row in rows), key=repr)
            bools = [
                number for number, column in enumerate(table.columns) if isinstance(column.type, sa.Boolean)
            ]
            if bools:
                found[table.name] = sorted(
                    (
                        tuple(bool(each) if number in bools else each for number, each in enumerate(row))
                        for row in found[table.name]
                    ),
                    key=repr,
                )
    found["facts"] = [row for row in found["facts"] if row[0] != "last_move"]
    return found


def move(source: str, target: str, **options: Any) -> Moved:
    return move_ledger(source, target, now=lambda: LATER, **options)


# --- what arrives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "other"), WAYS)
def test_every_row_arrives_as_it_was_and_the_new_ledger_goes_on_where_the_old_one_was(
    places: Places, kind: str, other: str
) -> None:
    source, target = places.filled(kind), places.empty(other)
    before = content(source)

    moved = move(source, target)

    assert content(target) == before
    arrived = {name: table.rows for name, table in moved.tables.items()}
    assert arrived | {"facts": 0} == {
        name: len(rows) for name, rows in before.items() if name != "schema_uses"
    } | {"facts": 0}
    with connected(source) as connection:
        names = [name for name in sa.inspect(connection).get_table_names() if name.startswith("tasks")]
    assert len(names) == 1, "the old table has another name"
    assert content(source, suffix=names[0].removeprefix("tasks")) == before
    with connected(target) as connection:
        look = sa.inspect(connection)
        indexes = {index["name"] for table in schema.metadata.tables for index in look.get_indexes(table)}
    assert {index.name for table in schema.metadata.tables.values() for index in table.indexes} <= indexes
    largest = value(target, "SELECT max(id) FROM tasks")
    ledger = Ledger.open(target, daemon=True, now=Clock(LATER))
    ledger.callbacks.record([Callback(ACCOUNT, "new", Status.SUCCEEDED, FAMILY)])
    assert ledger.claims.verify(count=1, offset=0, account=ACCOUNT)
    ledger.close()
    assert value(target, "SELECT id FROM tasks WHERE task_id = 'new'") > largest


def test_a_ledger_moves_there_and_back_into_the_same_places_again_and_again(places: Places) -> None:
    here, there = places.filled(SQLITE), places.empty(POSTGRESQL)
    before = content(here)
    for source, target in ((here, there), (there, here), (here, there)):
        move(source, target)

    assert content(there) == before


FIRST, BY_ID = "SELECT", "FROM tasks ORDER BY id LIMIT 1"


def test_a_text_that_postgresql_cannot_hold_is_replaced_and_counted(places: Places) -> None:
    """The ledger writes none; a file may be older than that rule."""
    source, target = places.filled(SQLITE), places.empty(POSTGRESQL)
    with contextlib.closing(sqlite3.connect(file_of(source))) as connection, connection:
        (row,) = connection.execute("SELECT min(id) FROM tasks").fetchone()
        connection.execute("UPDATE tasks SET message = ?, reason = ? WHERE id = ?", ("a\0b", "\0", row))
        connection.execute(
            "UPDATE tasks SET external_task_id = CAST(? AS TEXT) WHERE id = ?", (b"\xed\xa0\x80", row)
        )

    moved = move(source, target)

    assert moved.replaced_texts == 2
    assert value(target, f"{FIRST} message || reason {BY_ID}") == "a\ufffdb\ufffd"
    assert set(value(target, f"{FIRST} external_task_id {BY_ID}")) == {"\ufffd"}


def test_a_row_that_cannot_be_stored_is_named_and_nothing_is_changed(places: Places) -> None:
    source, target = places.filled(SQLITE), places.empty(POSTGRESQL)
    execute(source, "UPDATE tasks SET callbacks = 1099511627776 WHERE id = (SELECT min(id) FROM tasks)")
    before = content(source)

    with pytest.raises(LedgerUnusable, match="a row of the table tasks cannot be stored"):
        move(source, target)

    assert content(source) == before
    assert value(target, "SELECT to_regclass('tasks')") is None


@pytest.mark.parametrize(("kind", "other"), WAYS)
def test_rows_that_do_not_arrive_are_found_and_nothing_is_changed(
    places: Places, kind: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = places.filled(kind), places.empty(other)
    before = content(source)
    plain = whole.insert_rows

    def insert_some(connection: sa.Connection, table: sa.Table, rows: list[tuple[Any, ...]]) -> None:
        plain(connection, table, rows[1:] if table is schema.history else rows)

    monkeypatch.setattr(whole, "insert_rows", insert_some)

    with pytest.raises(LedgerUnusable, match=r"does not hold what was copied: \d+ rows of history"):
        move(source, target)

    assert content(source) == before
    assert not can_be_used(target)


def test_a_move_may_take_longer_than_any_other_transaction(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = places.filled(POSTGRESQL), places.empty(POSTGRESQL)
    limits = vars(PostgresDatabase.write)["__wrapped__"].__kwdefaults__
    monkeypatch.setitem(limits, "seconds_max", 0.001)

    assert move(source, target).rows


def test_an_older_ledger_is_migrated_first(places: Places) -> None:
    source, target = places.empty(SQLITE), places.empty(POSTGRESQL)
    engine = sa.create_engine(source, isolation_level="AUTOCOMMIT")
    lay_old_ledger(engine, "0002")
    engine.dispose()

    move(source, target)

    ledger = Ledger.open(target, daemon=False)
    assert ledger.views.status().states[State.ARCHIVED] == 1
    ledger.close()


# --- when it is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "other", "later"),
    [(SQLITE, POSTGRESQL, 1), (POSTGRESQL, SQLITE, 120_000)],
)
def test_a_ledger_that_a_process_worked_on_within_two_minutes_is_not_moved_unless_it_said_goodbye(
    places: Places, kind: str, other: str, later: int
) -> None:
    source, target = places.filled(kind), places.empty(other)
    ledger = Ledger.open(source, daemon=False, now=lambda: LATER)
    ledger.daemons.beat("killed", version="1", started_at=LATER)

    for too_early in (1, 119_999):
        with pytest.raises(LedgerUnusable, match=r"1 process worked on the ledger .* stop all of them first"):
            move_ledger(source, target, now=Clock(LATER + too_early))
    if later == 1:
        ledger.daemons.leave("killed")
    ledger.close()

    assert move_ledger(source, target, now=Clock(LATER + later)).rows


def test_a_ledger_with_a_daemon_is_not_moved_whenever_that_has_beaten(places: Places) -> None:
    """SQLite's lock says so."""
    source, target = places.filled(SQLITE), places.empty(POSTGRESQL)
    daemon = Ledger.open(source, daemon=True)

    with pytest.raises(LedgerUnusable, match="a kling-receiver already works"):
        move(source, target)

    daemon.close()


@pytest.mark.parametrize("kind", [SQLITE, POSTGRESQL])
def test_a_ledger_with_tasks_takes_no_other(places: Places, kind: str) -> None:
    source, target = places.filled(SQLITE), places.filled(kind)
    before = content(source), content(target)

    with pytest.raises(LedgerUnusable, match="has tasks already"):
        move(source, target)

    assert (content(source), content(target)) == before


@pytest.mark.parametrize("kind", [SQLITE, POSTGRESQL])
def test_a_ledger_without_tasks_gives_way_once_its_daemon_is_gone(places: Places, kind: str) -> None:
    source, target = places.filled(SQLITE), places.empty(kind)
    before = content(source)
    daemon = Ledger.open(target, daemon=True, now=lambda: LATER)
    daemon.daemons.beat("d", version="1", started_at=LATER)
    if kind == POSTGRESQL:
        with pytest.raises(LedgerUnusable, match="1 process worked on the ledger"):
            move(source, target)
    daemon.daemons.leave("d")
    daemon.close()

    move(source, target)

    assert content(target) == before


def test_a_database_that_is_no_ledger_is_left_alone(places: Places) -> None:
    source, target = places.filled(SQLITE), places.empty(POSTGRESQL)
    with pytest.raises(LedgerUnusable, match="FROM and TO are both"):
        move(source, source)
    with pytest.raises(LedgerMissing, match="there is no ledger"):
        move(places.empty(SQLITE), target)
    with pytest.raises(LedgerMissing, match="there is no ledger"):
        move(places.empty(POSTGRESQL), target)
    execute(target, "CREATE TABLE history (id int)")
    with pytest.raises(LedgerUnusable, match="has a table history of another program"):
        move(source, target)
    execute(target, "CREATE TABLE alembic_version (version_num text)")
    execute(target, "INSERT INTO alembic_version VALUES ('theirs')")
    with pytest.raises(LedgerUnusable, match="newer version"):
        move(source, target)
    with contextlib.closing(sqlite3.connect(file_of(source))) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert value(target, "SELECT count(*) FROM history") == 0


def test_a_ledger_of_a_newer_schema_is_not_moved_even_if_it_may_be_used(
    places: Places, tmp_path: pathlib.Path
) -> None:
    source = places.filled(SQLITE)
    compatible = (
        'is_compatible = True\ndef upgrade():\n    op.add_column("tasks", sa.Column("later", sa.Text()))\n'
    )
    with added_revisions(tmp_path, compatible):
        Ledger.open(source, daemon=True).close()

    with pytest.raises(LedgerUnusable, match="newer version"):
        move(source, places.empty(SQLITE))


# --- others meanwhile, and after ----------------------------------------------------------------------------------


def test_while_a_ledger_is_moved_no_process_writes_to_it_or_sees_the_new_one(places: Places) -> None:
    source, target = places.filled(POSTGRESQL), places.empty(POSTGRESQL)
    before = content(source)
    back = Ledger.open(source, daemon=False, busy_seconds=0.01)
    refused = []

    def watch(progress: Progress) -> None:
        if progress.phase in refused:
            return
        if progress.phase is Phase.COPY or progress.phase is Phase.COMPARE:
            assert value(target, "SELECT to_regclass('tasks')") is None
            with pytest.raises(LedgerUnavailable):
                back.callbacks.record([Callback(ACCOUNT, "late", Status.SUCCEEDED, FAMILY)])
            refused.append(progress.phase)
        elif progress.phase is Phase.GIVE_UP:
            with pytest.raises(LedgerUnusable, match="is being filled from"):
                Ledger.open(target, daemon=True)

    move(source, target, watch=watch)

    assert {Phase.COPY, Phase.COMPARE} == set(refused)
    assert content(target) == before
    back.close()


def test_while_a_ledger_is_moved_to_a_file_no_daemon_starts_on_either(places: Places) -> None:
    source, target = places.filled(SQLITE), places.empty(SQLITE)
    refused = []

    def watch(progress: Progress) -> None:
        for url in (source, target) if progress.phase not in refused else ():
            with pytest.raises(LedgerUnusable, match="a kling-receiver already works"):
                Ledger.open(url, daemon=True)
            refused.append(progress.phase)

    move(source, target, watch=watch)

    assert set(refused) == set(Phase)


@pytest.mark.parametrize("kind", [SQLITE, POSTGRESQL])
def test_a_process_that_comes_back_after_the_move_gets_errors_and_a_new_one_is_told_where_to_go(
    places: Places, kind: str
) -> None:
    source, target = places.filled(kind), places.empty(SQLITE)
    back = Ledger.open(source, daemon=False)
    back.callbacks.record([Callback(ACCOUNT, "early", Status.SUCCEEDED, FAMILY)])

    move(source, target)

    works: list[Callable[[], object]] = [
        back.daemons.ping,
        back.views.status,
        lambda: back.callbacks.record([Callback(ACCOUNT, "late", Status.SUCCEEDED, FAMILY)]),
        lambda: back.claims.verify(count=1, offset=0, account=ACCOUNT),
    ]
    for work in works:
        with pytest.raises(LedgerUnavailable):
            work()
    back.close()
    for daemon in (True, False):
        with pytest.raises(LedgerUnusable, match=rf"was moved to {target} on .*: set KLING_LEDGER_URL"):
            Ledger.open(source, daemon=daemon)
    with pytest.raises(LedgerUnusable, match=rf"was moved to {target}"):
        move(source, places.empty(SQLITE))
    assert not move(source, target).tables, "it was there already"


# --- kill -9 ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed() -> Iterator[KilledMoves]:
    with KilledMoves() as moves:
        yield moves


@pytest.mark.parametrize(("kind", "other"), WAYS)
def test_a_move_that_is_killed_at_any_moment_leaves_one_ledger_or_none_and_ends_when_repeated(
    places: Places, killed: KilledMoves, kind: str, other: str
) -> None:
    source, target = places.filled(kind), places.empty(other)
    before, usable = content(source), []
    for phase, sign in MOMENTS:
        killed.kill(source, target, phase, sign)
        usable.append((phase, [can_be_used(url) for url in (source, target)]))
        if can_be_used(source):
            assert content(source) == before

    assert usable == [
        (Phase.PREPARE, [True, False]),
        (Phase.COPY, [True, False]),
        (Phase.INDEX, [True, False]),
        (Phase.COMPARE, [True, False]),
        (Phase.GIVE_UP, [True, False]),
        (Phase.GIVE_UP, [True, False]),
        (Phase.USE, [False, False]),
    ]
    for daemon in (True, False):
        with pytest.raises(LedgerUnusable, match=r"is being filled from .*: run `kling-archiver move-ledger"):
            Ledger.open(target, daemon=daemon)
        with pytest.raises(LedgerUnusable, match="was moved to"):
            Ledger.open(source, daemon=daemon)
    with pytest.raises(LedgerUnusable, match="is being filled from"):
        move(places.filled(SQLITE), target)
    assert not move(source, target).tables, "all was compared before"
    assert content(target) == before
    assert [can_be_used(url) for url in (source, target)] == [False, True]


def can_be_used(url: str) -> bool:
    """Whether a command takes it for a ledger; where there is nothing, a daemon would begin an empty one."""
    try:
        Ledger.open(url, daemon=False).close()
    except (LedgerUnusable, LedgerMissing):
        return False
    return True


def test_a_ledger_whose_move_was_killed_goes_on_and_what_it_then_takes_is_moved_as_well(
    places: Places, killed: KilledMoves
) -> None:
    source, target = places.filled(POSTGRESQL), places.empty(SQLITE)
    killed.kill(source, target, Phase.GIVE_UP, 2)
    ledger = Ledger.open(source, daemon=True, now=lambda: LATER)
    ledger.callbacks.record([Callback(ACCOUNT, "between", Status.SUCCEEDED, FAMILY)])
    ledger.close()

    move(source, target)

    assert value(target, "SELECT count(*) FROM tasks WHERE task_id = 'between'") == 1
