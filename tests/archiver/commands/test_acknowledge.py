"""`acknowledge`: what it ends, and what it says of ids that are no problem."""

import json
import pathlib

import pytest

from archiver.failures import NeverMedia
from archiver.model import DAY_MS
from tests.harness.command_line import NOW, CommandLine, api_task, bury, record


@pytest.fixture
def line(tmp_path: pathlib.Path) -> CommandLine:
    """`1` is buried, `2` and `3` are lost, `4` has succeeded."""
    found = CommandLine(tmp_path / "ledger.db")
    with found.ledger() as ledger:
        record(ledger, api_task("1"), api_task("2", created_at=NOW - 30 * DAY_MS + 1000))
        bury(ledger, "1", NeverMedia("HTML"))
        record(ledger, api_task("3", created_at=NOW - 30 * DAY_MS + 1000), api_task("4"))
        found.now = NOW + 2000
        ledger.deadlines.expire()
    return found


def codes(line: CommandLine) -> set[str]:
    found = json.loads(line.run("status", "--json").stdout)["problems"]
    return {problem["code"] for problem in found} & {"lost", "buried"}


def test_acknowledging_ends_the_problem_and_leaves_the_task(line: CommandLine) -> None:
    assert codes(line) == {"lost", "buried"}

    result = line.run("acknowledge", "1")

    assert (result.exit_code, result.stdout) == (0, "1 task acknowledged.\n")
    assert codes(line) == {"lost"}
    shown = json.loads(line.run("show", "1", "--json").stdout)
    assert (shown["state"], shown["history"][-1]["event"]) == ("buried", "task.acknowledged")


def test_all_lost_tasks_can_be_acknowledged_at_once(line: CommandLine) -> None:
    result = line.run("acknowledge", "--lost", "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"acknowledged": ["2", "3"], "no_problem": [], "unknown": []}
    assert codes(line) == {"buried"}
    assert line.run("acknowledge", "2").exit_code == 0


def test_an_unknown_id_and_one_without_a_problem_are_reported(line: CommandLine) -> None:
    result = line.run("acknowledge", "1", "4", "nobody")

    assert result.exit_code == 1
    assert "4 is neither lost nor buried" in result.stderr
    assert "nobody" in result.stderr
    assert codes(line) == {"lost"}


@pytest.mark.parametrize("arguments", [[], ["1", "--lost"]])
def test_ids_and_the_option_lost_exclude_each_other(line: CommandLine, arguments: list[str]) -> None:
    assert line.run("acknowledge", *arguments).exit_code == 2
