"""Rules that all commands share: help, usage, settings, a ledger that they must not touch."""

import contextlib
import gc
import json
import pathlib
import re
import sqlite3
import subprocess
import sys
from collections.abc import Sequence

import pytest

import receiver.__main__
from archiver.commands.terminal import group
from archiver.create import rules
from archiver.phrases import distance, span
from tests.harness.command_line import FAMILY, CommandLine

COMMANDS = tuple(group.COMMANDS)
"""README's table has the same (tests/project/test_readme.py)."""
WITHOUT_SETTINGS = {"completion", "demo", "deploy"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_a_worked_example(line: CommandLine, command: str) -> None:
    result = line.run(command, "--help")

    assert result.exit_code == 0
    assert "Example: " in result.stdout
    assert f"\n    kling-archiver {command}" in result.stdout
    assert max(len(text) for text in result.stdout.splitlines()) <= 80


def test_help_names_every_command_and_no_other(line: CommandLine) -> None:
    listed = line.run("--help").stdout.partition("Commands:\n")[2]

    assert tuple(re.findall(r"(?m)^  (\S+)  ", listed)) == COMMANDS
    assert "..." not in listed, "a first line is cut"


def test_the_help_of_a_command_begins_as_the_list_of_commands_says(line: CommandLine) -> None:
    for name, (_, first_line) in group.COMMANDS.items():
        assert line.run(name, "-h").stdout.splitlines()[2].strip() == first_line


LONG_TO_IMPORT = {
    "alembic", "boto3", "httpx2", "psycopg", "rich", "sqlalchemy", "structlog", "uvicorn",
    "archiver.composition", "archiver.config.settings", "archiver.ledger", "archiver.log", "archiver.store",
}  # fmt: skip


@pytest.mark.parametrize(
    ("program", "commands"), [("archiver", ()), ("archiver", COMMANDS), ("receiver", ())]
)
def test_help_and_version_import_nothing_that_takes_long(program: str, commands: Sequence[str]) -> None:
    """They answer within 0.2 s; the ledger and the store take over a second to import."""
    asked = [["--version"], ["--help"], ["-h"], *([command, "--help"] for command in commands)]
    script = (
        f"import sys; from {program}.__main__ import main;"
        f"assert {{main(words) for words in {asked!r}}} == {{0}};"
        f"print(*({LONG_TO_IMPORT!r} & sys.modules.keys()), 'done')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "done"), done.stderr


def test_garbage_is_collected_while_a_command_or_the_daemon_works(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is while they are imported and at their ends: a command then takes a third less time."""
    monkeypatch.setattr(gc, "freeze", lambda: None)
    is_collected: list[bool] = []

    def status(_context: object, **_given: object) -> None:
        is_collected.append(gc.isenabled())

    def run(*_settings: object, **_roles: object) -> int:
        is_collected.append(gc.isenabled())
        return 0

    monkeypatch.setattr("archiver.commands.status.status", status)
    monkeypatch.setattr("receiver.daemon.run", run)
    gc.disable()
    line.run("status")
    receiver.__main__.main([])

    assert is_collected == [True, True]


def test_the_help_of_submit_names_every_model_and_aspect_ratio(line: CommandLine) -> None:
    shown = line.run("submit", "--help").stdout

    assert [word for word in (*rules.MODELS, *rules.RATIOS) if word not in shown] == []


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in WITHOUT_SETTINGS])
def test_wrong_usage_and_wrong_settings_are_status_2_for_every_command(
    line: CommandLine, command: str
) -> None:
    given = {
        "show": ["1"],
        "link": ["1"],
        "forwards": ["list"],
        "retry": ["1"],
        "acknowledge": ["1"],
        "register": ["1", "--family", FAMILY],
        "submit": [FAMILY, "--prompt", "a red fox"],
        "forget": ["1"],
        "backup": ["a.db"],
        "rename-account": ["a", "b"],
        "move-ledger": ["sqlite:///a.db", "sqlite:///b.db"],
    }.get(command, [])
    usage = line.run(command, *given, "--nonsense")
    enough = {**KEYS, "KLING_S3_BUCKET": "results"}
    settings = line.run(command, *given, **enough, KLING_PORT="high", KLING_FAMILIES="images/generation")

    assert (usage.exit_code, settings.exit_code) == (2, 2)
    assert "No such option" in usage.stderr
    assert "2 problems with the settings:" in settings.stderr
    assert "KLING_PORT must be" in settings.stderr
    assert "KLING_FAMILIES must name families as Kling does: write images/generations" in settings.stderr


ON_A_LEDGER = (
    ["status"],
    ["status", "--check"],
    ["show", "1"],
    ["retry", "1"],
    ["retry", "--buried"],
    ["register", "1", "--family", FAMILY],
    ["submit", FAMILY, "--prompt", "a red fox"],
    ["sweep"],
    ["sweep", "--full"],
    ["rename-account", "a", "b"],
)
KEYS = {"KLING_API_KEY": "a-key", "KLING_BASE_URL": "http://127.0.0.1:9"}


def test_no_command_creates_a_ledger(tmp_path: pathlib.Path) -> None:
    line = CommandLine(tmp_path / "ledger.db")
    for command in ON_A_LEDGER:
        result = line.run(*command, **KEYS)

        assert result.exit_code == 2, command
        assert f"there is no ledger at {line.path}" in result.stderr.replace("\n", ""), command
        assert "start kling-receiver, which makes it, or set KLING_LEDGER_URL" in result.stderr
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("schema", "said"),
    [("0002", "was written by an older version"), ("9999", "was written by a newer version")],
)
def test_no_command_changes_the_ledger_of_another_version(line: CommandLine, schema: str, said: str) -> None:
    with contextlib.closing(sqlite3.connect(line.path, isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (schema,))
    before = line.path.read_bytes()
    for command in (*ON_A_LEDGER, ["sweep", "--dry-run"]):
        result = line.run(*command, **KEYS)

        assert (result.exit_code, said in result.stderr) == (2, True), command
        assert line.path.read_bytes() == before


def test_a_damaged_ledger_is_a_problem_of_its_own_advice_for_scripts(line: CommandLine) -> None:
    line.path.write_bytes(b"SQLite format 3\0" + bytes(8176))
    result = line.run("status", "--check", "--json")
    (problem,) = json.loads(result.stdout)["problems"]

    assert (result.exit_code, problem["code"]) == (1, "door_closed")
    assert "is damaged" in problem["message"]
    assert "Move the ledger away" in problem["what_to_do"]
    assert "nothing in the bucket is lost" in problem["what_to_do"]


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"shopping list", 2, "is not a ledger (not an SQLite file)"),
        (b"SQLite format 3\0" + bytes(8176), 1, "is damaged"),
    ],
)
def test_a_file_that_is_no_ledger_or_damaged_is_a_sentence_for_every_command(
    line: CommandLine, content: bytes, status: int, said: str
) -> None:
    line.path.write_bytes(content)
    for command in ON_A_LEDGER:
        result = line.run(*command, **KEYS)

        assert (result.exit_code, said in result.stderr) == (status, True), result.stderr
        assert "nothing in the bucket is lost" in result.stderr
        assert "Traceback" not in result.stderr


def test_all_wrong_settings_are_printed_at_once_with_status_2(line: CommandLine) -> None:
    result = line.run("status", KLING_PORT="high", KLING_ACCOUNT="-")

    assert result.exit_code == 2
    assert "KLING_PORT must be" in result.stderr
    assert "KLING_ACCOUNT must be" in result.stderr


def test_a_misspelled_setting_is_pointed_out(filled: CommandLine) -> None:
    result = filled.run("show", "1", KLING_ACOUNT="x")

    assert result.exit_code == 0
    assert "KLING_ACOUNT is not a setting; did you mean KLING_ACCOUNT?" in result.stderr


@pytest.mark.parametrize("arguments", [["forget"], ["show"], ["show", "1", "2"], ["--nonsense"], []])
def test_wrong_usage_ends_with_2(line: CommandLine, arguments: list[str]) -> None:
    assert line.run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (999, "0 seconds"),
        (1000, "1 second"),
        (119_000, "119 seconds"),
        (120_000, "2 minutes"),
        (7_199_000, "119 minutes"),
        (7_200_000, "2 hours"),
        (2 * 86_400_000, "2.0 days"),
        (7 * 86_400_000 - 1, "6.9 days"),
    ],
)
def test_a_span_is_printed_in_its_largest_useful_unit(milliseconds: int, text: str) -> None:
    assert span(milliseconds) == text
    assert distance(-milliseconds) == f"{text} ago"


@pytest.mark.parametrize(
    ("typed", "shown"),
    [("", "''"), ("a b", "'a b'"), ("9" * 5000, f"'{'9' * 80}…'"), ("\x1b[31m", "\\x1b[31m")],
)
@pytest.mark.parametrize("command", ["show", "retry", "forget"])
def test_an_impossible_id_is_quoted_in_the_sentence(
    line: CommandLine, command: str, typed: str, shown: str
) -> None:
    result = line.run(command, typed)

    assert result.exit_code == 1
    assert f"has the id or external id {shown}" in result.stderr
    assert "\x1b" not in result.stderr
