"""`forwards`: what applications are told, and telling them again."""

import json
import pathlib

import pytest

from archiver.ledger import Ledger
from archiver.model import DAY_MS, Status
from archiver.times import parse_time
from tests.harness.command_line import NOW, CommandLine, api_task, record

URL = {"KLING_FORWARD_URL": "https://app.example.com/kling?key=hidden-query"}


def claim_all(ledger: Ledger) -> None:
    """`1` is taken, `2` is given up, `3` waits."""
    taken, given_up, _ = ledger.forwards.claim("", accounts=["default"], count=3)
    ledger.forwards.delivered(taken, status=200)
    ledger.forwards.dead(given_up, status=503, reason="consumer_refused", is_problem=True)


@pytest.fixture
def line(tmp_path: pathlib.Path) -> CommandLine:
    found = CommandLine(tmp_path / "ledger.db")
    with found.ledger() as ledger:
        record(ledger, api_task("old", Status.FAILED, created_at=NOW - 3 * DAY_MS))
        ledger.forwards.set_operator(is_told=True)
        for task_id in ("1", "2", "3"):
            record(ledger, api_task(task_id, Status.FAILED))
        claim_all(ledger)
    return found


def listed(line: CommandLine, *arguments: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(
        line.run("forwards", "list", "--json", *arguments, **URL).stdout
    )
    return rows


def codes(line: CommandLine) -> set[str]:
    found = json.loads(line.run("status", "--json").stdout)["problems"]
    return {problem["code"] for problem in found}


def test_list_shows_the_newest_first_by_state_and_without_a_query(line: CommandLine) -> None:
    assert {row["task_id"]: row["state"] for row in listed(line)} == {
        "1": "delivered",
        "2": "dead",
        "3": "waiting",
    }
    (dead,) = listed(line, "--state", "dead")
    assert (dead["event"], dead["last_status"], dead["reason"]) == ("failed", 503, "consumer_refused")
    assert dead["target"] == "https://app.example.com/kling"
    assert len(listed(line, "--limit", "2")) == 2
    assert "https://app.example.com/kling" in line.run("forwards", "list", **URL).stdout


def test_show_lists_the_forwards_of_a_task(line: CommandLine) -> None:
    (forward,) = json.loads(line.run("show", "2", "--json", **URL).stdout)["forwards"]

    assert forward == {
        "target": "https://app.example.com/kling",
        "event": "failed",
        "state": "dead",
        "attempts": 1,
        "due_at": None,
        "last_status": 503,
    }


def test_dead_forwards_are_a_problem_until_they_are_sent_again_or_acknowledged(line: CommandLine) -> None:
    checked = line.run("status", "--check")
    assert checked.exit_code == 1
    assert "forwards_dead" in checked.stdout
    assert line.run("acknowledge", "2").exit_code == 0
    assert "forwards_dead" not in codes(line)

    result = line.run("forwards", "retry", "--dead", "--json", **URL)

    assert json.loads(result.stdout) == {"queued": 1, "unknown": []}
    assert {row["state"] for row in listed(line)} == {"delivered", "waiting"}


def test_single_forwards_are_sent_again_and_an_unknown_id_is_reported(line: CommandLine) -> None:
    (dead,) = listed(line, "--state", "dead")
    result = line.run("forwards", "retry", "1", str(dead["webhook_id"]), "nobody", **URL)

    assert result.exit_code == 1
    assert result.stdout == "2 forwards will be sent now.\n"
    assert "nobody" in result.stderr
    assert len(listed(line, "--state", "waiting")) == 3


def test_send_queues_tasks_that_ended_before_the_application_was_named(line: CommandLine) -> None:
    result = line.run("forwards", "send", "--since", "1d", **URL)
    assert (result.exit_code, result.stdout) == (0, "2 forwards will be sent now.\n")  # `3` waits already

    assert (
        line.run("forwards", "send", "--since", "2026-01-01", **URL).stdout == "1 forward will be sent now.\n"
    )
    assert "old" in {row["task_id"] for row in listed(line, "--state", "waiting")}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["retry"], "--dead"),
        (["retry", "1", "--dead"], "--dead"),
        (["list", "1"], "retry"),
        (["send"], "--since"),
        (["send", "--since", "yesterday"], "must be a time such as"),
        (["list", "--since", "1d"], "send"),
        (["retry", "1", "--state", "dead"], "list"),
        (["sends"], "sends"),
    ],
)
def test_wrong_usage_says_what_is_wrong(line: CommandLine, arguments: list[str], said: str) -> None:
    result = line.run("forwards", *arguments, **URL)

    assert result.exit_code == 2
    assert said in result.stderr


def test_send_without_an_application_is_wrong_usage(line: CommandLine) -> None:
    result = line.run("forwards", "send", "--since", "1d")

    assert result.exit_code == 2
    assert "KLING_FORWARD_URL is not set" in result.stderr


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        ("2026-11-20", 1_795_132_800_000),
        ("2026-11-20T08:00Z", 1_795_161_600_000),
        ("2026-11-20 08:00:00+02:00", 1_795_154_400_000),
        ("90s", 1_795_000_000_000 - 90_000),
        ("36H", 1_795_000_000_000 - 36 * 3_600_000),
        ("7d ago", 1_795_000_000_000 - 7 * DAY_MS),
    ],
)
def test_times_are_read_as_they_are_typed(written: str, milliseconds: int) -> None:
    assert parse_time(written, now=1_795_000_000_000) == milliseconds
