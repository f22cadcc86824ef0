"""`forget`: what it prints, what `show` says after it, and which ids it refuses."""

import json
import pathlib

import pytest

from tests.harness.command_line import CommandLine, api_task, archive, record

THEN = 1_795_174_680_000
"""2026-11-20T11:38:00Z, in Unix ms."""
BUCKET = {"KLING_S3_BUCKET": "results", "KLING_S3_PREFIX": "kling/"}
FOLDER = "s3://results/kling/images/generations/2026/11/20/1/"
TWO_ACCOUNTS = """
[[accounts]]
name = "default"
callback_token = "a-token-of-its-own-1"
api_key = "a"
s3_prefix = "default/"

[[accounts]]
name = "other"
callback_token = "a-token-of-its-own-2"
api_key = "b"
s3_prefix = "other/"
"""


@pytest.fixture
def line(tmp_path: pathlib.Path) -> CommandLine:
    """`1` is archived."""
    found = CommandLine(tmp_path / "ledger.db", now=THEN)
    with found.ledger() as ledger:
        record(ledger, api_task("1", created_at=THEN, external_task_id="order-1"))
        archive(ledger, "1")
    return found


def test_it_prints_the_keys_for_the_owner_to_delete(line: CommandLine) -> None:
    result = line.run("forget", "1", **BUCKET)

    assert (result.exit_code, result.stderr) == (0, "")
    lines = [each.strip() for each in result.stdout.splitlines()]
    assert lines[0] == "1 is forgotten; it was archived."
    assert lines[2:5] == [
        f"{FOLDER}0.png",
        f"{FOLDER}manifest.json",
        f"All that it may have in the bucket lies in {FOLDER}",
    ]


def test_for_a_task_that_may_be_in_work_it_says_which_objects_may_still_come(line: CommandLine) -> None:
    with line.ledger() as ledger:
        record(ledger, api_task("2", created_at=THEN))

    printed = line.run("forget", "2", **BUCKET).stdout

    assert "it was succeeded." in printed
    assert "A transfer that is under way may still put a file there" in printed


def test_it_prints_json(line: CommandLine) -> None:
    assert json.loads(line.run("forget", "order-1", "--json", **BUCKET).stdout) == {
        "task_id": "1",
        "account": "default",
        "external_task_id": "order-1",
        "forgotten_at": "2026-11-20T11:38:00.000Z",
        "new": True,
        "was": "archived",
        "objects": [f"{FOLDER}0.png", f"{FOLDER}manifest.json"],
        "folder": FOLDER,
    }


@pytest.mark.parametrize("name", ["1", "order-1"])
def test_show_says_forgotten_for_either_id_and_nothing_else_about_the_task(
    line: CommandLine, name: str
) -> None:
    line.run("forget", "1")

    shown, as_json = line.run("show", name), json.loads(line.run("show", name, "--json").stdout)

    assert shown.exit_code == 0
    assert "forgotten" in shown.stdout
    assert (as_json["task_id"], as_json["state"]) == ("1", "forgotten")
    assert "p1.klingai.com" not in shown.stdout + str(as_json)


def test_forgetting_again_says_when_it_was_forgotten(line: CommandLine) -> None:
    line.run("forget", "1")
    line.now = THEN + 60_000

    again = line.run("forget", "order-1", **BUCKET)

    assert again.exit_code == 0
    assert "1 was forgotten on 2026-11-20 11:38" in again.stdout
    assert FOLDER in again.stdout


def test_an_unknown_id_is_refused(line: CommandLine) -> None:
    result = line.run("forget", "nobody")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "nobody" in result.stderr
    assert "nothing to forget" in result.stderr


@pytest.mark.parametrize(
    "command", [["link", "1"], ["register", "1", "--family", "images/generations"], ["retry", "1"]]
)
def test_no_other_command_follows_it(line: CommandLine, command: list[str]) -> None:
    line.run("forget", "1")
    links = {"KLING_LINK_SECRET": "s" * 32, "KLING_PUBLIC_URL": "https://kling.example.com"}

    result = line.run(*command, **links)

    assert result.exit_code == 1
    assert result.stderr.startswith("kling-archiver: ")
    with line.ledger(daemon=False) as ledger:
        assert ledger.views.show("1", account="default") is None


def test_of_two_accounts_that_both_have_the_id_one_must_be_named(
    line: CommandLine, tmp_path: pathlib.Path
) -> None:
    with line.ledger() as ledger:
        ledger.registrations.register("1", account="other", family="images/generations")
    (tmp_path / "kling.toml").write_text(TWO_ACCOUNTS)
    settings = {"KLING_CONFIG": str(tmp_path / "kling.toml"), **BUCKET, "KLING_S3_PREFIX": ""}

    refused = line.run("forget", "1", **settings)
    chosen = line.run("forget", "1", "--account", "other", **settings)

    assert refused.exit_code == 2
    assert "--account" in refused.stderr
    assert (chosen.exit_code, chosen.stdout) == (0, "1 is forgotten; it was reported.\n")
    assert json.loads(line.run("show", "1", "--account", "default", "--json", **settings).stdout)[
        "state"
    ] == ("archived")
