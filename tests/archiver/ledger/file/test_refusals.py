"""A ledger file that is damaged, locked, full or gone: refused with a sentence, and never half written."""

import contextlib
import pathlib
import resource
import threading
from collections.abc import Iterator

import pytest

from archiver.failures import LedgerMalformed, LedgerUnavailable
from archiver.ledger import LedgerUnusable
from archiver.ledger.databases.sqlite import BUSY_SECONDS
from archiver.model import Callback, State, Status
from tests.harness.ledger_files import open_at, sqlite
from tests.harness.ledgers import ACCOUNT, FAMILY, Desk


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


def test_the_door_gets_a_refusal_within_10_seconds() -> None:
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
