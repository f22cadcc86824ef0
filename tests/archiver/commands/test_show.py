"""`show` and `link`."""

import json
import re

import pytest

from archiver.commands.terminal.printing import clean
from archiver.failures import NotMedia
from archiver.model import Status
from archiver.phrases import shown_id
from tests.harness.command_line import FAMILY, CommandLine, api_task, archive, record


def test_show_prints_exactly_the_shape_of_the_contract(filled: CommandLine) -> None:
    result = filled.run("show", "1", "--json")
    shown = json.loads(result.stdout)

    assert result.exit_code == 0
    assert list(shown) == [
        "task_id",
        "account",
        "family",
        "external_task_id",
        "state",
        "reason",
        "message",
        "what_to_do",
        "attempts",
        "due_at",
        "created_at",
        "updated_at",
        "expires_at",
        "discovered_by",
        "callbacks",
        "manifest_key",
        "amendment_keys",
        "assets",
        "forwards",
        "history",
    ]
    assert list(shown["assets"][0]) == [
        "name",
        "stem",
        "key",
        "stored",
        "bytes",
        "sha256",
        "link",
        "reason",
        "url",
    ]
    assert list(shown["history"][0]) == ["at", "event", "detail"]


def test_show_prints_objects_as_other_programs_take_them(filled: CommandLine) -> None:
    shown = filled.run("show", "1", KLING_S3_BUCKET="results").stdout

    assert f"s3://results/kling/{FAMILY}/2026/11/20/1/0.png" in shown
    assert f"s3://results/kling/{FAMILY}/2026/11/20/1/manifest.json" in shown


def test_show_names_a_file_that_is_not_stored(line: CommandLine) -> None:
    with line.ledger() as ledger:
        record(ledger, api_task("1"))
    shown = line.run("show", "1").stdout

    assert re.search(r"^ *0 .*not stored: not tried yet", shown, re.MULTILINE)


def test_show_has_kling_s_url_of_a_file_that_is_not_stored_and_of_no_other(filled: CommandLine) -> None:
    urls = {
        task: [asset["url"] for asset in json.loads(filled.run("show", task, "--json").stdout)["assets"]]
        for task in ("1", "2", "3")
    }

    assert urls == {"1": [None], "2": [api_task("2").assets[0].url], "3": []}


LINKS = {
    "KLING_LINK_SECRET": "a-link-secret-of-at-least-32-characters",
    "KLING_PUBLIC_URL": "https://kling.example.com",
}


def test_show_has_the_links_of_files_where_there_is_a_secret(filled: CommandLine) -> None:
    with_secret = json.loads(filled.run("show", "1", "--json", **LINKS).stdout)
    without = json.loads(filled.run("show", "1", "--json").stdout)
    (asset,) = with_secret["assets"]

    assert re.fullmatch(
        r"https://kling\.example\.com/files/[\w-]{22}/default/images/generations/2026/\d\d/\d\d/1/0\.png",
        asset["link"],
    )
    assert asset["stem"] == "0"
    assert asset["link"] in filled.run("show", "1", **LINKS).stdout
    assert [asset["link"] for asset in without["assets"]] == [None]


def test_a_link_is_the_same_before_the_file_is_stored_and_after(line: CommandLine) -> None:
    with line.ledger() as ledger:
        record(ledger, api_task("1"))
    before = line.run("link", "1", **LINKS).stdout
    with line.ledger() as ledger:
        archive(ledger, "1")

    assert before.endswith("/1/0.png\n")
    assert line.run("link", "1", **LINKS).stdout == before


@pytest.mark.parametrize("name", [None, "0", "0.png"])
def test_link_prints_the_links_alone_one_a_line(filled: CommandLine, name: str | None) -> None:
    result = filled.run("link", "order-1", *([] if name is None else [name]), **LINKS)
    as_json = json.loads(filled.run("link", "order-1", "--json", **LINKS).stdout)

    assert (result.exit_code, result.stderr) == (0, "")
    assert (as_json["task_id"], as_json["account"]) == ("1", "default")
    assert as_json["links"] == [{"name": "0.png", "stem": "0", "link": result.stdout.strip()}]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nobody"], "no task of the account default has the id or external id nobody"),
        (["1", "1.png"], "the task 1 has no file called 1.png"),
        (["3"], "the task 3 has no file"),
    ],
)
def test_link_of_an_unknown_file_is_a_sentence_and_status_1(
    filled: CommandLine, arguments: list[str], said: str
) -> None:
    result = filled.run("link", *arguments, **LINKS)

    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr


@pytest.mark.parametrize("lacking", LINKS)
def test_link_without_its_settings_names_them_and_has_status_2(filled: CommandLine, lacking: str) -> None:
    result = filled.run("link", "1", **{name: value for name, value in LINKS.items() if name != lacking})

    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{lacking} is missing" in result.stderr


def test_show_takes_an_external_id(filled: CommandLine) -> None:
    shown = json.loads(filled.run("show", "order-1", "--json").stdout)

    assert (shown["task_id"], shown["state"]) == ("1", "archived")


def test_show_tells_people_where_the_files_are(filled: CommandLine) -> None:
    output = filled.run("show", "1").stdout

    assert f"kling/{FAMILY}/2026/11/20/1/0.png" in output
    assert f"kling/{FAMILY}/2026/11/20/1/manifest.json" in output


def test_show_says_why_a_task_is_buried_and_what_to_do(filled: CommandLine) -> None:
    output = filled.run("show", "2").stdout

    assert "not_media" in output
    assert "0 is HTML" in output
    assert NotMedia.what_to_do in output

    for task, said in (("1", None), ("2", NotMedia.what_to_do), ("3", None)):
        assert json.loads(filled.run("show", task, "--json").stdout)["what_to_do"] == said


def test_show_of_a_task_known_from_a_callback_only_shows_what_is_known(filled: CommandLine) -> None:
    result = filled.run("show", "3")

    assert result.exit_code == 0
    assert "reported" in result.stdout
    assert "callback, callbacks: 1" in result.stdout


@pytest.mark.parametrize(
    "task_id", ["nobody", "9" * 400, "\udcff\udcfe", "a\0b", "' OR 1=1 --", "..", " ", "[bold]"]
)
def test_an_unknown_id_is_a_sentence_and_status_1(filled: CommandLine, task_id: str) -> None:
    result = filled.run("show", "--", task_id)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert (
        f"no task of the account default has the id or external id {clean(shown_id(task_id))}."
        in result.stderr
    )


def test_a_message_of_the_api_cannot_move_the_cursor(line: CommandLine) -> None:
    with line.ledger() as ledger:
        record(
            ledger, api_task("1", Status.FAILED, message="\x1b[2J\x1b]0;owned\x07 [bold]no[/bold] \r\n 失败")
        )

    output = line.run("show", "1").stdout

    assert "\x1b" not in output
    assert "\\x1b[2J\\x1b]0;owned\\x07 [bold]no[/bold] \\r" in output
    assert "失败" in output
