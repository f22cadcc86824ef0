"""`list`: which tasks, in which form, and what it says of those that it leaves out."""

import csv
import io
import json
import pathlib

import pytest

from archiver.commands.tasks import list as list_command
from archiver.commands.tasks.csv_rows import csv_line
from archiver.commands.usage.tasks.list import TaskState
from archiver.ledger.views import pages
from archiver.model import State, Status
from tests.harness.command_line import ACCOUNT, FAMILY, OTHER_FAMILY, CommandLine, api_task, archive, record

THEN = 1_795_174_680_000
"""2026-11-20T11:38:00Z, in Unix ms."""
HOUR = 3_600_000
BUCKET = {"KLING_S3_BUCKET": "results"}
MANIFEST = "s3://results/kling/images/generations/2026/11/20/1/manifest.json"
HOSTILE = '=HYPERLINK("https://evil.example","x")'


@pytest.fixture
def line(tmp_path: pathlib.Path) -> CommandLine:
    """Three tasks, an hour apart: `1` is archived, `2` failed, `3` reported."""
    found = CommandLine(tmp_path / "ledger.db", now=THEN)
    with found.ledger() as ledger:
        request = {"prompt": "a red fox", "n": 1}
        ledger.registrations.register("1", account=ACCOUNT, family=FAMILY, request=request)
        record(ledger, api_task("1", created_at=THEN, external_task_id="order-1"))
        archive(ledger, "1")
        found.now = THEN + HOUR
        record(ledger, api_task("2", Status.FAILED, created_at=THEN + HOUR, external_task_id=HOSTILE))
        found.now = THEN + 2 * HOUR
        ledger.registrations.register("3", account=ACCOUNT, family=OTHER_FAMILY)
    return found


def ids(line: CommandLine, *arguments: str) -> list[str]:
    result = line.run("list", "--format", "jsonl", *arguments)
    assert result.exit_code == 0, result.stderr
    return [json.loads(row)["task_id"] for row in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["3", "2", "1"]),
        (["--limit", "2"], ["3", "2"]),
        (["--limit", "0"], []),
        (["--state", "failed"], ["2"]),
        (["--family", OTHER_FAMILY], ["3"]),
        (["--account", ACCOUNT, "--family", FAMILY], ["2", "1"]),
        (["--since", "61m"], ["3", "2"]),
        (["--since", "2026-11-20T12:38Z", "--until", "2026-11-20T13:38Z"], ["2"]),
        (["--text", "RED fox"], ["1"]),
        (["--text", "ORDER-1", "--state", "failed"], []),
    ],
)
def test_it_prints_the_tasks_that_the_options_name_newest_first(
    line: CommandLine, arguments: list[str], expected: list[str]
) -> None:
    assert ids(line, *arguments) == expected


def test_a_line_of_json_has_the_fields_of_the_contract(line: CommandLine) -> None:
    result = line.run("list", "--format", "jsonl", "--state", "archived")

    printed = json.loads(result.stdout)
    assert printed == {
        "task_id": "1",
        "account": ACCOUNT,
        "family": FAMILY,
        "external_task_id": "order-1",
        "state": "archived",
        "reason": None,
        "message": None,
        "created_at": "2026-11-20T11:38:00.000Z",
        "updated_at": "2026-11-20T11:38:24.000Z",
        "archived_at": printed["archived_at"],
        "expires_at": "2026-12-20T11:38:00.000Z",
        "discovered_by": "registration",
        "manifest_key": json.loads(line.run("show", "1", "--json").stdout)["manifest_key"],
        "prompt": "a red fox",
    }


def test_json_is_one_array_of_the_same_rows(line: CommandLine) -> None:
    rows = [json.loads(row) for row in line.run("list", "--format", "jsonl").stdout.splitlines()]

    assert json.loads(line.run("list", "--json").stdout) == rows
    assert json.loads(line.run("list", "--json", "--state", "lost").stdout) == []


def test_csv_is_for_spreadsheets_and_no_cell_of_it_is_a_formula(line: CommandLine) -> None:
    result = line.run("list", "--format", "csv", **BUCKET)

    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["task_id"] for row in rows] == ["3", "2", "1"]
    assert [row["external_task_id"] for row in rows] == ["", f"'{HOSTILE}", "order-1"]
    assert rows[2]["manifest_key"] == MANIFEST
    assert rows[2]["created_at"] == "2026-11-20T11:38:00.000Z"


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "＝"])
def test_a_cell_that_begins_like_a_formula_is_text_in_csv(line: CommandLine, first: str) -> None:
    with line.ledger() as ledger:
        request = {"prompt": f"{first}cmd|' /C calc'!A0"}
        ledger.registrations.register("4", account=ACCOUNT, family=FAMILY, request=request)

    (row,) = csv.DictReader(io.StringIO(line.run("list", "--format", "csv", "--limit", "1").stdout))

    assert row["prompt"].startswith("'")


@pytest.mark.parametrize("end", [";", '";"', "; "])
def test_a_formula_behind_another_separator_is_text_too(end: str) -> None:
    ((cell, other),) = csv.reader([csv_line([f"a{end}=1+1", "a; b\t=c"]).decode()])

    assert (cell, other) == (f"a{end}'=1+1", "a; b\\t=c")  # a tab is escaped, as in every output


def test_a_table_names_manifests_by_url_and_says_that_there_is_more(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = line.run("list", **BUCKET)

    assert [row.split() for row in result.stdout.splitlines()[2:]] == [
        ["—", "3", OTHER_FAMILY, "reported", "—", "—", "—", "—"],
        ["2026-11-20", "12:38:00", "2", FAMILY, "failed", "failed_upstream", HOSTILE, "—", "—"],
        ["2026-11-20", "11:38:00", "1", FAMILY, "archived", "—", "order-1", "a", "red", "fox", MANIFEST],
    ]
    assert result.stderr == ""
    monkeypatch.setattr(list_command, "TABLE_ROWS", 2)
    assert "there are more than 2 tasks" in line.run("list").stderr
    assert line.run("list", "--state", "lost").stdout == "No tasks.\n"


def test_a_search_says_how_far_back_it_has_looked(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = line.run("list", "--text", "fox")
    monkeypatch.setattr(pages, "LOOKED_AT_MAX", 2)
    newest = line.run("list", "--text", "fox")

    assert everything.stderr == "kling-archiver: searched back to the oldest task.\n"
    assert newest.stdout == "No tasks.\n"
    assert "searched back to 2026-11-20 12:38:00 (UTC)" in newest.stderr
    assert ids(line, "--text", "fox", "--until", "2026-11-20T12:38:01Z") == ["1"]


def test_a_search_that_ends_with_the_task_of_an_id_says_so(line: CommandLine) -> None:
    assert "searched no texts" in line.run("list", "--text", "1", "--limit", "1").stderr
    assert "searched back to the oldest task" in line.run("list", "--text", "1").stderr


def test_more_rows_than_a_page_has_are_printed_once_each(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_command, "PAGE_ROWS", 1)

    assert ids(line) == ["3", "2", "1"]
    assert ids(line, "--limit", "2") == ["3", "2"]
    assert len(list(csv.DictReader(io.StringIO(line.run("list", "--format", "csv").stdout)))) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--limit", "-1"], "--limit"),
        (["--limit", "x"], "--limit"),
        (["--state", "nonsense"], "--state"),
        (["--family", "nonsense"], "--family must be one such as"),
        (["--account", "other"], "--account must be one of"),
        (["--since", "yesterday"], "--since must be a time"),
        (["--until", "2026-13-01"], "--until must be a time"),
        (["--text", "x" * 501], "--text must have at most"),
        (["--format", "xml"], "--format"),
        (["--json", "--format", "csv"], "Give either"),
    ],
)
def test_an_option_that_means_nothing_is_wrong_usage(
    line: CommandLine, arguments: list[str], said: str
) -> None:
    result = line.run("list", *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_a_forgotten_task_is_not_listed(line: CommandLine) -> None:
    line.run("forget", "2")

    assert ids(line) == ["3", "1"]


def test_its_states_are_those_of_tasks() -> None:
    assert [*map(str, TaskState)] == [*map(str, State)]
