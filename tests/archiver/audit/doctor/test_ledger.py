"""What is said of a ledger: of a file that is read through, and of a server's settings."""

import contextlib
import dataclasses
import pathlib
import sqlite3

import pytest
from sqlalchemy import exc

from archiver.audit.doctor import Check, Subject, Verdict, ledger, run
from archiver.ledger.databases import refusals
from archiver.ledger.databases.checkup import ServerFacts, facts_of_server, integrity_of_file
from archiver.ledger.databases.protocol import PROCESS_CONNECTIONS_MAX, WORK_CONNECTIONS_MAX
from tests.harness.blank_ledger import lay_blank_ledger
from tests.postgres import BlankDatabase, PostgresServer

OK, WARNING, FAILED = Verdict.OK, Verdict.WARNING, Verdict.FAILED
SOUND = ServerFacts("db", "17.2", False, False, True, True, "on", False, 100, 3, 20)


def subject_of(url: str) -> Subject:
    return Subject(notes=(), doubts=(), ledger_url=url, spool=None, accounts=(), bucket="", store=None)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    lay_blank_ledger(tmp_path / "ledger.db")
    return tmp_path / "ledger.db"


def test_a_sound_file_is_ok_and_stays_as_it_is(path: pathlib.Path) -> None:
    before = path.read_bytes()
    [found] = ledger.integrity(subject_of(f"sqlite:///{path}"))

    assert (found.verdict, "no damage" in found.message) == (OK, True)
    assert path.read_bytes() == before


def test_a_damaged_file_is_a_failure_with_what_to_do(path: pathlib.Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'tasks'").fetchone()[0]
    content = bytearray(path.read_bytes())
    content[(root - 1) * page_bytes : (root - 1) * page_bytes + 100] = b"\xff" * 100
    path.write_bytes(content)

    check = Check("integrity", "", "", lambda: ledger.integrity(subject_of(f"sqlite:///{path}")))
    [(_, [found])] = run([check])

    assert found.verdict is FAILED
    assert "damaged" in found.message
    assert "nothing in the bucket is lost" in found.what_to_do


def test_the_quick_check_ends_in_time_and_says_that_it_did_not_read_all(path: pathlib.Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE large (a TEXT UNIQUE)")
        connection.executemany(
            "INSERT INTO large VALUES (?)", [(f"row {number}",) for number in range(20_000)]
        )
        connection.commit()

    found = integrity_of_file(f"sqlite:///{path}", seconds_max=0)

    assert (found.is_whole, found.damages) == (False, ())


@pytest.mark.parametrize(
    ("changed", "verdict", "said"),
    [
        ({"is_standby": True}, FAILED, "standby"),
        ({"is_read_only": True}, FAILED, "only read"),
        ({"syncs": False}, FAILED, "fsync"),
        ({"writes_full_pages": False}, WARNING, "full_page_writes"),
        ({"has_synchronous_standby": True, "synchronous_commit": "local"}, WARNING, "failover"),
        ({"connections": 90}, WARNING, "connections"),
        ({"ahead_ms": -120_000}, WARNING, "behind"),
    ],
)
def test_each_fault_of_a_server_has_its_own_row(
    changed: dict[str, object], verdict: Verdict, said: str
) -> None:
    fine, *rest = ledger.judge_server(dataclasses.replace(SOUND, **changed))  # type: ignore[arg-type]  # by name

    assert fine.verdict is OK
    [found] = rest
    assert (found.verdict, said in found.message, bool(found.what_to_do)) == (verdict, True, True)


def test_doctor_the_refusal_and_the_readme_name_the_same_number_of_connections() -> None:
    [_, found] = ledger.judge_server(dataclasses.replace(SOUND, connections=90))
    guide = (pathlib.Path(__file__).parents[4] / "deploy/postgres.md").read_text()
    count = PROCESS_CONNECTIONS_MAX

    assert f"A process uses up to {count} connections: {WORK_CONNECTIONS_MAX} for its work and" in guide
    assert f"`max_connections` must be {count} for each process" in guide
    assert found.message.endswith(f"up to {count}")
    said = exc.OperationalError("", None, Exception("FATAL: sorry, too many clients already"))
    refused = refusals.failure_of(said, name="db")
    assert refused is not None
    assert f"a process uses up to {count})" in refused.what_to_do


def test_a_server_tells_its_own_settings_and_not_those_of_our_transactions(
    postgres_server: PostgresServer, blank_database: BlankDatabase
) -> None:
    facts = facts_of_server(blank_database.url)

    is_synced = bool(postgres_server.ask("SELECT 1 FROM pg_settings WHERE name = 'fsync' AND setting = 'on'"))
    assert (facts.is_standby, facts.is_read_only, facts.syncs) == (False, False, is_synced)
    assert facts.connections >= 1
    assert abs(facts.ahead_ms) < 60_000
