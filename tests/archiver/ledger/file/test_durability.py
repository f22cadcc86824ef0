"""What has been committed is on the disk, whole, whatever ends the process."""

import pathlib
import sqlite3
import subprocess
import sys
import threading
from typing import cast

import pytest
import sqlalchemy as sa

from archiver.ledger.databases.file import APPLICATION_ID
from archiver.model import Callback, Stage, State, Status
from tests.harness.ledger_files import open_at, sqlite
from tests.harness.ledgers import ACCOUNT, FAMILY, Desk


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


def test_opening_again_changes_nothing(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    before = desk.row()
    started_at = desk.ledger.daemons.first_started_at()

    desk.reopen()

    assert desk.row() == before
    assert desk.ledger.daemons.first_started_at() == started_at
