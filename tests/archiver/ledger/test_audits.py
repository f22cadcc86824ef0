"""What the ledger says of the bucket, and what a command asks it to have fetched again."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from archiver.ledger import WantedBack
from archiver.model import FolderWorkKind, State
from tests.harness.archived_tasks import ArchivedTask
from tests.harness.ledgers import ACCOUNT, DAY, HOUR, START, Desk, answer


def test_a_task_is_known_with_all_that_must_be_in_the_bucket(desk: Desk) -> None:
    task = ArchivedTask("881")
    task.record(desk.ledger, files=2, amended=1)
    desk.say(answer("882"))

    known = desk.ledger.audits.known(["881", "882", "883"], account=ACCOUNT)

    assert known.keys() == {"881", "882"}
    found = known["881"]
    assert found.is_archived
    assert found.keys == {
        task.folder + name for name in ("0.png", "1.png", "2.png", "manifest.json", "amendment-1.json")
    }
    assert {(each.bytes, each.sha256) for each in found.files.values()} == {
        (task.asset(number).bytes, task.asset(number).sha256) for number in range(3)
    }
    assert known["882"].state is State.SUCCEEDED
    assert known["882"].keys == frozenset()


def test_tasks_with_objects_in_the_bucket_come_by_row_each_once(desk: Desk) -> None:
    for number in range(3):
        ArchivedTask(f"88{number}").record(desk.ledger)
    desk.say(answer("nothing stored"))
    desk.write(
        "UPDATE tasks SET state = 'lost', queue = 'archive', due_at = NULL, manifest_key = NULL, archived_at = NULL,"
        " reason = 'asset_gone', seen_again_at = NULL WHERE task_id = '882'"
    )

    page = desk.ledger.audits.stored_after(0, account=ACCOUNT)
    first, second, third = page.tasks
    assert [task.task_id for task in page.tasks] == ["880", "881", "882"]
    assert desk.ledger.audits.stored_after(first.row_id, account=ACCOUNT).tasks == (second, third)
    assert desk.ledger.audits.stored_after(third.row_id, account=ACCOUNT).tasks == ()
    assert page.last_row_id is not None
    assert page.last_row_id > third.row_id
    assert desk.ledger.audits.stored_after(page.last_row_id, account=ACCOUNT).last_row_id is None
    assert desk.ledger.audits.stored_after(0, account="other").tasks == ()


def test_the_bytes_of_a_span_are_counted(desk: Desk) -> None:
    ArchivedTask("881", file_bytes=100).record(desk.ledger, files=2)
    ArchivedTask("882", created_at=START + DAY, file_bytes=50).record(desk.ledger)
    totals = desk.ledger.audits.totals

    everything = totals(account=ACCOUNT, family=None, since=None, until=None)
    assert (everything.tasks, everything.bytes) == (2, 250)
    assert totals(account=ACCOUNT, family=None, since=START + 1, until=None).bytes == 50
    assert totals(account=ACCOUNT, family=None, since=None, until=START + DAY).bytes == 200
    assert totals(account=ACCOUNT, family="videos/text2video", since=None, until=None).bytes == 0


def test_a_missing_object_is_wanted_back_whatever_was_decided_of_it_before(desk: Desk) -> None:
    task = ArchivedTask("881")
    task.record(desk.ledger)
    (known,) = desk.ledger.audits.stored_after(0, account=ACCOUNT).tasks
    key = task.asset(0).key
    wanted = [WantedBack(known.row_id, key)]

    for state in (None, "left_alone", "restored", "unrecoverable", "doubted", "wanted"):
        if state is not None:
            desk.write("UPDATE missing_objects SET state = ?, reason = ?, restored_at = 1", state, "r")
        assert desk.ledger.audits.want_back(wanted) == 1
        rows = desk.rows("SELECT key, state, reason, restored_at FROM missing_objects")
        assert [tuple(row.values()) for row in rows] == [(key, "wanted", None, None)]

    lease = desk.ledger.restores.claim(account=ACCOUNT)
    assert lease is not None
    desk.ledger.restores.answered(lease, answer("881"))
    work = desk.ledger.folder_work.claim(account=ACCOUNT)
    assert work is not None
    assert work.kind is FolderWorkKind.RESTORE
    assert [each.key for each in work.wanted] == [key]


def test_only_what_is_known_of_an_archived_task_can_be_wanted_back(desk: Desk) -> None:
    task = ArchivedTask("881")
    task.record(desk.ledger)
    desk.say(answer("882"))
    rows = {row["task_id"]: row["id"] for row in desk.rows("SELECT id, task_id FROM tasks")}

    wanted = [
        WantedBack(rows["881"], task.folder + "7.png"),
        WantedBack(rows["882"], task.asset(0).key),
        WantedBack(rows["882"] + 1, task.asset(0).key),
    ]

    assert desk.ledger.audits.want_back(wanted) == 0
    assert desk.rows("SELECT id FROM missing_objects") == []
    assert desk.rows("SELECT id FROM folder_work") == []


def test_the_place_of_an_interrupted_command_is_kept_for_a_day(desk: Desk) -> None:
    audits = desk.ledger.audits
    audits.save_progress("verify a", {"after": "x"})
    audits.save_progress("verify a", {"after": "y"})
    audits.save_progress("verify b", {"after": "z"})

    assert audits.progress("verify a") == {"after": "y"}
    assert audits.progress("verify c") is None
    audits.forget_progress("verify a")
    assert audits.progress("verify a") is None
    assert audits.progress("verify b") == {"after": "z"}

    desk.clock.advance(DAY + HOUR)
    assert audits.progress("verify b") is None
    audits.forget_progress("verify a")
    assert desk.rows("SELECT name FROM facts WHERE name LIKE 'progress of %'") == []


@pytest.mark.sqlite_only(
    "PostgreSQL plans by the numbers of a real table; there is no other way for it than by ids"
)
def test_a_page_of_archived_tasks_is_read_along_their_ids_and_sorts_nothing(desk: Desk) -> None:
    ArchivedTask("881").record(desk.ledger)
    statements: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        desk.ledger.audits.stored_after(0, account=ACCOUNT)
        desk.ledger.audits.known(["881"], account=ACCOUNT)
    finally:
        event.remove(sa.Engine, "before_cursor_execute", note)

    plans = [
        str(row["detail"])
        for statement, parameters in statements
        if statement.startswith("SELECT")
        for row in desk.rows(f"EXPLAIN QUERY PLAN {statement}", *parameters)
    ]
    assert "SEARCH tasks USING INTEGER PRIMARY KEY (rowid>?)" in plans
    assert "SEARCH tasks USING INDEX sqlite_autoindex_tasks_1 (account=? AND task_id=?)" in plans
    assert [plan for plan in plans if plan.startswith(("SCAN", "USE TEMP"))] == []
