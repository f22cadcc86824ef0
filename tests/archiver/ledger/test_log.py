"""The ledger's write-ahead log stays small, and a reader who keeps it long is named. Real processes."""

import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from archiver.ledger.databases.wal import WriteAheadLog
from archiver.model import Callback, Stage, Status
from tests.harness.ledgers import ACCOUNT, FAMILY, Desk

LOG_BYTES_MAX = 200_000

READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM tasks").fetchone()
print("reading", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def desk(tmp_path: pathlib.Path) -> Iterator[Desk]:
    made = Desk(tmp_path, log_bytes_max=LOG_BYTES_MAX)
    yield made
    made.close()


@pytest.fixture
def reader(desk: Desk) -> Iterator["subprocess.Popen[str]"]:
    """Another process in the middle of a read transaction; a line to it ends it."""
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(desk.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        yield process


def flood(desk: Desk, batches: int) -> None:
    for batch in range(batches):
        desk.clock.advance(1)
        desk.ledger.callbacks.record(
            [
                Callback(ACCOUNT, f"{desk.clock()}-{batch}-{number}", Status.SUCCEEDED, FAMILY)
                for number in range(100)
            ]
        )


def log_bytes(desk: Desk) -> int:
    return WriteAheadLog(desk.path).path.stat().st_size


def test_a_log_that_has_grown_is_cut_and_nothing_of_it_is_lost(desk: Desk) -> None:
    flood(desk, 10)
    assert log_bytes(desk) > LOG_BYTES_MAX

    desk.ledger.database.keep_bounded()

    assert log_bytes(desk) == 0
    assert desk.ledger.database.obstacle() is None
    flood(desk, 1)
    assert sum(desk.counted().values()) == 1100


def test_a_reader_that_never_ends_is_reported_with_the_file_and_what_to_do(
    desk: Desk, reader: "subprocess.Popen[str]"
) -> None:
    flood(desk, 20)
    desk.ledger.database.keep_bounded()
    assert log_bytes(desk) > 4 * LOG_BYTES_MAX

    obstacle = desk.ledger.database.obstacle()
    assert obstacle is not None
    assert (obstacle.reason, str(desk.path) in obstacle.message) == ("ledger_log_large", True)
    assert f"fuser -v {desk.path}" in obstacle.what_to_do

    reader.communicate("done\n")
    desk.ledger.database.keep_bounded()
    assert (log_bytes(desk), desk.ledger.database.obstacle()) == (0, None)


def test_callbacks_are_committed_while_a_reader_is_in_the_way(
    desk: Desk, reader: "subprocess.Popen[str]"
) -> None:
    for _ in range(5):
        flood(desk, 4)
        desk.ledger.database.keep_bounded()

    assert sum(desk.counted().values()) == 2000
    reader.communicate("done\n")


def test_no_read_of_ours_keeps_the_log_long(desk: Desk) -> None:
    flood(desk, 10)
    desk.ledger.views.status()
    desk.ledger.views.show("no such task", account=ACCOUNT)
    desk.ledger.claims.any_due(Stage.VERIFY, account=ACCOUNT)

    desk.ledger.database.keep_bounded()

    assert log_bytes(desk) == 0
