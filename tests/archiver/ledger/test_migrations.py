"""From every released schema to this one, by several processes at once, and beside programs of other versions."""

import functools
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from archiver.failures import LedgerUnavailable
from archiver.ledger import Ledger, LedgerUnusable, migrations
from archiver.ledger.databases.postgres import PostgresDatabase
from archiver.ledger.migrations import revisions, upgrade
from archiver.model import Callback, State, Status
from tests.harness.blank_ledger import lay_blank_ledger
from tests.harness.ledgers import ACCOUNT, FAMILY, Clock, claim_archive
from tests.harness.revisions import RELEASED, added_revisions, lay_old_ledger, url_of
from tests.postgres import plain_engine

PATIENCE_SECONDS = 60.0

ADDS_A_COLUMN = """
is_compatible = True

def upgrade():
    op.add_column("tasks", sa.Column("later", sa.Text(), nullable=False, server_default="x"))
"""
CHANGES_A_MEANING = """
def upgrade():
    op.add_column("tasks", sa.Column("other", sa.Text()))
"""
COUNTS_ITSELF = """
def upgrade():
    op.execute("INSERT INTO task_counts (account, state, is_confirmed, tasks) VALUES ('x', 'lost', true, 1)")
"""
BUILDS_AN_INDEX = """
is_concurrent = True

def upgrade():
    op.create_index("tasks_later", "tasks", ["message"], if_not_exists=True, postgresql_concurrently=True)
"""


def value(engine: sa.Engine, query: str) -> Any:
    with engine.connect() as connection:
        return connection.exec_driver_sql(query).scalar()


def start(engine: sa.Engine) -> Ledger:
    """As a daemon does. Where a file is missing, with a ledger that no daemon has opened."""
    if engine.dialect.name == "sqlite":
        lay_blank_ledger(pathlib.Path(str(engine.url.database)))
    return Ledger.open(url_of(engine), daemon=True, now=Clock())


# --- from earlier versions --------------------------------------------------------------------------------------


def assert_goes_on(engine: sa.Engine) -> None:
    """This program finds in an old ledger what was there, and works on."""
    ledger = start(engine)
    assert value(engine, "SELECT version_num FROM alembic_version") == revisions.newest()
    states = {state: count for state, count in ledger.views.status().states.items() if count}
    assert states == {State.ARCHIVED: 1, State.SUCCEEDED: 1, State.FAILED: 1, State.REPORTED: 1}
    assert [hold.reason for hold in ledger.holds.all()] == ["bucket_missing"]
    ledger.callbacks.record([Callback(ACCOUNT, "new", Status.SUCCEEDED, FAMILY)])
    (lease,) = claim_archive(ledger, count=4, account=ACCOUNT)
    ledger.outcomes.archived(lease, manifest_key="m", archived_at=Clock()(), stored=())
    shown = ledger.views.show("succeeded", account=ACCOUNT)
    assert shown is not None
    assert shown.state is State.ARCHIVED
    asked = ledger.claims.verify(count=4, offset=0, account=ACCOUNT)
    assert {lease.task_id for lease in asked} == {"reported", "new"}
    ledger.close()


@pytest.mark.parametrize("revision", RELEASED)
def test_every_released_schema_is_brought_to_this_one_on_both_databases(
    empty: sa.Engine, revision: str
) -> None:
    lay_old_ledger(empty, revision)

    assert_goes_on(empty)


def test_a_ledger_that_each_revision_has_brought_on_by_itself_goes_on_like_one_that_all_did(
    empty: sa.Engine,
) -> None:
    """As with a start of every version in between: each of these schemas was once the newest."""
    lay_old_ledger(empty, RELEASED[-1])
    for number in range(int(RELEASED[-1]) + 1, int(revisions.newest())):
        with empty.begin() as connection:
            revisions.run(connection, f"{number:04}")

    assert_goes_on(empty)


# --- beside other versions --------------------------------------------------------------------------------------


def test_a_program_that_is_older_but_may_use_the_ledger_starts_and_works_and_changes_no_schema(
    empty: sa.Engine, tmp_path: pathlib.Path
) -> None:
    start(empty).close()
    with added_revisions(tmp_path, ADDS_A_COLUMN, ADDS_A_COLUMN.replace("later", "latest")) as names:
        start(empty).close()

    for daemon in (True, False):
        ledger = Ledger.open(url_of(empty), daemon=daemon, now=Clock())
        ledger.callbacks.record([Callback(ACCOUNT, f"of {daemon}", Status.SUCCEEDED, FAMILY)])
        ledger.close()
    assert value(empty, "SELECT version_num FROM alembic_version") == names[-1]
    assert value(empty, "SELECT count(*) FROM tasks WHERE later = 'x' AND latest = 'x'") == 2


def test_a_program_that_is_too_old_is_refused_with_what_to_do(
    empty: sa.Engine, tmp_path: pathlib.Path
) -> None:
    """What follows a revision that it may not miss is of no help."""
    oldest = revisions.newest()
    start(empty).close()
    with added_revisions(tmp_path, CHANGES_A_MEANING, ADDS_A_COLUMN) as names:
        start(empty).close()

    for daemon in (True, False):
        with pytest.raises(LedgerUnusable, match=rf"newer version \(schema {names[-1]}\): run that version"):
            Ledger.open(url_of(empty), daemon=daemon)
    # What was noted for another schema counts for nothing: a version that keeps no note has moved it on.
    with empty.connect() as connection:
        connection.execute(sa.text("UPDATE schema_uses SET oldest = :oldest"), {"oldest": oldest})
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LedgerUnusable, match=r"newer version \(schema 9999\)"):
        start(empty)


def test_a_daemon_killed_right_after_an_index_is_built_locks_no_older_program_out(
    empty_postgres: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The revision is committed by itself, and nothing that the daemon does after it has happened."""
    engine = plain_engine(empty_postgres)
    start(engine).close()
    body = BUILDS_AN_INDEX + "\nis_compatible = True\n"
    with added_revisions(tmp_path, body) as names, monkeypatch.context() as patch:
        patch.setattr(revisions, "run", killed_behind(revisions.run))
        with pytest.raises(Killed):
            start(engine)

    start(engine).close()

    assert value(engine, "SELECT version_num FROM alembic_version") == names[-1]
    engine.dispose()


class Killed(BaseException):
    """Nothing handles it."""


def killed_behind(run: Callable[[sa.Connection, str], None]) -> Callable[[sa.Connection, str], None]:
    def run_and_die(connection: sa.Connection, revision: str) -> None:
        run(connection, revision)
        raise Killed

    return run_and_die


def test_a_daemon_killed_while_an_index_is_built_locks_no_older_program_out(
    empty_postgres: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = plain_engine(empty_postgres)
    start(engine).close()

    def die(_connection: sa.Connection, _revision: str) -> None:
        raise Killed

    with added_revisions(tmp_path, BUILDS_AN_INDEX), monkeypatch.context() as patch:
        patch.setattr(revisions, "run", die)
        with pytest.raises(Killed):
            start(engine)

    start(engine).close()

    engine.dispose()


def test_a_start_notes_which_programs_may_use_a_ledger_that_does_not_say_so(
    empty: sa.Engine, tmp_path: pathlib.Path
) -> None:
    """An earlier version could be killed before it wrote the note."""
    start(empty).close()
    with added_revisions(tmp_path, ADDS_A_COLUMN):
        start(empty).close()
        with empty.begin() as connection:
            connection.exec_driver_sql("DELETE FROM schema_uses")
        start(empty).close()

    start(empty).close()

    assert value(empty, "SELECT count(*) FROM schema_uses") == 1


# --- several at once --------------------------------------------------------------------------------------------


def test_of_eight_that_start_at_once_on_an_old_schema_one_migrates_and_all_work(
    empty_postgres: str, tmp_path: pathlib.Path
) -> None:
    engine = plain_engine(empty_postgres)
    lay_old_ledger(engine, "0002")
    together = threading.Barrier(8)
    outcomes: list[object] = []

    def begin(number: int) -> None:
        together.wait()
        try:
            ledger = start(engine)
            outcomes.extend(
                ledger.callbacks.record([Callback(ACCOUNT, f"of {number}", Status.SUCCEEDED, FAMILY)])
            )
            ledger.close()
        except BaseException as error:  # noqa: BLE001 -- shown below
            outcomes.append(error)

    with added_revisions(tmp_path, COUNTS_ITSELF, BUILDS_AN_INDEX, COUNTS_ITSELF):
        run_all([functools.partial(begin, number) for number in range(8)])

    assert [outcome for outcome in outcomes if isinstance(outcome, BaseException)] == []
    assert len(outcomes) == 8
    assert value(engine, "SELECT count(*) FROM task_counts WHERE account = 'x'") == 2
    assert value(engine, "SELECT count(*) FROM tasks WHERE task_id LIKE 'of _'") == 8
    engine.dispose()


def run_all(works: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def test_one_that_waits_for_another_to_migrate_holds_nothing_and_waits_longer_than_for_a_lock(
    empty_postgres: str,
) -> None:
    """Its turn comes when the other has ended, here without having migrated: it was killed."""
    engine = plain_engine(empty_postgres)
    lay_old_ledger(engine, "0002")
    looks: list[float] = []
    other = engine.connect()
    other.exec_driver_sql("BEGIN")
    other.exec_driver_sql("SELECT pg_advisory_xact_lock(0x6B6C696E67)")

    def wait(seconds: float) -> None:
        looks.append(seconds)
        open_transactions = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND state LIKE 'idle in transaction%'"
        )
        assert value(engine, open_transactions) == 1, "the other's alone"
        if len(looks) == 40:
            other.exec_driver_sql("ROLLBACK")

    database = PostgresDatabase(empty_postgres, busy_seconds=0.01)
    upgrade.migrate(database, wait=wait)

    assert len(looks) == 40
    assert value(engine, "SELECT version_num FROM alembic_version") == revisions.newest()
    database.close()
    other.close()
    engine.dispose()


# --- the door stays open ----------------------------------------------------------------------------------------


def test_an_index_is_built_while_callbacks_are_written(empty_postgres: str, tmp_path: pathlib.Path) -> None:
    """The building waits for a transaction that has begun before; the door waits for neither. It would also wait for
    the transaction of its own process, if that had a snapshot: with statements that are prepared at once it does."""
    engine = plain_engine(empty_postgres)
    door = Ledger.open(empty_postgres, daemon=True, now=Clock(), busy_seconds=1)
    with added_revisions(tmp_path, BUILDS_AN_INDEX):
        newer = threading.Thread(
            target=lambda: Ledger.open(f"{empty_postgres}&prepare_threshold=0", daemon=True).close(),
            daemon=True,
        )
        with door.database.write() as connection:
            connection.exec_driver_sql("UPDATE tasks SET message = 'x'")
            newer.start()
            wait_until(
                lambda: value(
                    engine, "SELECT count(*) FROM pg_stat_progress_create_index WHERE lockers_total > 0"
                )
            )
            outcomes = door.callbacks.record([Callback(ACCOUNT, "meanwhile", Status.SUCCEEDED, FAMILY)])
        newer.join(PATIENCE_SECONDS)
        assert not newer.is_alive()

    assert len(outcomes) == 1
    assert value(engine, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'tasks_later'::regclass") is True
    door.close()
    engine.dispose()


def wait_until(condition: Callable[[], object]) -> None:
    """Another session offers nothing to wait on."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_index_that_a_killed_process_left_unfinished_is_built_anew(
    empty_postgres: str, tmp_path: pathlib.Path
) -> None:
    engine = plain_engine(empty_postgres)
    start(engine).close()
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE INDEX tasks_later ON tasks (message)")
        connection.exec_driver_sql(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'tasks_later'::regclass"
        )

    with added_revisions(tmp_path, BUILDS_AN_INDEX):
        start(engine).close()

    assert value(engine, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'tasks_later'::regclass") is True
    engine.dispose()


FIRST_OF_POSTGRESQL = "0030"
"""Up to this revision no PostgreSQL ledger has many tasks: none was released before."""


def test_later_revisions_build_indexes_of_large_tables_beside_writers() -> None:
    folder = pathlib.Path(migrations.__file__).parent / "versions"
    texts = {
        path.name: path.read_text() for path in folder.glob("*.py") if path.name[:4] > FIRST_OF_POSTGRESQL
    }

    assert [
        name
        for name, text in texts.items()
        if "create_index(" in text and '"tasks"' in text and "is_concurrent = True" not in text
    ] == []


def test_a_ledger_that_goes_away_while_it_is_migrated_is_unavailable(empty_postgres: str) -> None:
    engine = plain_engine(empty_postgres)
    lay_old_ledger(engine, "0002")
    holder = engine.connect()
    holder.exec_driver_sql("BEGIN")
    holder.exec_driver_sql("LOCK TABLE tasks")

    with pytest.raises(LedgerUnavailable, match="lock timeout"):
        Ledger.open(empty_postgres, daemon=True, busy_seconds=0.01)

    holder.exec_driver_sql("ROLLBACK")
    assert value(engine, "SELECT version_num FROM alembic_version") == "0002"
    holder.close()
    engine.dispose()
