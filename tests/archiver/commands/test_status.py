"""`status`: its shape, what people see, and what `--check` calls wrong."""

import json
import pathlib
from collections.abc import Callable

import pytest

from archiver.failures import BucketMissing, NeverMedia
from archiver.ledger import Ledger
from archiver.model import DAY_MS, Callback, Stage, Status, rfc3339
from tests.harness.command_line import (
    ACCOUNT,
    FAMILY,
    NOW,
    OTHER_FAMILY,
    CommandLine,
    api_task,
    archive,
    bury,
    record,
    swept,
)
from tests.postgres import PostgresServer

HOUR_MS = 3_600_000
MINUTE_MS = 60_000


@pytest.fixture
def line(tmp_path: pathlib.Path) -> CommandLine:
    """A ledger that a daemon began three days ago."""
    found = CommandLine(tmp_path / "ledger.db", now=NOW - 3 * DAY_MS)
    with found.ledger():
        pass
    found.now = NOW
    return found


@pytest.fixture
def healthy(line: CommandLine) -> CommandLine:
    """A ledger without any problem."""
    with line.ledger() as ledger:
        swept(ledger, at=NOW - HOUR_MS // 2)
        record(ledger, api_task("1"), api_task("2", Status.RUNNING), api_task("3", Status.FAILED))
        archive(ledger, "1")
        beat(ledger)
    return line


def beat(ledger: Ledger, *, clock_skew_ms: int | None = None) -> None:
    """A whole daemon runs."""
    ledger.daemons.beat(
        "daemon", version="0.1.0", started_at=NOW, accounts=[ACCOUNT], clock_skew_ms=clock_skew_ms
    )


def hold_bucket(ledger: Ledger) -> None:
    ledger.holds.set(BucketMissing("The bucket is not there"), account=ACCOUNT, stage=Stage.ARCHIVE)


# --- the shape ---


def test_status_prints_exactly_the_shape_of_the_contract(healthy: CommandLine) -> None:
    with healthy.ledger() as ledger:
        hold_bucket(ledger)
        beat(ledger)

    found = json.loads(healthy.run("status", "--json").stdout)

    assert list(found) == [
        "states",
        "earliest_deadline",
        "last_callback_at",
        "last_sweep",
        "missed_callbacks",
        "holds",
        "daemons",
        "problems",
    ]
    assert found["states"] == {
        "reported": 0,
        "running": 1,
        "succeeded": 0,
        "archived": 1,
        "failed": 1,
        "unknown": 0,
        "buried": 0,
        "lost": 0,
    }
    assert set(found["last_sweep"]) == set(found["missed_callbacks"]) == {FAMILY, OTHER_FAMILY}
    assert list(found["holds"][0]) == ["stage", "reason", "since", "what_to_do"]
    assert len(found["daemons"]) == 1


def test_status_tells_people_what_is_held_and_what_to_do(healthy: CommandLine) -> None:
    with healthy.ledger() as ledger:
        hold_bucket(ledger)

    output = healthy.run("status").stdout

    assert "archive: bucket_missing" in output
    assert "The bucket is not there" in output
    assert BucketMissing.what_to_do in output


@pytest.mark.parametrize(
    ("skew_ms", "said"),
    [(7_200_000, "2 hours behind"), (-90_000, "90 seconds ahead of"), (400, None), (None, None)],
)
def test_status_tells_people_how_far_the_clock_is_off(
    healthy: CommandLine, skew_ms: int | None, said: str | None
) -> None:
    with healthy.ledger() as ledger:
        beat(ledger, clock_skew_ms=skew_ms)

    output = healthy.run("status").stdout

    assert (f"{said} the API's" in output) if said else ("the API's" not in output)


def test_status_names_every_configured_family_swept_or_not(line: CommandLine) -> None:
    with line.ledger() as ledger:
        swept(ledger, families=["images/omni-image"], at=NOW - 2 * HOUR_MS)
        ledger.callbacks.record([Callback(ACCOUNT, "1", Status.SUCCEEDED, FAMILY)])

    rows = [text.split() for text in line.run("status").stdout.splitlines() if text.startswith("images/")]

    assert [row[0] for row in rows] == [FAMILY, OTHER_FAMILY, "images/omni-image"]
    assert rows[0][1:] == ["never", "0"]
    assert rows[2][3:] == ["(2", "hours", "ago)", "0"]


def test_status_says_whether_a_daemon_runs(healthy: CommandLine) -> None:
    beside = healthy.run("status").stdout
    healthy.now = NOW + 2 * MINUTE_MS
    without = healthy.run("status").stdout

    assert "none runs on this ledger" in without
    assert "none runs on this ledger" not in beside
    assert "daemon, version 0.1.0, process " in beside


def test_after_a_clean_stop_the_first_line_says_that_none_runs_and_nothing_is_wrong_yet(
    healthy: CommandLine,
) -> None:
    with healthy.ledger() as ledger:
        for daemon in ledger.daemons.alive():
            ledger.daemons.leave(daemon.name)

    shown, checked = healthy.run("status"), healthy.run("status", "--check")

    assert shown.stdout.splitlines()[0] == "No daemon runs on this ledger now. Nothing else is wrong."
    assert (shown.exit_code, checked.exit_code, checked.stdout) == (0, 0, "")


def test_status_begins_with_one_line_that_says_whether_all_is_well(healthy: CommandLine) -> None:
    assert healthy.run("status").stdout.splitlines()[0] == "All is well."
    bury_one(healthy)
    hold_one(healthy)

    first, *others = healthy.run("status").stdout.splitlines()

    assert first == "2 problems: hold, buried."
    assert [line.partition(":")[0] for line in others[:2]] == ["hold", "buried"]


# --- the check ---


def test_the_check_is_silent_and_ends_with_0_while_all_is_well(healthy: CommandLine) -> None:
    result = healthy.run("status", "--check")

    assert (result.exit_code, result.output) == (0, "")


def bury_one(line: CommandLine) -> None:
    with line.ledger() as ledger:
        record(ledger, api_task("4"))
        bury(ledger, "4", NeverMedia("HTML"))


def lose_one(line: CommandLine) -> None:
    bury_one(line)
    line.now = NOW + 31 * DAY_MS
    with line.ledger() as ledger:
        ledger.deadlines.expire()
    line.now = NOW


def record_one_of(line: CommandLine, *, created_at: int) -> None:
    with line.ledger() as ledger:
        record(ledger, api_task("6", created_at=created_at))


def hold_one(line: CommandLine) -> None:
    with line.ledger() as ledger:
        hold_bucket(ledger)


def nearly_expire_one(line: CommandLine) -> None:
    record_one_of(line, created_at=NOW - 23 * DAY_MS - HOUR_MS)


DEFECTS: dict[str, tuple[Callable[[CommandLine], None], str]] = {
    "buried": (bury_one, "1 task buried: 4. "),
    # 2 was running, and has not been queried since.
    "lost": (lose_one, "2 tasks lost: 2, 4. "),
    "deadline": (
        nearly_expire_one,
        "the nearest deadline of a task that is not in the bucket is in 6.9 days",
    ),
    "hold": (hold_one, "archive is held: bucket_missing: The bucket is not there. "),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_check_says_the_one_thing_that_is_wrong_and_ends_with_1(
    healthy: CommandLine, defect: str
) -> None:
    make, said = DEFECTS[defect]
    make(healthy)

    result = healthy.run("status", "--check")

    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    assert result.stdout.startswith(f"{defect}: ")
    assert said in result.stdout


def test_the_check_ignores_a_deadline_in_more_than_a_week(healthy: CommandLine) -> None:
    record_one_of(healthy, created_at=NOW - 23 * DAY_MS + HOUR_MS)

    assert healthy.run("status", "--check").exit_code == 0


def test_the_check_fails_on_a_ledger_that_no_daemon_ever_opened(tmp_path: pathlib.Path) -> None:
    lonely = CommandLine(tmp_path / "lonely.db").with_ledger()

    result = lonely.run("status", "--check")

    assert result.exit_code == 1
    assert [said.partition(":")[0] for said in result.stdout.splitlines()] == ["no_worker", "no_door"]


def test_the_check_fails_two_minutes_after_the_daemons_last_sign_of_life(healthy: CommandLine) -> None:
    healthy.now = NOW + 2 * MINUTE_MS - 1
    assert healthy.run("status", "--check").exit_code == 0

    healthy.now += 1
    result = healthy.run("status", "--check", "--json")

    assert result.exit_code == 1
    worker, door = json.loads(result.stdout)["problems"]
    assert (worker["code"], door["code"]) == ("no_worker", "no_door")
    assert worker["since"] == rfc3339(NOW)


def test_a_ledger_that_another_process_writes_is_no_closed_door_while_the_daemon_beats(
    healthy: CommandLine,
) -> None:
    healthy.now = NOW + MINUTE_MS // 2 - 1
    with healthy.ledger() as ledger, ledger.database.write():
        assert healthy.run("status", "--check").exit_code == 0


def test_the_check_says_that_callbacks_cannot_be_committed(healthy: CommandLine) -> None:
    healthy.now = NOW + MINUTE_MS // 2
    with healthy.ledger() as ledger, ledger.database.write():
        result = healthy.run("status", "--check", "--json")

    assert result.exit_code == 1
    assert [problem["code"] for problem in json.loads(result.stdout)["problems"]] == ["door_closed"]


def test_the_check_as_json_is_the_status_with_its_problems(healthy: CommandLine) -> None:
    bury_one(healthy)

    result = healthy.run("status", "--check", "--json")
    found = json.loads(result.stdout)

    assert result.exit_code == 1
    assert found["states"]["buried"] == 1
    (problem,) = found["problems"]
    assert list(problem) == ["code", "message", "what_to_do", "account", "since"]
    assert (problem["code"], problem["account"], problem["since"]) == ("buried", ACCOUNT, rfc3339(NOW))


def test_the_check_names_the_first_five_of_many_ids(healthy: CommandLine) -> None:
    with healthy.ledger() as ledger:
        record(ledger, *(api_task(f"b{number}", has_results=False) for number in range(9)))

    output = healthy.run("status", "--check").stdout

    assert output.startswith("buried: 9 tasks buried: b0, b1, b2, b3, b4 and 4 more. ")
    assert "kling-archiver show b0." in output, "to be copied as it is"


def test_the_verdict_has_a_colour_at_a_terminal_and_none_with_no_color(healthy: CommandLine) -> None:
    healthy.screen = {"FORCE_COLOR": "1", "TERM": "xterm", "NO_COLOR": None}
    well = healthy.run("status").stdout
    bury_one(healthy)
    bad = healthy.run("status").stdout
    healthy.screen = {"FORCE_COLOR": "1", "TERM": "xterm", "NO_COLOR": "1"}
    plain = healthy.run("status").stdout

    assert well.splitlines()[0] == "\x1b[1;32mAll is well.\x1b[0m"
    assert bad.splitlines()[0] == "\x1b[1;31m1 problem: buried.\x1b[0m"
    assert "\x1b" not in plain


@pytest.mark.parametrize("how", [["--check", "--json"], ["--check"], []])
def test_a_server_that_refuses_logins_is_a_problem_and_not_a_wrong_setting(
    healthy: CommandLine, postgres_server: PostgresServer, how: list[str]
) -> None:
    url = f"postgresql://nobody-here:hidden@/postgres?host={postgres_server.folder}"
    result = healthy.run("status", *how, KLING_LEDGER_URL=url)

    assert result.exit_code == 1, "nothing is known of the data"
    assert "nobody-here" in result.output
    assert "does not exist" in result.output
    assert "KLING_LEDGER_URL" in result.output
    assert ("door_closed" in result.stdout) == ("--json" in how)
    assert "hidden" not in result.output
