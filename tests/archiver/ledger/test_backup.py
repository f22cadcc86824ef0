"""A copy of an SQLite ledger beside a daemon that writes, and everything that may go wrong with it."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest

from archiver.failures import LedgerMalformed
from archiver.ledger.moving.backup import (
    PIECE_PAGES,
    Backup,
    BackupMisplaced,
    BackupProgress,
    BackupRefused,
    back_up,
)
from archiver.model import State
from tests.harness.blank_ledger import lay_blank_ledger
from tests.harness.command_line import CommandLine
from tests.harness.disks import NO_DISK, small_disk
from tests.harness.engine import Engine
from tests.harness.ledgers import Desk
from tests.harness.repository import ROOT
from tests.simulator import KlingSimulator

PAGE_BYTES = 4096
PIECES = 4


class Ended(Exception):
    """The operator has had enough."""


@pytest.fixture
def desk(tmp_path: pathlib.Path) -> Iterator[Desk]:
    """A ledger of some pieces, with an archived task."""
    with contextlib.closing(Desk(tmp_path)) as desk:
        desk.bring(State.ARCHIVED)
        (task,) = (row["id"] for row in desk.rows("SELECT id FROM tasks"))
        padding = "x" * (PIECES * PIECE_PAGES * PAGE_BYTES)
        desk.by_hand.write(
            "INSERT INTO history (task, at, event, detail) VALUES (?, 0, 'x', ?)", task, padding
        )
        yield desk


@pytest.fixture(scope="module")
def sim() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator


def copy(desk: Desk, file: pathlib.Path) -> Backup:
    return back_up(f"sqlite:///{desk.path}", file, rest=lambda _: None)


def states_in(file: pathlib.Path) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return dict(connection.execute("SELECT task_id, state FROM tasks ORDER BY id").fetchall())


def left_in(folder: pathlib.Path) -> set[str]:
    """All but the ledger itself."""
    return {file.name for file in folder.iterdir() if not file.name.startswith("ledger.db")}


def test_beside_a_daemon_that_commits_all_the_time_the_copy_ends_and_is_of_one_moment(
    desk: Desk, tmp_path: pathlib.Path
) -> None:
    told: list[BackupProgress] = []

    def commit(_seconds: float) -> None:
        desk.tell(f"new-{len(told)}")

    made = back_up(f"sqlite:///{desk.path}", tmp_path / "copy.db", watch=told.append, rest=commit)

    assert PIECES < len(told) < 2 * PIECES
    assert told[-1].bytes == told[-1].bytes_total == made.bytes == (tmp_path / "copy.db").stat().st_size
    assert states_in(tmp_path / "copy.db") == {"t": "archived"}
    assert len(desk.rows("SELECT id FROM tasks")) == 1 + len(told)


def test_the_copy_is_one_file_that_only_its_owner_can_read(desk: Desk, tmp_path: pathlib.Path) -> None:
    umask = os.umask(0)
    try:
        copy(desk, tmp_path / "copy.db")
    finally:
        os.umask(umask)

    assert left_in(tmp_path) == {"copy.db"}
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600


def test_a_ledger_that_no_daemon_has_open_is_copied_too(desk: Desk, tmp_path: pathlib.Path) -> None:
    desk.ledger.close()

    copy(desk, tmp_path / "copy.db")

    assert states_in(tmp_path / "copy.db") == {"t": "archived"}


def test_a_daemon_that_starts_on_a_copy_adopts_what_was_archived_since(
    sim: KlingSimulator, tmp_path: pathlib.Path
) -> None:
    folder, copied = tmp_path / "old", tmp_path / "new"
    folder.mkdir()
    copied.mkdir()
    lay_blank_ledger(folder / "ledger.db")
    with Engine(sim, folder) as engine:
        task_id = engine.succeeded()
        back_up(f"sqlite:///{folder / 'ledger.db'}", copied / "ledger.db")
        assert engine.attempt() is None
        store, clock = engine.store, engine.clock
    objects = dict(store.objects)

    with Engine(sim, copied, store=store, clock=clock) as engine:
        clock.advance(seconds=60)
        assert engine.attempt() is None
        engine.assert_archived(task_id)

        assert store.objects == objects
        assert "fetch" not in engine.effects.seen


# --- where it may not be made ---


@pytest.mark.parametrize(
    "name", ["ledger.db", "ledger.db-wal", "taken.db", "dangling.db", ".", "no/folder.db"]
)
def test_an_existing_file_is_never_overwritten(desk: Desk, tmp_path: pathlib.Path, name: str) -> None:
    (tmp_path / "taken.db").write_text("mine")
    (tmp_path / "dangling.db").symlink_to(tmp_path / "nowhere.db")
    before = left_in(tmp_path)

    with pytest.raises(BackupMisplaced):
        copy(desk, tmp_path / name)

    assert left_in(tmp_path) == before
    assert (tmp_path / "taken.db").read_text() == "mine"
    assert desk.state() is State.ARCHIVED


def test_a_file_that_comes_while_it_is_copied_is_not_overwritten_either(
    desk: Desk, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(BackupMisplaced):
        back_up(
            f"sqlite:///{desk.path}",
            tmp_path / "copy.db",
            rest=lambda _: (tmp_path / "copy.db").write_text("mine"),
        )

    assert left_in(tmp_path) == {"copy.db"}
    assert (tmp_path / "copy.db").read_text() == "mine"


def test_two_backups_into_one_file_do_not_meet(desk: Desk, tmp_path: pathlib.Path) -> None:
    refused: list[BackupRefused] = []

    def second(_seconds: float) -> None:
        with pytest.raises(BackupRefused, match="another backup") as error:
            copy(desk, tmp_path / "copy.db")
        refused.append(error.value)

    back_up(f"sqlite:///{desk.path}", tmp_path / "copy.db", rest=second)

    assert refused
    assert left_in(tmp_path) == {"copy.db"}


# --- what goes wrong ---


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Smaller than the copy."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with contextlib.ExitStack() as opened:
        try:
            opened.enter_context(small_disk(folder, megabytes=2))
        except subprocess.CalledProcessError:
            pytest.skip(NO_DISK)
        yield folder


def test_a_copy_for_which_there_is_no_room_is_not_begun(desk: Desk, disk: pathlib.Path) -> None:
    with pytest.raises(BackupRefused, match="make room"):
        copy(desk, disk / "copy.db")

    assert left_in(disk) == set()


def test_a_disk_that_fills_meanwhile_has_nothing_left_on_it_and_the_ledger_goes_on(
    desk: Desk, disk: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(disk.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    with pytest.raises(BackupRefused, match="no more room"):
        copy(desk, disk / "copy.db")

    assert left_in(disk) == set()
    desk.tell("another")


def test_a_damaged_ledger_is_reported_and_not_copied(tmp_path: pathlib.Path) -> None:
    damaged = tmp_path / "ledger.db"
    lay_blank_ledger(damaged)
    with damaged.open("r+b") as file:
        for page in range(4, 40):
            file.seek(page * PAGE_BYTES)
            file.write(b"\xff" * 64)

    with pytest.raises(LedgerMalformed):
        back_up(f"sqlite:///{damaged}", tmp_path / "copy.db")

    assert left_in(tmp_path) == set()


def test_an_interrupted_backup_leaves_nothing(desk: Desk, tmp_path: pathlib.Path) -> None:
    def interrupt(_progress: BackupProgress) -> None:
        raise Ended

    with pytest.raises(Ended):
        back_up(f"sqlite:///{desk.path}", tmp_path / "copy.db", watch=interrupt)

    assert left_in(tmp_path) == set()


KILLED_HALF_WAY = """
import os, pathlib, signal, sys
from archiver.ledger.moving.backup import back_up

def kill(progress):
    if progress.bytes > progress.bytes_total // 2:
        os.kill(os.getpid(), signal.SIGKILL)

back_up(sys.argv[1], pathlib.Path(sys.argv[2]), watch=kill)
"""


def test_a_killed_backup_leaves_no_file_of_that_name_and_hinders_no_other_backup(
    desk: Desk, tmp_path: pathlib.Path
) -> None:
    arguments = (f"sqlite:///{desk.path}", str(tmp_path / "copy.db"))
    killed = subprocess.run([sys.executable, "-c", KILLED_HALF_WAY, *arguments], cwd=ROOT, check=False)

    assert killed.returncode == -signal.SIGKILL
    assert left_in(tmp_path) == {"copy.db.partial"}
    desk.tell("another")
    copy(desk, tmp_path / "copy.db")
    assert left_in(tmp_path) == {"copy.db"}
    assert states_in(tmp_path / "copy.db") == {"t": "archived", "another": "reported"}


# --- the command ---


def test_the_command_prints_what_it_has_made(tmp_path: pathlib.Path) -> None:
    line = CommandLine(tmp_path / "ledger.db").with_ledger()
    file = tmp_path / "copy.db"

    printed, again = line.run("backup", str(file), "--json"), line.run("backup", str(file))

    assert (printed.exit_code, printed.stderr) == (0, "")
    told = json.loads(printed.stdout)
    assert (told["file"], told["bytes"]) == (str(file), file.stat().st_size)
    assert (again.exit_code, again.stdout) == (2, "")
    assert "no file is overwritten" in again.stderr


def test_of_a_ledger_in_postgresql_it_says_how_that_is_copied_and_no_password(tmp_path: pathlib.Path) -> None:
    line = CommandLine(tmp_path / "ledger.db")

    result = line.run("backup", "a b.dump", KLING_LEDGER_URL="postgresql://kling:secret@db/kling")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "pg_dump --format=custom --file='a b.dump'" in result.stderr
    assert "secret" not in result.stderr
