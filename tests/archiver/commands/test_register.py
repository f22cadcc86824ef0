"""`register`."""

import json

import pytest

from archiver.model import State
from tests.harness.command_line import FAMILY, CommandLine


def test_register_says_whether_the_id_was_new(line: CommandLine) -> None:
    first = line.run("register", "77", "--family", FAMILY)
    second = line.run("register", "77", "--family", FAMILY)

    assert (first.exit_code, first.stdout) == (
        0,
        "77 is registered; kling-receiver asks the API for it now.\n",
    )
    assert (second.exit_code, second.stdout) == (0, "77 was known already; see: kling-archiver show 77\n")


def test_register_keeps_family_and_external_id(line: CommandLine) -> None:
    result = line.run("register", "77", "--family", FAMILY, "--external-task-id", "order 7/ü", "--json")
    shown = json.loads(line.run("show", "order 7/ü", "--json").stdout)

    assert json.loads(result.stdout) == {
        "task_id": "77",
        "account": "default",
        "family": FAMILY,
        "external_task_id": "order 7/ü",
        "new": True,
    }
    assert (shown["task_id"], shown["family"], shown["discovered_by"]) == ("77", FAMILY, "registration")
    assert shown["state"] == State.REPORTED


@pytest.mark.parametrize("task_id", ["", " ", ".", "..", "a\nb", "\udcff", "\x1b[2J", "x" * 257])
def test_register_refuses_an_impossible_id(line: CommandLine, task_id: str) -> None:
    result = line.run("register", "--family", FAMILY, "--", task_id)

    assert result.exit_code == 2
    assert "ID must be" in result.stderr
    with line.ledger(daemon=False) as ledger:
        assert ledger.views.status().states[State.REPORTED] == 0


def test_register_takes_what_only_an_external_id_may_be_and_says_so(line: CommandLine) -> None:
    result = line.run("register", "order 7", "--family", FAMILY)

    assert result.exit_code == 0
    assert "'order 7' cannot be a task id of Kling's, so it is asked for as an external id" in result.stderr


@pytest.mark.parametrize("task_id", [" 77", "77 ", "77\u00a0"])
def test_register_refuses_an_id_that_was_pasted_with_a_space(line: CommandLine, task_id: str) -> None:
    result = line.run("register", task_id, "--family", FAMILY)

    assert result.exit_code == 2
    assert "begins or ends with a space" in result.stderr or "ID must be" in result.stderr


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("/v1/images/generations", "images/generations"),
        ("images/generations/", "images/generations"),
        ("images", "two or three path segments"),
        ("Images/Generations", "two or three path segments"),
        ("../../etc", "two or three path segments"),
        ("", "two or three path segments"),
    ],
)
def test_register_refuses_an_impossible_family(line: CommandLine, family: str, said: str) -> None:
    result = line.run("register", "77", "--family", family)

    assert result.exit_code == 2
    assert said in result.stderr


def test_register_takes_an_unknown_family_and_suggests_a_similar_one(line: CommandLine) -> None:
    result = line.run("register", "77", "--family", "images/generation")

    assert result.exit_code == 0
    assert "did you mean images/generations?" in result.stderr
