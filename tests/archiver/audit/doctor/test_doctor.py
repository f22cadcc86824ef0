"""`kling-archiver doctor` as an operator runs it, against a simulated account and a real store."""

import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from typer.testing import Result

from archiver.audit.doctor import kling
from archiver.audit.doctor.finding import SECONDS_MAX
from archiver.audit.doctor.running import TOTAL_SECONDS_MAX
from archiver.config import values
from archiver.model import DAY_MS, Callback, Status
from archiver.store import ConditionalPut
from tests.harness.command_line import ACCOUNT, FAMILY, CommandLine
from tests.s3_servers import S3Server
from tests.simulator import KlingSimulator
from tests.simulator.faults import ErrorCode, server_error

Row = dict[str, Any]
UNSWEPT = "videos/text2video"
CLOSED = "http://127.0.0.1:1"
SECRETS = {
    "KLING_FORWARD_URL": "http://127.0.0.1:1/path-that-is-a-secret",
    "KLING_ALERT_URL": "https://hooks.invalid/services/T0/another-secret",
    "KLING_LINK_SECRET": "link-secret-of-forty-characters-or-so-it-is",
    "KLING_CALLBACK_TOKEN": "callback-token-of-this-test",
    "KLING_ADMIN_TOKEN": "admin-token-of-this-very-test",
}


@pytest.fixture
def sim() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator


@pytest.fixture
def line(sim: KlingSimulator, tmp_path: pathlib.Path) -> CommandLine:
    return CommandLine(tmp_path / "ledger.db", simulator=sim).with_ledger()


@pytest.fixture
def run(
    line: CommandLine, swift_server: S3Server, swift_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """On the daemon's machine, while no daemon runs."""
    usual = {**swift_server.environment(swift_bucket), "KLING_CALLBACK_TOKEN": "t" * 24}
    for name, value in usual.items():
        if not name.startswith("KLING_"):  # boto3 reads them by itself
            monkeypatch.setenv(name, value)

    def run(*arguments: str, **settings: str) -> Result:
        return line.run("doctor", *arguments, **(usual | settings))

    return run


def rows_of(result: Result, check: str | None = None) -> list[Row]:
    return [row for row in json.loads(result.stdout) if check in (None, row["check"])]


def verdicts(rows: Sequence[Row]) -> set[str]:
    return {row["result"] for row in rows}


def test_where_all_is_well_each_thing_has_its_row_and_the_status_is_0(run: Callable[..., Result]) -> None:
    result = run("--json")

    rows = rows_of(result)
    assert result.exit_code == 0
    assert all(set(row) == {"check", "result", "message", "what_to_do", "account"} for row in rows)
    assert {row["check"] for row in rows if row["result"] != "ok"} == {"status"}, "no daemon runs"
    assert all(row["what_to_do"] for row in rows if row["result"] != "ok")
    assert [row["message"].rpartition(" ")[2] for row in rows_of(result, "list")] == [
        FAMILY,
        "images/editing/expand",
    ]
    assert {row["account"] for row in rows if row["check"] in {"api", "clock", "list", "bucket"}} == {
        "default"
    }


def test_doctor_records_in_the_ledger_what_the_store_does(
    run: Callable[..., Result], line: CommandLine, swift_server: S3Server, swift_bucket: str
) -> None:
    run()

    with line.ledger(daemon=False) as ledger:
        known = ledger.trust.of(f"{swift_server.endpoint_url} {swift_bucket}")
    assert known.second_put == ConditionalPut.RESPECTED
    assert swift_server.store(swift_bucket).list("") != {}


def test_no_writes_leaves_bucket_and_ledger_as_they_are(
    run: Callable[..., Result], line: CommandLine, swift_server: S3Server, swift_bucket: str
) -> None:
    result = run("--no-writes", "--json")

    assert verdicts(rows_of(result, "bucket_put")) == {"ok"}
    assert swift_server.store(swift_bucket).list("") == {}
    with line.ledger(daemon=False) as ledger:
        assert ledger.trust.of(f"{swift_server.endpoint_url} {swift_bucket}").second_put is None


def test_doctor_creates_no_ledger(run: Callable[..., Result], tmp_path: pathlib.Path) -> None:
    result = run("--json", KLING_LEDGER_URL=f"sqlite:///{tmp_path}/other.db")

    assert (result.exit_code, verdicts(rows_of(result, "ledger"))) == (0, {"ok"})
    assert not (tmp_path / "other.db").exists()


FAILING = {
    "api": ("KLING_BASE_URL", CLOSED),
    "bucket": ("KLING_S3_ENDPOINT_URL", CLOSED),
    "ledger": ("KLING_LEDGER_URL", "sqlite:////no/such/folder/ledger.db"),
    "spool": ("KLING_SPOOL_DIR", "/proc/none"),
    "readiness": ("KLING_PUBLIC_URL", CLOSED),
    "alert_url": ("KLING_ALERT_URL", "https://hooks.invalid/x"),
}
"""Check → what makes it fail."""


def test_each_thing_that_fails_names_its_setting_and_the_status_is_1(run: Callable[..., Result]) -> None:
    result = run("--json", **dict(FAILING.values()))

    assert result.exit_code == 1
    for check, (setting, _) in FAILING.items():
        [row] = rows_of(result, check)
        assert (check, row["result"]) == (check, "failed")
        assert setting in row["message"] + row["what_to_do"]


def test_a_list_that_the_account_may_not_read_is_a_warning_and_one_that_breaks_a_failure(
    run: Callable[..., Result], sim: KlingSimulator
) -> None:
    sim.faults.arm("list", ErrorCode(403, 1103), match=FAMILY)
    sim.faults.arm("list", server_error(), match="images/editing/expand")
    result = run("--json")

    forbidden, broken = rows_of(result, "list")
    assert (forbidden["result"], broken["result"], result.exit_code) == ("warning", "failed", 1)
    assert "1103" in forbidden["what_to_do"]


def test_tasks_is_asked_with_an_api_key_only(run: Callable[..., Result], sim: KlingSimulator) -> None:
    sim.switches.tasks_offered = False
    result = run("--json", KLING_ACCESS_KEY="", KLING_SECRET_KEY="", KLING_API_KEY=sim.api_key)

    message = rows_of(result, "credentials")[0]["message"]
    assert "an API Key" in message
    assert f"; sweeps {FAMILY}, " in message
    assert message.endswith("only by callbacks, registrations and the gateway (KLING_FAMILIES)")
    assert verdicts(rows_of(result, "tasks")) == {"warning"}
    assert sim.requests["tasks"] == 1


def test_settings_that_do_not_go_together_are_warnings(run: Callable[..., Result]) -> None:
    result = run(
        "--json",
        KLING_PUBLIC_URL=CLOSED,
        KLING_LINK_SECRET=SECRETS["KLING_LINK_SECRET"],
        KLING_LINK_MODE="redirect",
        KLING_FORWARD_SECRET="whsec_" + "c2VjcmV0" * 4,
    )

    said = " ".join(row["message"] for row in rows_of(result, "settings") if row["result"] == "warning")
    assert "KLING_LINK_MODE" in said
    assert "KLING_FORWARD_SECRET" in said


def test_wrong_settings_end_it_with_2_and_one_sentence_each(run: Callable[..., Result]) -> None:
    result = run(KLING_S3_BUCKET="", KLING_PORT="x")

    assert result.exit_code == 2
    assert "KLING_S3_BUCKET" in result.stderr
    assert "KLING_PORT" in result.stderr


def test_no_secret_is_printed(run: Callable[..., Result], sim: KlingSimulator) -> None:
    printed = run("--json", KLING_PUBLIC_URL=CLOSED, **SECRETS).output

    secrets = [*(value.rpartition("/")[2] for value in SECRETS.values()), sim.secret_key]
    assert [secret for secret in secrets if secret in printed] == []


def test_people_read_headings_verdicts_and_a_count(run: Callable[..., Result]) -> None:
    lines = run(KLING_S3_BUCKET="not-there").stdout.splitlines()

    headings = [line for line in lines[:-1] if line and not line.startswith(" ")]
    assert headings == ["Settings", "Ledger", "Kling", "Bucket", "Outside", "Machine", "Versions"]
    assert any(line.startswith("  failed   bucket not-there: ") for line in lines)
    assert lines[-1].startswith("1 failed, 2 warnings of ")


def test_an_api_that_takes_its_time_is_no_failure(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may take 1.3 s for a list of each family; and what there is no time for is a warning."""
    assert len(values.families("all")) * 1.3 < kling.LISTS_SECONDS_MAX
    assert kling.LISTS_SECONDS_MAX + SECONDS_MAX < TOTAL_SECONDS_MAX
    monkeypatch.setattr(kling, "LISTS_SECONDS_MAX", 0.0)

    result = run("--json")

    [row] = rows_of(result, "list")
    assert (result.exit_code, row["result"]) == (0, "warning")
    assert "0 of 2 lists were looked at" in row["message"]


def test_a_task_that_no_sweep_finds_and_nothing_has_named_is_a_warning_as_in_the_running_daemon(
    run: Callable[..., Result], sim: KlingSimulator
) -> None:
    task_id = sim.create_task(family=UNSWEPT, status="succeed", created_at=sim.now_ms() - DAY_MS)
    sim.faults.arm("list", ErrorCode(403, 1103), match="videos/lip-sync")
    result = run("--json")

    [row] = rows_of(result, "families")
    assert (row["result"], result.exit_code) == ("warning", 0)
    assert f"{UNSWEPT} (such as {task_id})" in row["message"]
    assert "KLING_FAMILIES" in row["what_to_do"]
    assert verdicts(rows_of(run("--json", KLING_FAMILIES="all"), "families")) == set()


def test_it_is_found_behind_older_tasks_whose_files_are_gone(
    run: Callable[..., Result], sim: KlingSimulator
) -> None:
    sim.switches.list_order = "oldest_first"
    for days in range(31, 41):
        sim.create_task(family=UNSWEPT, status="succeed", created_at=sim.now_ms() - days * DAY_MS)
    sim.create_task(family=UNSWEPT, status="succeed", created_at=sim.now_ms() - DAY_MS)

    [row] = rows_of(run("--json"), "families")

    assert row["result"] == "warning"


def test_a_task_that_a_callback_has_named_is_none(
    run: Callable[..., Result], sim: KlingSimulator, line: CommandLine
) -> None:
    task_id = sim.create_task(family=UNSWEPT, status="succeed", created_at=sim.now_ms() - DAY_MS)
    with line.ledger() as ledger:
        ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, UNSWEPT)])

    [row] = rows_of(run("--json"), "families")

    assert row["result"] == "ok"


def test_before_there_is_a_ledger_nothing_has_named_a_task(
    run: Callable[..., Result], sim: KlingSimulator, tmp_path: pathlib.Path
) -> None:
    sim.create_task(family=UNSWEPT, status="succeed", created_at=sim.now_ms() - DAY_MS)

    [row] = rows_of(run("--json", KLING_LEDGER_URL=f"sqlite:///{tmp_path}/none.db"), "families")

    assert row["result"] == "warning"
    assert not (tmp_path / "none.db").exists()


def test_lists_that_the_api_refuses_for_their_number_are_a_warning_and_not_all_is_well(
    run: Callable[..., Result], sim: KlingSimulator
) -> None:
    sim.faults.arm("list", ErrorCode(429, 1302), match=UNSWEPT)

    [row] = rows_of(run("--json"), "families")

    assert row["result"] == "warning"
    assert "were not read" in row["message"]


def test_a_list_that_the_api_fails_to_show_is_named_in_a_warning(
    run: Callable[..., Result], sim: KlingSimulator
) -> None:
    sim.faults.arm("list", server_error(), match=UNSWEPT)

    [row] = rows_of(run("--json"), "families")

    assert row["result"] == "warning"
    assert row["message"].endswith(f": {UNSWEPT}")
    assert row["what_to_do"].startswith("The API fails")
