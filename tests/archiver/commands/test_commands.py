"""`show`, `retry`, `register`, and rules that all commands share."""

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
from archiver.commands.terminal.printing import clean
from archiver.create import rules
from archiver.failures import NotMedia
from archiver.model import Callback, State, Status
from archiver.phrases import distance, shown_id, span
from tests.harness.command_line import ACCOUNT, FAMILY, NOW, CommandLine, api_task, archive, bury, record

COMMANDS = tuple(group.COMMANDS)
"""README's table has the same (tests/project/test_readme.py)."""
WITHOUT_SETTINGS = {"completion", "demo", "deploy"}


@pytest.fixture
def line(tmp_path: pathlib.Path) -> CommandLine:
    return CommandLine(tmp_path / "ledger.db").with_ledger()


@pytest.fixture
def filled(line: CommandLine) -> CommandLine:
    """Three tasks: `1` archived (external id `order-1`), `2` buried, `3` known from a callback only."""
    with line.ledger() as ledger:
        record(ledger, api_task("1", external_task_id="order-1"), api_task("2"))
        archive(ledger, "1")
        bury(ledger, "2", NotMedia("0 is HTML"))
        ledger.callbacks.record([Callback(ACCOUNT, "3", Status.SUCCEEDED, FAMILY)])
    return line


# --- show ---


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
def test_link_of_what_there_is_not_is_a_sentence_and_status_1(
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


def test_show_of_a_task_known_from_a_callback_only_shows_what_there_is(filled: CommandLine) -> None:
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


# --- retry ---


def state_of(line: CommandLine, task_id: str) -> str:
    with line.ledger(daemon=False) as ledger:
        shown = ledger.views.show(task_id, account=ACCOUNT)
    return str(shown and shown.state)


def is_due(line: CommandLine, task_id: str) -> bool:
    with line.ledger(daemon=False) as ledger:
        return task_id in {
            lease.task_id for lease in ledger.claims.verify(count=1000, offset=0, account=ACCOUNT)
        }


def test_retry_makes_a_buried_task_due_now(filled: CommandLine) -> None:
    assert not is_due(filled, "2")

    result = filled.run("retry", "2")

    assert result.exit_code == 0
    assert result.stdout == "1 task will be asked for again now.\n"
    assert is_due(filled, "2")


def test_retry_says_that_no_daemon_is_there_to_do_the_work(filled: CommandLine) -> None:
    alone = filled.run("retry", "2").stderr
    with filled.ledger() as ledger:
        ledger.daemons.beat("daemon", version="1", started_at=NOW)
    beside = filled.run("retry", "2").stderr

    assert "No kling-receiver has been seen" in alone
    assert beside == ""


def test_retry_of_an_unknown_id_ends_with_1_and_retries_the_known_ones(filled: CommandLine) -> None:
    result = filled.run("retry", "nobody", "2", "\udcff")

    assert result.exit_code == 1
    assert "id or external id nobody." in result.stderr
    assert "id or external id \\udcff." in result.stderr
    assert is_due(filled, "2")


def test_retry_does_not_change_an_archived_task(filled: CommandLine) -> None:
    result = filled.run("retry", "order-1", "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"retried": 0, "archived": ["order-1"], "unknown": []}
    assert state_of(filled, "1") == "archived"


def test_retry_takes_external_ids(filled: CommandLine) -> None:
    with filled.ledger() as ledger:
        record(ledger, api_task("4", external_task_id="order-4"))
        bury(ledger, "4", NotMedia("HTML"))

    assert json.loads(filled.run("retry", "order-4", "--json").stdout)["retried"] == 1
    assert is_due(filled, "4")


def test_an_id_given_twice_is_retried_once(filled: CommandLine) -> None:
    assert json.loads(filled.run("retry", "2", "2", "--json").stdout)["retried"] == 1


def test_retry_buried_takes_every_buried_task_in_batches(line: CommandLine) -> None:
    ids = [str(number) for number in range(1201)]
    with line.ledger() as ledger:
        for some in (ids[:500], ids[500:1000], ids[1000:]):
            record(ledger, *(api_task(one, has_results=False) for one in some))

    result = line.run("retry", "--buried", "--json")

    assert json.loads(result.stdout) == {"retried": 1201, "archived": [], "unknown": []}


def test_retry_buried_with_nothing_buried_is_done(line: CommandLine) -> None:
    with line.ledger():
        pass

    result = line.run("retry", "--buried")

    assert (result.exit_code, result.stdout) == (0, "0 tasks will be asked for again now.\n")


@pytest.mark.parametrize("arguments", [[], ["1", "--buried"]])
def test_retry_takes_either_ids_or_buried(filled: CommandLine, arguments: list[str]) -> None:
    result = filled.run("retry", *arguments)

    assert result.exit_code == 2
    assert "--buried" in result.stderr


# --- register ---


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


# --- all of them ---


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
def test_an_id_that_none_can_have_is_told_apart_from_the_sentence(
    line: CommandLine, command: str, typed: str, shown: str
) -> None:
    result = line.run(command, typed)

    assert result.exit_code == 1
    assert f"has the id or external id {shown}" in result.stderr
    assert "\x1b" not in result.stderr
