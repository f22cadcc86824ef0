"""Files of earlier versions are upgraded to the present schema, whole or not at all."""

import hashlib
import pathlib
import sqlite3
import subprocess
import sys
import textwrap

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from archiver.ledger import migrations
from archiver.ledger.tables import schema
from archiver.model import Callback, Stage, State, Status
from tests.harness.ledger_files import open_at, sqlite
from tests.harness.ledgers import ACCOUNT, FAMILY, START, Clock, Desk, claim_archive
from tests.harness.repository import SAMPLES


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
