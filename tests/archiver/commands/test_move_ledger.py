"""`move-ledger` as an operator types it. What a move guarantees: `tests/archiver/ledger/test_move.py`."""

import json
import pathlib

import pytest

from archiver.ledger import Ledger
from tests.harness.command_line import ACCOUNT, CommandLine, api_task, record
from tests.harness.terminal import at_terminal
from tests.postgres import BlankDatabase, PostgresServer


@pytest.fixture
def line(tmp_path: pathlib.Path) -> CommandLine:
    made = CommandLine(tmp_path / "ledger.db")
    with made.ledger() as ledger:
        record(ledger, api_task("1"), api_task("2"))
    return made


def test_a_move_says_what_was_moved_and_which_setting_still_names_the_old_ledger(
    line: CommandLine, postgres_server: PostgresServer
) -> None:
    source, target = f"sqlite:///{line.path}", postgres_server.url(postgres_server.create_database())

    moved = line.run("move-ledger", source, target)
    again = line.run("move-ledger", source, target, "--json")

    assert (moved.exit_code, again.exit_code) == (0, 0)
    assert f"rows moved from {source} to {target.partition('?')[0]}" in moved.stdout
    assert "tasks" in moved.stdout
    assert "the settings still name the old ledger: set KLING_LEDGER_URL to postgresql://" in moved.stderr
    assert "%" not in moved.stderr.replace("%2F", ""), "a bar is for terminals"
    assert json.loads(again.stdout)["tables"] == [], "it was there already"
    shown = line.run("show", "1", KLING_LEDGER_URL=target)
    assert shown.exit_code == 0
    refused = line.run("show", "1")
    assert refused.exit_code == 2
    assert "was moved to postgresql://" in refused.stderr


def test_json_has_counts_and_digests_of_every_table(line: CommandLine) -> None:
    moved = line.run("move-ledger", f"sqlite:///{line.path}", f"sqlite:///{line.path}.new", "--json")

    told = json.loads(moved.stdout)
    tables = {table["table"]: table for table in told["tables"]}
    assert tables["tasks"]["rows"] == 2
    assert {len(table["digest"]) for table in tables.values()} == {64}
    assert told["rows"] == sum(table["rows"] for table in tables.values())
    assert {"from", "to", "seconds", "replaced_texts"} <= told.keys()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("mysql://here", "TO must be sqlite:/// and the path of a file"),
        ("sqlite:///{path}", "FROM and TO are both"),
        ("sqlite:///{path}/no/folder.db", "does not exist"),
    ],
)
def test_a_target_that_cannot_be_one_is_status_2(line: CommandLine, target: str, said: str) -> None:
    source = f"sqlite:///{line.path}"
    before = line.path.read_bytes()

    refused = line.run("move-ledger", source, target.format(path=line.path))

    assert (refused.exit_code, said in refused.stderr) == (2, True), refused.stderr
    assert line.path.read_bytes() == before


def test_a_bar_with_the_rate_is_shown_at_a_terminal(line: CommandLine) -> None:
    status, screen = at_terminal(line, "move-ledger", f"sqlite:///{line.path}", f"sqlite:///{line.path}.new")

    assert status == 0
    assert all(phase in screen for phase in ("copying", "building indexes", "comparing", "100%", "/s"))


def test_rename_account_works_on_postgresql_once_no_daemon_does(
    line: CommandLine, blank_database: BlankDatabase
) -> None:
    url = blank_database.url
    ledger = Ledger.open(url, daemon=False, now=lambda: line.now)
    record(ledger, api_task("1"))
    ledger.daemons.beat("d", version="1", started_at=line.now)

    refused = line.run("rename-account", ACCOUNT, "team-eu", KLING_LEDGER_URL=url)
    ledger.daemons.leave("d")
    renamed = line.run("rename-account", ACCOUNT, "team-eu", KLING_LEDGER_URL=url)

    assert (refused.exit_code, renamed.exit_code) == (2, 0), refused.stderr + renamed.stderr
    assert ledger.accounts.names() == ["team-eu"]
    ledger.close()
