"""Commands where there are several accounts, and the renaming of one."""

import json
import pathlib
from collections.abc import Iterator

import pytest

from archiver.commands.terminal.printing import moment
from archiver.failures import ApiCredentialsRefused, LedgerUnavailable, NotMedia
from archiver.ledger import Ledger
from archiver.ledger.accounts import Accounts
from archiver.model import DAY_MS, DiscoveredBy, Stage
from tests.harness.command_line import ACCOUNT, FAMILY, NOW, CommandLine, api_task, bury
from tests.simulator import KlingSimulator, faults

TABLE = """
[[accounts]]
name = "{name}"
access_key = "{access_key}"
secret_key = "{secret_key}"
base_url = "{base_url}"
callback_token = "callback-token-of-{name}"
s3_prefix = "{name}/"
"""


class TwoAccounts(CommandLine):
    """A ledger and a TOML file with the accounts `eu` and `us`, each on a simulator of its own."""

    sims: dict[str, KlingSimulator]

    @property
    def settings(self) -> dict[str, str]:
        return {
            **super().settings,
            "KLING_CONFIG": str(self.path.parent / "kling.toml"),
            "KLING_FAMILIES": FAMILY,
            "KLING_QUERY_RATE_PER_SECOND": "1000",
        }


@pytest.fixture
def line(tmp_path: pathlib.Path) -> Iterator[TwoAccounts]:
    with KlingSimulator() as eu, KlingSimulator() as us:
        made = TwoAccounts(tmp_path / "ledger.db", now=eu.now_ms())
        made.sims = {"eu": eu, "us": us}
        tables = (
            TABLE.format(
                name=name, access_key=sim.access_key, secret_key=sim.secret_key, base_url=sim.base_url
            )
            for name, sim in made.sims.items()
        )
        (tmp_path / "kling.toml").write_text("".join(tables))
        made.with_ledger()
        yield made


def record(ledger: Ledger, account: str, *task_ids: str) -> None:
    tasks = [api_task(task_id, external_task_id=f"{account}-{task_id}") for task_id in task_ids]
    ledger.records.record(tasks, account=account, discovered_by=DiscoveredBy.SWEEP, rand=0.5)


# --- which account --------------------------------------------------------------------------------------------------


def test_register_needs_the_account(line: TwoAccounts) -> None:
    unsaid = line.run("register", "77", "--family", FAMILY)
    unknown = line.run("register", "77", "--family", FAMILY, "--account", "asia")
    said = line.run("register", "77", "--family", FAMILY, "--account", "us", "--json")

    assert (unsaid.exit_code, unknown.exit_code, said.exit_code) == (2, 2, 0)
    assert "There are several accounts: add --account with one of: eu, us." in unsaid.stderr
    assert "--account must be one of: eu, us." in unknown.stderr
    assert json.loads(said.stdout)["account"] == "us"


def test_show_looks_in_every_account_and_needs_the_account_only_if_two_have_the_id(line: TwoAccounts) -> None:
    with line.ledger() as ledger:
        record(ledger, "eu", "1", "2")
        record(ledger, "us", "2")

    assert json.loads(line.run("show", "1", "--json").stdout)["account"] == "eu"
    assert json.loads(line.run("show", "us-2", "--json").stdout)["account"] == "us"
    both = line.run("show", "2")
    assert (both.exit_code, "The accounts eu and us both have this task" in both.stderr) == (2, True)
    assert json.loads(line.run("show", "2", "--account", "us", "--json").stdout)["account"] == "us"
    unknown = line.run("show", "3")
    assert unknown.exit_code == 1
    assert "no task of the accounts eu and us has the id or external id 3." in unknown.stderr


def test_retry_finds_the_account_of_each_id(line: TwoAccounts) -> None:
    with line.ledger() as ledger:
        record(ledger, "eu", "1")
        record(ledger, "us", "2")
        bury(ledger, "1", NotMedia("HTML"), account="eu")
        bury(ledger, "2", NotMedia("HTML"), account="us")

    result = line.run("retry", "1", "2", "3", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (
        1,
        {"retried": 2, "archived": [], "unknown": ["3"]},
    )
    assert json.loads(line.run("retry", "--buried", "--account", "us", "--json").stdout)["retried"] == 1


def test_a_sweep_reads_the_lists_of_every_account_and_one_that_is_refused_stops_no_other(
    line: TwoAccounts,
) -> None:
    for sim in line.sims.values():
        sim.create_task(status="succeed")
    line.sims["eu"].fault("list", faults.ErrorCode(401, 1002))
    result = line.run("sweep", "--json")

    assert result.exit_code == 1
    found = json.loads(result.stdout)["families"]
    assert [(family["account"], family["found"], family["error"] is None) for family in found] == [
        ("eu", 0, False),
        ("us", 1, True),
    ]
    line.sims["eu"].clear_faults()
    assert "1 new task found" in line.run("sweep", "--account", "eu").stdout
    with line.ledger(daemon=False) as ledger:
        assert ledger.accounts.names() == ["eu", "us"]


def test_status_names_the_account_of_a_hold_and_of_a_family_that_is_not_swept(line: TwoAccounts) -> None:
    with line.ledger() as ledger:
        ledger.holds.set(ApiCredentialsRefused("1002"), account="us", stage=Stage.SWEEP)
        token = ledger.sweeps.begin(account="eu", family=FAMILY)
        assert token is not None
        ledger.sweeps.end(token, succeeded_at=line.now, full=True, oldest_first=False, last_page=None)
    line.now += 2 * DAY_MS
    result = line.run("status", "--check", "--json")

    shown = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [hold["account"] for hold in shown["holds"]] == ["us"]
    late = [problem["account"] for problem in shown["problems"] if problem["code"] == "sweep_late"]
    assert ("hold", "us") in [(problem["code"], problem["account"]) for problem in shown["problems"]]
    assert set(late) == {"eu", "us"}
    assert "sweep (us): api_credentials_refused" in line.run("status").stdout


def test_tasks_of_an_account_that_the_settings_no_longer_name_are_a_problem(line: TwoAccounts) -> None:
    with line.ledger() as ledger:
        record(ledger, "gone", "1", "2")
    result = line.run("status", "--check")

    assert result.exit_code == 1
    assert "2 tasks of the account gone, which is not in the settings" in result.stdout


def test_with_one_account_a_hold_is_shown_without_its_account(tmp_path: pathlib.Path) -> None:
    line = CommandLine(tmp_path / "ledger.db")
    with line.ledger() as ledger:
        ledger.holds.set(ApiCredentialsRefused("1002"), account="default", stage=Stage.SWEEP)

    (hold,) = json.loads(line.run("status", "--json").stdout)["holds"]
    assert set(hold) == {"stage", "reason", "since", "what_to_do"}


# --- a ledger of another name ---------------------------------------------------------------------------------------


@pytest.fixture
def renamed(tmp_path: pathlib.Path) -> CommandLine:
    """A ledger that knows the account `default`, with two tasks."""
    line = CommandLine(tmp_path / "ledger.db")
    with line.ledger() as ledger:
        record(ledger, "default", "1", "2")
    return line


@pytest.mark.parametrize("command", [["register", "9", "--family", FAMILY], ["retry", "1"]])
def test_a_command_that_writes_refuses_a_ledger_of_another_account_and_names_the_command_that_renames_it(
    renamed: CommandLine, command: list[str]
) -> None:
    result = renamed.run(*command, KLING_ACCOUNT="team-eu")

    assert result.exit_code == 2
    assert "has tasks of the account default only, and KLING_ACCOUNT names team-eu" in result.stderr
    assert "run: kling-archiver rename-account default team-eu" in result.stderr
    with renamed.ledger(daemon=False) as ledger:
        assert ledger.accounts.names() == ["default"]


def test_rename_account_moves_everything_to_the_name_in_the_settings(renamed: CommandLine) -> None:
    names = {"KLING_ACCOUNT": "team-eu", "KLING_ACCOUNT_FORMER_NAMES": "default"}
    result = renamed.run("rename-account", "default", "team-eu", **names)

    assert (result.exit_code, result.stdout) == (0, "2 tasks moved from default to team-eu.\n")
    assert result.stderr == ""
    assert renamed.run("show", "1", KLING_ACCOUNT="team-eu").exit_code == 0
    assert renamed.run("retry", "1", KLING_ACCOUNT="team-eu").exit_code == 0


def test_rename_account_says_to_set_the_former_name(renamed: CommandLine) -> None:
    result = renamed.run("rename-account", "default", "team-eu", KLING_ACCOUNT="team-eu")

    assert result.exit_code == 0
    assert "add it to KLING_ACCOUNT_FORMER_NAMES" in result.stderr


def test_rename_account_says_that_the_settings_still_have_the_old_name(renamed: CommandLine) -> None:
    result = renamed.run("rename-account", "default", "team-eu", "--json")

    assert json.loads(result.stdout) == {"old": "default", "new": "team-eu", "tasks": 2}
    assert "the settings name no account team-eu yet" in result.stderr


@pytest.mark.parametrize("ends", [KeyboardInterrupt(), LedgerUnavailable("gone")], ids=["killed", "error"])
@pytest.mark.parametrize("happens", [False, True], ids=["failed", "failed but happened"])
def test_a_rename_that_ends_at_its_commit_can_be_run_again(
    renamed: CommandLine, monkeypatch: pytest.MonkeyPatch, ends: BaseException, *, happens: bool
) -> None:
    rename = Accounts.rename

    def end_at_the_commit(accounts: Accounts, old: str, new: str) -> None:
        if happens:
            rename(accounts, old, new)
        raise ends

    names = {"KLING_ACCOUNT": "team-eu"}
    with monkeypatch.context() as patch:
        patch.setattr(Accounts, "rename", end_at_the_commit)
        assert renamed.run("rename-account", "default", "team-eu", **names).exit_code in {1, 130}

    result = renamed.run("rename-account", "default", "team-eu", **names)
    as_json = renamed.run("rename-account", "default", "team-eu", "--json", **names)

    assert (result.exit_code, as_json.exit_code) == (0, 0), result.stderr
    already = f"default is already renamed to team-eu: 2 tasks moved on {moment(renamed.now)} UTC.\n"
    assert result.stdout == (already if happens else "2 tasks moved from default to team-eu.\n")
    assert json.loads(as_json.stdout) == {"old": "default", "new": "team-eu", "tasks": 2}
    assert "add it to KLING_ACCOUNT_FORMER_NAMES" in result.stderr


def test_a_rename_of_long_ago_does_not_hide_that_the_names_are_wrong_now(renamed: CommandLine) -> None:
    names = {"KLING_ACCOUNT": "c", "KLING_ACCOUNT_FORMER_NAMES": "default,b"}
    for old, new in (("default", "b"), ("b", "default"), ("default", "c")):
        assert renamed.run("rename-account", old, new, **names).exit_code == 0

    for old, new in (("default", "b"), ("b", "default")):
        result = renamed.run("rename-account", old, new, **names)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"the ledger does not know the account {old}; it knows: c." in result.stderr


def test_a_rename_does_not_count_once_its_tasks_have_moved_on_and_another_account_has_the_name(
    renamed: CommandLine,
) -> None:
    names = {"KLING_ACCOUNT": "b", "KLING_ACCOUNT_FORMER_NAMES": "default"}
    for old, new in (("default", "b"), ("b", "c")):
        assert renamed.run("rename-account", old, new, **names).exit_code == 0
    with renamed.ledger() as ledger:
        record(ledger, "b", "3")

    result = renamed.run("rename-account", "default", "b", **names)

    assert (result.exit_code, result.stdout) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nobody", "x"], 1, "the ledger does not know the account nobody; it knows: default, other."),
        (["default", "other"], 1, "the ledger already has an account other"),
        (["default", "default"], 2, "NEW must be another name"),
        (["default", "a b"], 2, "NEW must be another name"),
        (["default"], 2, "Missing argument"),
    ],
)
def test_rename_account_refuses_wrong_names(
    renamed: CommandLine, arguments: list[str], status: int, said: str
) -> None:
    with renamed.ledger() as ledger:
        record(ledger, "other", "1")
    result = renamed.run("rename-account", *arguments)

    assert (result.exit_code, said in result.stderr) == (status, True), result.stderr
    with renamed.ledger() as ledger:
        assert ledger.accounts.names() == ["default", "other"]


def test_rename_account_refuses_while_a_daemon_works_on_the_ledger(renamed: CommandLine) -> None:
    with renamed.ledger(daemon=True):
        result = renamed.run("rename-account", "default", "team-eu")

    assert result.exit_code == 2
    assert "a kling-receiver already works on the ledger" in result.stderr
    assert "stop it first" in result.stderr
    assert "KLING_LEDGER_URL" not in result.stderr


def test_rename_account_makes_no_ledger(tmp_path: pathlib.Path) -> None:
    result = CommandLine(tmp_path / "ledger.db", now=NOW).run("rename-account", "a", "b")

    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])


# --- what is registered ---------------------------------------------------------------------------------------------


def test_register_keeps_the_request_without_its_callback_url(renamed: CommandLine) -> None:
    request = json.dumps({"prompt": "a cat", "callback_url": "https://me/callbacks/token"})
    result = renamed.run(
        "register", "9", "--family", FAMILY, "--external-id", "order-9", "--request", request
    )

    assert result.exit_code == 0
    with renamed.ledger() as ledger:
        (lease,) = ledger.claims.verify(count=1, offset=0, account=ACCOUNT)
    assert (lease.external_task_id, lease.request) == ("order-9", {"prompt": "a cat"})


@pytest.mark.parametrize(
    ("request_json", "said"),
    [
        ("{", "--request must be JSON"),
        ("[]", "--request must be an object"),
        ('{"image": "' + "A" * 9000 + '"}', "leave image data out"),
    ],
)
def test_register_refuses_a_request_that_no_manifest_may_hold(
    renamed: CommandLine, request_json: str, said: str
) -> None:
    result = renamed.run("register", "9", "--family", FAMILY, "--request", request_json)

    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
