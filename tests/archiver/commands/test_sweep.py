"""`sweep` against a simulated account, in this process."""

import json
import pathlib
from collections.abc import Iterator

import pytest

from archiver.failures import ApiForbidden
from archiver.ledger.records import Records
from archiver.model import DAY_MS
from tests.harness.command_line import ACCOUNT, FAMILY, OTHER_FAMILY, CommandLine
from tests.harness.ledgers import claim_archive
from tests.simulator import KlingSimulator, faults


@pytest.fixture
def simulator() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator
        assert simulator.complaints == []


@pytest.fixture
def line(tmp_path: pathlib.Path, simulator: KlingSimulator) -> CommandLine:
    """An account with two finished tasks of two images and one that failed."""
    for _ in range(2):
        simulator.create_task(images=2, status="succeed")
    simulator.create_task(family=OTHER_FAMILY, status="failed")
    # The clock of now and not of the import, minutes ago: leases and deadlines are compared with the simulator's.
    return CommandLine(tmp_path / "ledger.db", now=simulator.now_ms(), simulator=simulator).with_ledger()


def test_a_sweep_records_what_it_finds_for_the_daemon(line: CommandLine) -> None:
    result = line.run("sweep")

    assert result.exit_code == 0
    assert "3 new tasks found, 0 changed state." in result.stdout
    with line.ledger() as ledger:
        assert len(claim_archive(ledger, count=10, account=ACCOUNT)) == 2


def test_a_sweep_says_when_no_daemon_is_there_to_archive(line: CommandLine) -> None:
    first, second = line.run("sweep"), line.run("sweep")

    assert "No kling-receiver has been seen" in first.stderr
    assert second.stderr == ""


def test_a_sweep_as_json_has_each_family_and_a_total(line: CommandLine) -> None:
    found = json.loads(line.run("sweep", "--json").stdout)

    assert found["dry_run"] is False
    assert [
        (family["family"], family["full"], family["found"], family["error"]) for family in found["families"]
    ] == [
        (FAMILY, True, 2, None),
        (OTHER_FAMILY, True, 1, None),
    ]
    assert (found["total"]["rows"], found["total"]["found"]) == (3, 3)


def test_the_first_sweep_is_a_full_one_and_the_next_is_not_unless_asked_for(line: CommandLine) -> None:
    found = [json.loads(line.run("sweep", *more, "--json").stdout) for more in ([], [], ["--full"])]

    assert [report["families"][0]["full"] for report in found] == [True, False, True]


def test_a_dry_run_counts_tasks_and_files_and_makes_no_ledger(line: CommandLine) -> None:
    for file in line.path.parent.iterdir():
        file.unlink()

    result = line.run("sweep", "--dry-run")

    assert result.exit_code == 0
    assert "A sweep would find 2 tasks to archive, with 4 files." in result.stdout
    assert "there is no ledger yet" in result.stderr
    assert list(line.path.parent.iterdir()) == []


def test_with_an_api_key_tasks_is_swept_too_and_a_dry_run_counts_nothing_twice(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    simulator.create_task(family="tasks/image", status="succeed")
    keys = {"KLING_API_KEY": simulator.api_key, "KLING_ACCESS_KEY": "", "KLING_SECRET_KEY": ""}
    dry = json.loads(line.run("sweep", "--dry-run", "--json", **keys).stdout)
    real = json.loads(line.run("sweep", "--json", **keys).stdout)

    assert [family["family"] for family in dry["families"]] == [FAMILY, OTHER_FAMILY, "tasks/all"]
    assert [(family["to_archive"], family["files"]) for family in dry["families"]] == [(2, 4), (0, 0), (1, 1)]
    assert [family["found"] for family in real["families"]] == [2, 1, 1]
    with line.ledger() as ledger:
        assert ledger.views.status().last_sweep.keys() == {FAMILY, OTHER_FAMILY, "tasks/all"}


def test_a_dry_run_does_not_change_an_existing_ledger(line: CommandLine, simulator: KlingSimulator) -> None:
    line.run("sweep")
    new = simulator.create_task(images=3, status="succeed")
    before = line.run("status", "--json").stdout

    found = json.loads(line.run("sweep", "--dry-run", "--json").stdout)

    # The two that the first sweep found are not in the bucket yet either.
    assert (found["total"]["to_archive"], found["total"]["files"]) == (3, 7)
    assert line.run("status", "--json").stdout == before
    assert line.run("show", new).exit_code == 1


def test_rows_past_their_retention_have_a_column_if_there_are_any(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    without = line.run("sweep").stdout
    simulator.switches.purge_rows = False
    simulator.create_task(status="succeed", created_at=simulator.now_ms() - 30 * DAY_MS - 60_000)
    beside = line.run("sweep", "--full").stdout

    assert "passed by" not in without
    assert "passed by" in beside


def test_refused_credentials_end_a_sweep_at_once_with_what_to_do(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    result = line.run("sweep", KLING_SECRET_KEY="another-secret-of-32-characters-or-more")

    assert result.exit_code == 1
    assert "Check KLING_ACCESS_KEY and KLING_SECRET_KEY" in result.stderr
    assert OTHER_FAMILY not in result.output
    assert not simulator.paths[f"/v1/{OTHER_FAMILY}"]


def test_a_family_that_is_forbidden_fails_alone(line: CommandLine, simulator: KlingSimulator) -> None:
    simulator.faults.arm("list", faults.ErrorCode(403, 1103), match=FAMILY)

    result = line.run("sweep", "--json")
    first, second = json.loads(result.stdout)["families"]

    assert result.exit_code == 1
    assert first["error"]["reason"] == ApiForbidden.reason
    assert ApiForbidden.what_to_do in result.stderr
    assert (second["error"], second["found"]) == (None, 1)


def test_an_error_in_one_family_does_not_stop_the_others(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    simulator.faults.arm("list", faults.server_error(), match=FAMILY)

    first, second = json.loads(line.run("sweep", "--json").stdout)["families"]

    assert first["error"]["reason"] == "api_server_error"
    assert (second["error"], second["found"]) == (None, 1)


def test_a_failed_sweep_gives_the_family_back_and_keeps_what_it_read(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    simulator.faults.arm("list", faults.server_error(), match="pageNum=2")

    result = line.run("sweep", "--json")
    first = json.loads(result.stdout)["families"][0]

    assert result.exit_code == 1
    assert (first["found"], first["error"]["reason"]) == (2, "api_server_error")
    with line.ledger(daemon=False) as ledger:
        assert ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)


def test_a_sweep_waits_and_goes_on_when_the_api_is_asked_too_fast(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    simulator.faults.arm("list", faults.too_fast(), times=2)

    result = line.run("sweep")

    assert result.exit_code == 0
    assert "3 new tasks found" in result.stdout


def test_a_sweep_without_credentials_ends_with_the_missing_settings(line: CommandLine) -> None:
    result = line.run("sweep", KLING_ACCESS_KEY="", KLING_SECRET_KEY="")

    assert result.exit_code == 2
    assert "KLING_ACCESS_KEY and KLING_SECRET_KEY (or KLING_API_KEY instead) are missing" in result.stderr


def test_an_unreachable_api_is_one_sentence(line: CommandLine) -> None:
    result = line.run("sweep", KLING_BASE_URL="http://127.0.0.1:1")

    assert result.exit_code == 1
    assert "Connection refused" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_bug_is_reported_without_the_queries_of_urls(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("https://p1.klingai.com/a.png?Signature=hidden")

    monkeypatch.setattr(Records, "record", crash)

    result = line.run("sweep")

    assert result.exit_code == 1
    assert "RuntimeError" in result.stderr
    assert "please report it" in result.stderr
    assert "Signature=hidden" not in result.output
