"""The ledger as a file: durable, locked, refused with a sentence when it cannot be used, and never half written."""

import contextlib
import hashlib
import os
import pathlib
import resource
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from typing import cast

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from archiver.failures import LedgerMalformed, LedgerUnavailable
from archiver.ledger import Ledger, LedgerMissing, LedgerUnusable, migrations
from archiver.ledger.databases.file import APPLICATION_ID
from archiver.ledger.databases.sqlite import BUSY_SECONDS
from archiver.ledger.tables import schema
from archiver.model import Callback, Stage, State, Status
from tests.harness.ledgers import ACCOUNT, FAMILY, START, Clock, Desk, claim_archive
from tests.harness.repository import SAMPLES


@pytest.fixture
def desk(tmp_path: pathlib.Path) -> Iterator[Desk]:
    made = Desk(tmp_path, busy_seconds=0.05)
    yield made
    made.close()


def open_at(path: pathlib.Path, *, daemon: bool = True) -> Ledger:
    return Ledger.open(f"sqlite:///{path}", daemon=daemon, busy_seconds=0.05, now=Clock())


@contextlib.contextmanager
def sqlite(path: pathlib.Path) -> Iterator[sqlite3.Connection]:
    """The file in the hands of another program."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


# --- what a commit is worth --------------------------------------------------------------------------------------


def test_every_commit_is_synced_to_the_disk(tmp_path: pathlib.Path) -> None:
    ledger = open_at(tmp_path / "ledger.db")

    with ledger.database.write() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "application_id")
        }

    ledger.close()
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "application_id": APPLICATION_ID,
    }


COMMITS_IN_A_LOOP = """
import itertools, sys
from archiver.ledger import Ledger
from archiver.model import Callback, Status

ledger = Ledger.open(sys.argv[1], daemon=True)
for number in itertools.count():
    ledger.callbacks.record([Callback("default", f"t{number}", Status.SUCCEEDED, "images/generations")])
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_kill_9_of_a_committing_process_loses_no_committed_row(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "ledger.db"
    for _ in range(3):
        path.unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", COMMITS_IN_A_LOOP, f"sqlite:///{path}"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(100)]
        process.kill()
        told += [int(line) for line in process.stdout.read().split("\n")[:-1]]
        process.wait()
        process.stdout.close()

        ledger = open_at(path)  # at once: the dead daemon's lock is gone
        kept = {row["task_id"] for row in _rows(path)}
        ledger.close()
        assert {f"t{number}" for number in told} <= kept
        for file in tmp_path.iterdir():
            file.unlink()


def _rows(path: pathlib.Path) -> list[dict[str, object]]:
    with sqlite(path) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM tasks")]


def test_a_batch_that_fails_halfway_leaves_nothing(desk: Desk) -> None:
    nameless = cast("str", None)  # cannot be stored; the door never lets it in
    broken = Callback(ACCOUNT, nameless, Status.SUCCEEDED, FAMILY)

    desk.tell("whole")
    before = desk.rows("SELECT * FROM tasks")
    with pytest.raises(sa.exc.IntegrityError):  # after the row of the first is changed
        desk.ledger.callbacks.record([Callback(ACCOUNT, "whole", Status.SUCCEEDED, FAMILY), broken])

    assert desk.rows("SELECT * FROM tasks") == before
    desk.tell("next")
    assert desk.state("next") is State.REPORTED


def test_a_command_writes_beside_the_daemon_and_never_checkpoints(desk: Desk) -> None:
    command = open_at(desk.path, daemon=False)
    command.registrations.register("t", account=ACCOUNT, family=FAMILY)
    with command.database.write() as connection:
        assert connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar_one() == 0
    command.close()

    assert desk.claim(Stage.VERIFY).task_id == "t"


def test_threads_of_one_process_take_turns_and_none_is_refused(tmp_path: pathlib.Path) -> None:
    desk = Desk(tmp_path)
    failures: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for number in range(20):
                desk.tell(f"{name}-{number}")
                desk.ledger.views.status()
        except BaseException as error:  # noqa: BLE001 -- told to the test below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert len(desk.rows("SELECT * FROM tasks")) == 160
    desk.close()


# --- who may open it -----------------------------------------------------------------------------------------------


def test_a_second_daemon_is_refused_until_the_first_has_ended(desk: Desk) -> None:
    with pytest.raises(LedgerUnusable, match="a kling-receiver already works on the ledger"):
        open_at(desk.path)

    desk.close()
    open_at(desk.path).close()
    desk.reopen()


def test_a_refused_daemon_frees_no_lease_of_the_running_one(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    lease = desk.claim(Stage.ARCHIVE)

    with pytest.raises(LedgerUnusable):
        open_at(desk.path)

    assert desk.ledger.claims.renew([lease]) == {lease.row_id}


def test_a_folder_that_is_missing_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(LedgerUnusable, match=r"folder .*nowhere.* does not exist .*KLING_LEDGER_URL"):
        open_at(tmp_path / "nowhere" / "ledger.db")


def test_a_folder_is_no_ledger(tmp_path: pathlib.Path) -> None:
    with pytest.raises(LedgerUnusable, match="is a folder"):
        open_at(tmp_path)


def test_a_command_does_not_create_a_ledger(tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        LedgerMissing, match=r"there is no ledger at .*: start kling-receiver, which makes it"
    ):
        open_at(tmp_path / "typo.db", daemon=False)

    assert list(tmp_path.iterdir()) == []


def test_a_command_does_not_fill_an_empty_file(tmp_path: pathlib.Path) -> None:
    """A daemon that was killed at its first start leaves one."""
    path = tmp_path / "ledger.db"
    path.touch()
    with pytest.raises(LedgerMissing, match="there is no ledger at"):
        open_at(path, daemon=False)

    assert path.read_bytes() == b""


def test_a_command_leaves_an_older_ledger_as_it_is(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "ledger.db"
    write_old_ledger(path)
    before = path.read_bytes()
    for daemon in (False, True):  # `rename-account` opens as a daemon does
        with pytest.raises(
            LedgerUnusable, match=r"older version \(schema 0002\).* start this version's kling-rec"
        ):
            Ledger.open(f"sqlite:///{path}", daemon=daemon, create=False)

    assert path.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} <= {"ledger.db", "ledger.db.lock"}


def write_old_ledger(path: pathlib.Path) -> None:
    """A ledger of revision 0002, as its version left it."""
    with sqlite(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript((SAMPLES / "ledger_0002.sql").read_text())


# --- who may read it -----------------------------------------------------------------------------------------------


def modes(folder: pathlib.Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_only_its_user_may_read_a_ledger(tmp_path: pathlib.Path) -> None:
    with contextlib.closing(open_at(tmp_path / "ledger.db")) as ledger:
        ledger.callbacks.record([Callback(ACCOUNT, "t", Status.SUCCEEDED, FAMILY)])
        names = ("ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db.lock")

        assert modes(tmp_path) == dict.fromkeys(names, 0o600)


@pytest.mark.parametrize(
    ("before", "after"), [(0o644, 0o600), (0o604, 0o600), (0o664, 0o660), (0o600, 0o600)]
)
def test_a_daemon_takes_the_rights_of_others_from_an_older_ledger_but_not_those_of_a_group_that_writes(
    tmp_path: pathlib.Path, before: int, after: int
) -> None:
    path = tmp_path / "ledger.db"
    open_at(path).close()
    for file in tmp_path.iterdir():
        file.chmod(before)
    open_at(path, daemon=False).close()
    assert set(modes(tmp_path).values()) == {before}

    with contextlib.closing(open_at(path)):
        assert set(modes(tmp_path).values()) == {after}


@pytest.mark.parametrize("content", [b"hello", b"SQLite format 2\0" + bytes(100), bytes(200)])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: pathlib.Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)

    with pytest.raises(LedgerUnusable, match="is not a ledger"):
        open_at(path, daemon=False)

    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "mark", ["PRAGMA application_id=7", "CREATE TABLE alembic_version (version_num TEXT)"]
)
def test_another_programs_database_is_refused_and_left_alone(tmp_path: pathlib.Path, mark: str) -> None:
    path = tmp_path / "other.db"
    with sqlite(path) as connection:
        connection.execute("CREATE TABLE precious (value TEXT)")
        connection.execute(mark)
    before = path.read_bytes()

    for daemon in (False, True):
        with pytest.raises(LedgerUnusable, match="belongs to another program"):
            open_at(path, daemon=daemon)

    assert path.read_bytes() == before


def test_an_empty_database_becomes_a_ledger(tmp_path: pathlib.Path) -> None:
    """A crash between the first connection and the first commit leaves one."""
    path = tmp_path / "ledger.db"
    with sqlite(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    assert path.stat().st_size > 0

    ledger = open_at(path)

    assert ledger.views.status().states[State.ARCHIVED] == 0
    ledger.close()


def test_a_newer_versions_ledger_is_refused_with_what_to_do(desk: Desk) -> None:
    desk.close()
    (ours,) = desk.rows("SELECT version_num FROM alembic_version")
    with sqlite(desk.path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(LedgerUnusable, match=r"written by a newer version \(schema 9999\): run that version"):
        open_at(desk.path)

    with sqlite(desk.path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (ours["version_num"],))
    desk.reopen()


def test_a_path_with_characters_that_mean_something_in_urls_is_a_path(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "50% of #1?.db"
    for _ in range(2):
        open_at(path).close()

    assert path.stat().st_size > 0


@contextlib.contextmanager
def without_the_rights_of_root() -> Iterator[None]:
    """Root may write everywhere: become nobody for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_may_not_be_written_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "ledger.db"
    open_at(path).close()
    path.chmod(0o444)
    tmp_path.chmod(0o777)

    with without_the_rights_of_root(), pytest.raises(LedgerUnusable, match="cannot open the ledger"):
        open_at(path)


def test_a_folder_that_may_not_be_written_is_refused(tmp_path: pathlib.Path) -> None:
    tmp_path.chmod(0o555)

    with without_the_rights_of_root(), pytest.raises(LedgerUnusable, match="cannot open the ledger"):
        open_at(tmp_path / "ledger.db")

    tmp_path.chmod(0o755)


def test_a_folder_that_may_not_be_entered_is_not_called_missing(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0)

    with (
        without_the_rights_of_root(),
        pytest.raises(LedgerUnusable, match=r"Permission denied.* Give this user"),
    ):
        open_at(folder / "deeper" / "ledger.db")


# --- damaged ---------------------------------------------------------------------------------------------------------


def test_a_damaged_ledger_is_called_damaged_with_what_to_do(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "ledger.db"
    open_at(path).close()
    whole = path.read_bytes()
    damages = {
        "the schema's page": whole[:100] + bytes(4000) + whole[4100:],
        "all pages but the first": whole[:4096] + b"\xff" * (len(whole) - 4096),
        "cut": whole[:8192],
    }
    for name, damaged in damages.items():
        path.write_bytes(damaged)
        for daemon in (False, True):
            with pytest.raises(LedgerMalformed, match="is damaged: ") as caught:
                open_at(path, daemon=daemon)
            assert "nothing in the bucket is lost" in caught.value.what_to_do, name


def test_a_ledger_whose_header_is_gone_is_not_told_to_use_another_file_only(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "ledger.db"
    open_at(path).close()
    path.write_bytes(bytes(100) + path.read_bytes()[100:])

    with pytest.raises(
        LedgerUnusable, match=r"If it was a ledger, it is damaged.*nothing in the bucket is lost"
    ):
        open_at(path)


# --- not now ---------------------------------------------------------------------------------------------------------


def test_a_ledger_that_another_program_has_locked_is_not_available_now(desk: Desk) -> None:
    with sqlite(desk.path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match="locked"):
            desk.tell()
        assert desk.ledger.views.status().states[State.REPORTED] == 0  # reading goes on
        other.execute("ROLLBACK")

    desk.tell()
    assert desk.state() is State.REPORTED


def test_a_ledger_that_is_locked_at_the_start_is_not_available_now(desk: Desk) -> None:
    desk.close()
    with sqlite(desk.path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable):
            open_at(desk.path)
        open_at(desk.path, daemon=False).close()  # a command may only want to read


def test_a_transaction_that_does_not_end_keeps_no_other_thread_waiting_for_ever(desk: Desk) -> None:
    begun, ends = threading.Event(), threading.Event()

    def hang() -> None:
        with desk.ledger.database.write():
            begun.set()
            ends.wait(10)

    thread = threading.Thread(target=hang)
    thread.start()
    begun.wait(10)
    with pytest.raises(LedgerUnavailable, match="busy"):
        desk.tell()
    ends.set()
    thread.join()

    desk.tell()


def test_the_door_hears_no_within_10_seconds() -> None:
    """Once for the other threads of this process, once for other processes."""
    assert 2 * BUSY_SECONDS < 10


@contextlib.contextmanager
def full_disk(most_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond `most_bytes`: SQLite sees what a full disk shows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_refuses_without_writing_and_recovers_by_itself(desk: Desk) -> None:
    desk.tell("before")
    log_bytes = pathlib.Path(f"{desk.path}-wal").stat().st_size
    batch = [Callback(ACCOUNT, f"t{number}", Status.SUCCEEDED, FAMILY) for number in range(500)]

    with full_disk(log_bytes + 5000):
        for _ in range(3):
            with pytest.raises(LedgerUnavailable, match="cannot be used"):
                desk.ledger.callbacks.record(batch)
        assert desk.ledger.records.states(account=ACCOUNT, task_ids=["t0"]) == {}

    assert len(desk.ledger.callbacks.record(batch)) == 500
    desk.ledger.daemons.ping()
    assert desk.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]


@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_committed_to_a_file_that_is_no_longer_there(desk: Desk, *, replaced: bool) -> None:
    elsewhere = desk.path.with_name("elsewhere.db")
    desk.path.rename(elsewhere)
    if replaced:
        desk.path.write_bytes(b"")

    with pytest.raises(LedgerUnavailable, match="deleted, moved or replaced") as caught:
        desk.ledger.callbacks.record([Callback(ACCOUNT, "t", Status.SUCCEEDED, FAMILY)])
    assert "Put the file back" in caught.value.what_to_do
    with pytest.raises(LedgerUnavailable):
        desk.ledger.daemons.ping()

    elsewhere.rename(desk.path)
    desk.ledger.callbacks.record([Callback(ACCOUNT, "t", Status.SUCCEEDED, FAMILY)])
    assert desk.ledger.views.status().states[State.REPORTED] == 1


def test_a_ledger_without_its_tables_is_unavailable_and_not_a_crash(desk: Desk) -> None:
    with sqlite(desk.path) as other:
        other.execute("DROP TABLE facts")

    with pytest.raises(LedgerUnavailable, match="no such table"):
        desk.tell()


# --- migrations ------------------------------------------------------------------------------------------------------


def _checks(engine: sa.Engine) -> dict[str, dict[str, str]]:
    """Table → name of each CHECK → its text."""
    inspector = sa.inspect(engine)
    return {
        table: {
            str(check["name"]): " ".join(check["sqltext"].split())
            for check in inspector.get_check_constraints(table)
        }
        for table in schema.metadata.tables
    }


def test_the_sum_of_all_revisions_is_the_schema(tmp_path: pathlib.Path) -> None:
    open_at(tmp_path / "migrated.db").close()
    migrated = sa.create_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    created = sa.create_engine(f"sqlite:///{tmp_path / 'created.db'}")
    schema.metadata.create_all(created)

    with migrated.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), schema.metadata)

    assert differences == []
    assert _checks(migrated) == _checks(created)
    assert sum(map(len, _checks(created).values())) > 10
    migrated.dispose()
    created.dispose()


def test_revisions_do_not_ask_the_schema_what_to_create() -> None:
    versions = pathlib.Path(migrations.__file__).parent / "versions"
    texts = [path.read_text() for path in versions.glob("*.py")]

    assert texts
    assert not [text for text in texts if "metadata" in text or "from archiver" in text]


def test_a_migration_that_dies_halfway_leaves_the_old_schema(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "ledger.db"
    dying = textwrap.dedent(
        """
        import os, sys
        from alembic import op
        from archiver.ledger import Ledger
        plain = op.create_table
        def create_table(name, *columns, **options):
            if name == "sweeps":
                os._exit(9)
            return plain(name, *columns, **options)
        op.create_table = create_table
        Ledger.open(sys.argv[1], daemon=True)
        """
    )
    process = subprocess.run([sys.executable, "-c", dying, f"sqlite:///{path}"], check=False)
    assert process.returncode == 9
    assert path.stat().st_size > 0

    ledger = open_at(path)

    assert ledger.views.status().last_sweep == {}
    ledger.close()


def test_a_ledger_of_an_earlier_schema_is_brought_to_this_one_with_its_tasks(
    tmp_path: pathlib.Path,
) -> None:
    fresh = Desk(tmp_path)
    fresh.close()
    indexes = "SELECT name, sql FROM sqlite_master WHERE name LIKE 'tasks_%' ORDER BY name"
    newest = fresh.rows(indexes)
    old = tmp_path / "old.db"
    with sqlite(
        old
    ) as connection:  # a ledger of revision 0002, taken back to 0001: its indexes began without accounts
        connection.executescript((SAMPLES / "ledger_0002.sql").read_text())
        for name, order in (("deadline", "deadline_at"), ("attempts", "attempts"), ("age", "first_seen_at")):
            columns = f"queue, {order}, due_at, lease_until, account, asset_host, confirmed_at"
            connection.execute(f"DROP INDEX IF EXISTS tasks_by_{name}")
            connection.execute(
                f"CREATE INDEX tasks_by_{name} ON tasks ({columns}) WHERE confirmed_at IS NOT NULL"
            )
        for name, columns in (
            ("by_due", "queue, due_at, account)"),
            ("to_match", "queue, ask_singly, due_at)"),
            ("unconfirmed", "first_seen_at) WHERE confirmed_at IS NULL"),
        ):
            connection.execute(f"DROP INDEX tasks_{name}")
            connection.execute(f"CREATE INDEX tasks_{name} ON tasks ({columns}")
        connection.execute("DROP INDEX tasks_denied")
        connection.execute("UPDATE alembic_version SET version_num = '0001'")

    old.rename(fresh.path)
    fresh.reopen()

    assert fresh.rows(indexes) == newest
    assert fresh.claim(Stage.ARCHIVE).task_id == "succeeded"
    fresh.close()


def test_a_ledger_that_an_earlier_version_wrote_goes_on_where_it_was(tmp_path: pathlib.Path) -> None:
    """The code may rename what it reads and writes; what lies in users' files keeps its name."""
    path = tmp_path / "ledger.db"
    with sqlite(path) as connection:
        connection.executescript((SAMPLES / "ledger_0002.sql").read_text())

    ledger = open_at(path)

    assert ledger.views.status().states == {
        **dict.fromkeys(State, 0),
        State.ARCHIVED: 1,
        State.SUCCEEDED: 1,
        State.FAILED: 1,
        State.REPORTED: 1,
    }
    ledger.callbacks.record([Callback(ACCOUNT, "new", Status.SUCCEEDED, FAMILY)])
    assert [hold.reason for hold in ledger.holds.all()] == ["bucket_missing"]
    (lease,) = claim_archive(ledger, count=4, account=ACCOUNT)
    ledger.outcomes.archived(lease, manifest_key="m", archived_at=Clock()(), stored=())
    shown = ledger.views.show("succeeded", account=ACCOUNT)
    assert shown is not None
    assert shown.state is State.ARCHIVED
    asked = ledger.claims.verify(count=4, offset=0, account=ACCOUNT)
    assert {lease.task_id for lease in asked} == {"reported", "new"}
    ledger.close()


def test_what_an_earlier_version_left_undone_in_finished_folders_is_work_after_the_upgrade(
    tmp_path: pathlib.Path,
) -> None:
    """An archived task that lacks a file is amended; a lost one of which a file was saved is described."""
    path = tmp_path / "ledger.db"
    with sqlite(path) as connection:
        connection.executescript((SAMPLES / "ledger_0002.sql").read_text())
        copy_task(connection, "archived", 11, task_id="one file short")
        copy_task(connection, "archived", 12, task_id="whole")
        lost = {"state": "lost", "reason": "deadline_passed", "due_at": None}
        copy_task(connection, "succeeded", 13, task_id="lost, one file saved", **lost)
        copy_task(connection, "succeeded", 14, task_id="lost, nothing saved", **lost)
        copy_task(connection, "succeeded", 15, task_id="lost, still tried", **lost | {"due_at": START})
        for asset, task in ((1, 11), (2, 11), (1, 12), (1, 13), (2, 13), (2, 14), (1, 15), (2, 15)):
            copy_asset(connection, asset, stem=f"{asset}", task=task)

    open_at(path).close()

    with sqlite(path) as connection:
        work = connection.execute(
            "SELECT tasks.task_id, folder_work.kind, folder_work.deadline_at = tasks.deadline_at"
            " FROM folder_work JOIN tasks ON tasks.id = folder_work.task ORDER BY 1"
        ).fetchall()
    assert work == [("lost, one file saved", "incomplete", None), ("one file short", "amend", 1)]


def copy_task(connection: sqlite3.Connection, copied: str, number: int, **changed: object) -> None:
    """One more task as the old version wrote it, but for what is changed."""
    copy_row(connection, "SELECT * FROM tasks WHERE task_id = ?", copied, id=number, **changed)


def copy_asset(connection: sqlite3.Connection, copied: int, **changed: object) -> None:
    copy_row(connection, "SELECT * FROM assets WHERE id = ?", copied, id=None, **changed)


def copy_row(connection: sqlite3.Connection, query: str, copied: object, **changed: object) -> None:
    found = connection.execute(query, (copied,))
    names = [description[0] for description in found.description]
    row = dict(zip(names, found.fetchone(), strict=True)) | changed
    table = query.split()[3]
    insert = f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})"  # noqa: S608 -- a table of this file
    connection.execute(insert, [row[name] for name in names])


RELEASED = {
    "0001_first.py": "e5bff47d8c13036c66d9d5e31583d836202a3a1c42690c460c45c6b96d85f327",
    "0002_lanes_of_accounts.py": "fd14e1199a8c94f456bde657c6a315488e3cab1355e01ac35f49bc0985308c25",
}


def test_a_released_revision_is_never_edited() -> None:
    """A ledger that has passed a revision never runs it again: what is changed there is missing in every such file."""
    folder = pathlib.Path(migrations.__file__).parent / "versions"

    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in RELEASED} == RELEASED


def test_opening_again_changes_nothing(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    before = desk.row()
    started_at = desk.ledger.daemons.first_started_at()

    desk.reopen()

    assert desk.row() == before
    assert desk.ledger.daemons.first_started_at() == started_at
