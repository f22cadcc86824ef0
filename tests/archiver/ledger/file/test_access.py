"""Who may open, read and write a ledger file, and how a file that cannot be used is refused."""

import contextlib
import os
import pathlib
import stat
from collections.abc import Iterator

import pytest

from archiver.ledger import Ledger, LedgerMissing, LedgerUnusable
from archiver.model import Callback, Stage, State, Status
from tests.harness.ledger_files import open_at, sqlite
from tests.harness.ledgers import ACCOUNT, FAMILY, Desk
from tests.harness.repository import SAMPLES


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
    """Root may write everywhere, so become the user `nobody` for a moment."""
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
