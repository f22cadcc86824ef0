"""`submit` registers the task, creates it, and names it."""

import json
import pathlib

import pytest

from archiver.failures import LedgerUnavailable
from archiver.ledger.daemons import Daemons
from tests.harness.command_line import (
    ACCOUNT,
    FAMILY,
    CommandLine,
)
from tests.harness.submitting import FOX, PUBLIC, TOKEN, request_of, sent
from tests.simulator import KlingSimulator


def test_a_task_is_created_registered_and_named(line: CommandLine, simulator: KlingSimulator) -> None:
    result = line.run(*FOX, "--n", "4", "--aspect-ratio", "16:9")

    task = sent(simulator)
    assert result.exit_code == 0
    assert (
        result.stdout
        == f"{task.task_id} is created and registered; see: kling-archiver show {task.task_id}\n"
    )
    assert len(task.indexes) == 4
    shown = json.loads(line.run("show", task.task_id, "--json").stdout)
    assert (shown["state"], shown["family"]) == ("running", FAMILY)
    assert shown["external_task_id"] == task.external_task_id
    assert request_of(line, task.task_id) == {"prompt": "a red fox", "n": 4, "aspect_ratio": "16:9"}
    assert simulator.complaints == []


def test_as_json_prints_one_document(line: CommandLine, simulator: KlingSimulator) -> None:
    printed = json.loads(line.run(*FOX, "--json").stdout)

    task = sent(simulator)
    assert printed == {
        "outcome": "created",
        "task_id": task.task_id,
        "external_task_id": task.external_task_id,
        "account": ACCOUNT,
        "family": FAMILY,
        "state": "running",
        "reason": None,
        "message": None,
        "keys": [],
        "manifest_key": None,
    }


def test_the_callback_url_is_ours_with_the_first_token_and_the_family(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    simulator.switches.callback_drop = True
    result = line.run(*FOX, **PUBLIC)

    url = f"https://us.example/kling/callbacks/{TOKEN}/{FAMILY}"
    assert sent(simulator).callback_url == url
    assert TOKEN not in result.output
    assert result.stderr == ""


def test_the_token_of_the_callback_url_may_be_in_a_file(
    line: CommandLine, simulator: KlingSimulator, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    public = {name: value for name, value in PUBLIC.items() if name != "KLING_CALLBACK_TOKEN"}
    line.run(*FOX, **public, KLING_CALLBACK_TOKEN_FILE=str(tmp_path / "token"))

    assert sent(simulator).callback_url == f"https://us.example/kling/callbacks/{TOKEN}/{FAMILY}"


def test_without_a_public_url_it_says_that_no_callback_will_come(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    said = line.run(*FOX).stderr
    other = line.run("submit", "images/omni-image", "--prompt", "x").stderr

    assert (
        "KLING_PUBLIC_URL is not set, so no callback will come; we follow the task by registration and sweep."
        in said
    )
    assert "by registration (KLING_FAMILIES does not name images/omni-image)." in other
    assert {simulator.task(task_id).callback_url for task_id in simulator.task_ids()} == {None}


def test_a_public_url_without_a_token_is_a_wrong_setting(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    result = line.run(*FOX, KLING_PUBLIC_URL="https://us.example")

    assert result.exit_code == 2
    assert "KLING_CALLBACK_TOKEN" in result.stderr
    assert simulator.task_ids() == []


def test_missing_keys_are_a_wrong_setting(tmp_path: pathlib.Path) -> None:
    result = CommandLine(tmp_path / "ledger.db").run(*FOX)

    assert result.exit_code == 2
    assert "KLING_ACCESS_KEY" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_it_says_that_no_daemon_runs(tmp_path: pathlib.Path, simulator: KlingSimulator) -> None:
    result = CommandLine(tmp_path / "ledger.db", simulator=simulator).with_ledger().run(*FOX)

    assert result.exit_code == 0
    assert "No kling-receiver has been seen on this ledger" in result.stderr


def test_a_ledger_that_fails_after_the_create_does_not_hide_that_the_task_exists(
    line: CommandLine, simulator: KlingSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the command would be repeated, and pay for a second task."""

    def fail(_: Daemons) -> None:
        raise LedgerUnavailable("the ledger is locked")

    monkeypatch.setattr(Daemons, "alive", fail)
    result = line.run(*FOX)

    assert result.exit_code == 1
    assert "the ledger is locked" in result.stderr
    assert "The task is created and registered, and goes on by itself" in result.stderr
    assert f"kling-archiver show {sent(simulator).task_id}" in result.stderr
