"""Several accounts in one daemon, as a process: each with its own API, token and folder, and none in another's way."""

import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx2
import pytest

from archiver.model import State, task_folder
from tests.harness.command_line import CommandLine
from tests.harness.daemons import FAMILY, PATIENCE_SECONDS, Daemon, Site, until
from tests.s3_servers import S3Server
from tests.simulator import KlingSimulator, faults

ADMIN = "admin-token-0123456789"
TABLE = """
[[accounts]]
name = "{name}"
access_key = "{sim.access_key}"
secret_key = "{sim.secret_key}"
base_url = "{sim.base_url}"
callback_token = "callback-token-of-{name}"
s3_prefix = "{name}/"
"""
OF_ONE_ACCOUNT = ("KLING_ACCESS_KEY", "KLING_SECRET_KEY", "KLING_BASE_URL", "KLING_CALLBACK_TOKEN")


class Accounts:
    """A site whose daemon works for several accounts, each on a simulator with keys of its own. Use as a context."""

    def __init__(self, site: Site, *names: str) -> None:
        self.site = site
        self.sims = {
            name: KlingSimulator(
                access_key=f"access-key-of-{name}",
                secret_key=f"secret-key-of-{name}-with-32-characters",
                seed=seed,
            )
            for seed, name in enumerate(names)
        }

    def __enter__(self) -> "Accounts":
        for sim in self.sims.values():
            sim.__enter__()
        config = self.site.folder / "kling.toml"
        config.write_text("".join(TABLE.format(name=name, sim=sim) for name, sim in self.sims.items()))
        self.site.environment |= {
            "KLING_CONFIG": str(config),
            "KLING_ADMIN_TOKEN": ADMIN,
            "KLING_ASSET_HOSTS": ",".join(sim.origin for sim in self.sims.values()),
        }
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in self.site.daemons:
            daemon.kill()
        for sim in self.sims.values():
            sim.__exit__(None, None, None)

    def start(self) -> Daemon:
        daemon = self.site.start(without=OF_ONE_ACCOUNT)
        daemon.wait_ready()
        return daemon

    def create(self, account: str, *, hidden: bool = True, **task: Any) -> str:
        """A task that has succeeded; `hidden` from the list, so that only its id finds it."""
        sim = self.sims[account]
        task_id = sim.create_task(**task)
        sim.succeed(task_id)
        sim.hide_from_list(task_id, hidden=hidden)
        return task_id

    def call_back(self, account: str, task_id: str) -> int:
        """A callback for this task at the URL of the account."""
        url = f"http://127.0.0.1:{self.site.port}/callbacks/callback-token-of-{account}/{FAMILY}"
        body = {"task_id": task_id, "task_status": "succeed"}
        return httpx2.post(url, json=body, trust_env=False, timeout=PATIENCE_SECONDS).status_code

    def folder(self, account: str, task_id: str) -> str:
        task = self.sims[account].task(task_id)
        return task_folder(
            prefix=f"{account}/", family=task.family.path, created_at=task.created_at, task_id=task_id
        )

    def wait_archived(self, account: str, *task_ids: str) -> None:
        manifests = {f"{self.folder(account, task_id)}manifest.json" for task_id in task_ids}
        until(lambda: manifests <= self.site.keys(), what=f"{len(manifests)} manifests of {account}")
        self.site.wait_archived_in_ledger(account, *task_ids)

    def assert_archived(self, tasks: Mapping[str, list[str]]) -> None:
        """Exactly these tasks lie in the bucket, each in its account's folder, with its account's bytes."""
        expected = {
            f"{self.folder(account, task_id)}{name}"
            for account, task_ids in tasks.items()
            for task_id in task_ids
            for name in [*self.sims[account].expected_names(task_id), "manifest.json"]
        }
        assert self.site.keys() == expected
        for account, task_ids in tasks.items():
            for task_id in task_ids:
                folder, sim = self.folder(account, task_id), self.sims[account]
                manifest = json.loads(self.site.content(f"{folder}manifest.json"))
                assert (manifest["account"], manifest["task_id"]) == (account, task_id)
                for name in sim.expected_names(task_id):
                    assert self.site.content(f"{folder}{name}") == sim.expected_bytes(task_id, name)

    def assert_silent_on_secrets(self) -> None:
        self.site.assert_silent_on_secrets()
        output = "".join(daemon.output for daemon in self.site.daemons)
        secrets = [ADMIN, "callback-token-of", "secret-key-of", "access-key-of"]
        assert [secret for secret in secrets if secret in output] == []

    def show(self, account: str, task_id: str) -> dict[str, Any] | None:
        with self.site.ledger() as ledger:
            task = ledger.views.show(task_id, account=account)
        return None if task is None else task.as_json()


@pytest.fixture
def site(tmp_path: pathlib.Path, rclone_server: S3Server) -> Iterator[Site]:
    with Site(tmp_path, rclone_server) as made:
        yield made


@pytest.fixture
def two(site: Site) -> Iterator[Accounts]:
    with Accounts(site, "eu", "us") as made:
        yield made


def test_two_accounts_end_in_two_folders_and_the_token_tells_whose_a_callback_is(two: Accounts) -> None:
    old = {account: [two.create(account, hidden=False, images=2)] for account in two.sims}
    daemon = two.start()
    for account, ids in old.items():
        two.wait_archived(account, *ids)
    eu = two.create("eu", images=2, watermark=True, task_id="of-eu")
    us = two.create("us", task_id="of-us")
    same = two.create("eu", task_id="1234567890")
    assert two.create("us", task_id="1234567890", images=3) == same

    # Both callbacks of one id, and one that comes by the other account's token.
    answers = [
        two.call_back(*one) for one in [("eu", eu), ("us", us), ("eu", same), ("us", same), ("us", eu)]
    ]
    two.wait_archived("eu", eu, same)
    two.wait_archived("us", us, same)

    assert answers == [200] * 5
    two.assert_archived({"eu": [*old["eu"], eu, same], "us": [*old["us"], us, same]})
    stray = two.show("us", eu)
    assert stray is not None
    assert stray["state"] == "reported"
    until(
        lambda: {line["account"] for line in daemon.events("task.archived")} == {"eu", "us"},
        what="both accounts in the log",
    )
    assert daemon.stop() == 0
    for sim in two.sims.values():
        assert sim.complaints == []
    two.assert_silent_on_secrets()


def refuse(status: int, code: int) -> Callable[[KlingSimulator], None]:
    """Every question is refused."""

    def begin(sim: KlingSimulator) -> None:
        sim.fault("query", faults.ErrorCode(status, code))
        sim.fault("list", faults.ErrorCode(status, code))

    return begin


def hang(sim: KlingSimulator) -> None:
    """No question is ever answered."""
    sim.fault("query", faults.Hang())
    sim.fault("list", faults.Hang())


def hang_files(sim: KlingSimulator) -> None:
    """No file ever comes."""
    sim.fault("cdn", faults.Hang())


TROUBLE: Mapping[str, Callable[[KlingSimulator], None]] = {
    "arrears": refuse(429, 1102),
    "wrong-keys": refuse(401, 1002),
    "throttled": refuse(429, 1302),
    "silent": hang,
    "slow-files": hang_files,
}


def test_whatever_is_wrong_with_one_account_the_others_go_on(site: Site) -> None:
    with Accounts(site, "healthy", *TROUBLE) as accounts:
        for name, begin in TROUBLE.items():
            begin(accounts.sims[name])
        site.environment["KLING_TRANSFER_CONCURRENCY"] = "4"
        daemon = accounts.start()
        # More than there are threads for questions and slots for transfers.
        waiting = {name: [accounts.create(name) for _ in range(8)] for name in TROUBLE}
        for name, ids in waiting.items():
            assert {accounts.call_back(name, task_id) for task_id in ids} == {200}
        for account, reason in (("arrears", "api_pack_used_up"), ("wrong-keys", "api_credentials_refused")):
            until(
                lambda account=account, reason=reason: (
                    (account, "verify", reason)  # type: ignore[misc]  # bound now
                    in [(hold["account"], hold["stage"], hold["reason"]) for hold in daemon.holds()]
                ),
                what=f"the hold of {account}",
            )
        until(lambda: accounts.sims["silent"].requests["query"], what="a question that hangs")
        until(lambda: accounts.sims["slow-files"].requests["cdn"] >= 2, what="slots to wait for files")

        ids = [accounts.create("healthy", images=2) for _ in range(8)]
        assert {accounts.call_back("healthy", task_id) for task_id in ids} == {200}
        accounts.wait_archived("healthy", *ids)

        for name in TROUBLE:
            assert accounts.sims[name].requests["query"] < 8 * 10
        accounts.assert_archived({"healthy": ids})
        # Nothing is lost: the faults end, and the test does not wait for the next probe.
        daemon.kill()
        for sim in accounts.sims.values():
            sim.clear_faults()
        with site.ledger() as ledger:
            for name, those in waiting.items():
                assert ledger.registrations.retry(those, account=name).retried == len(those)
        accounts.start()
        for name, those in waiting.items():
            accounts.wait_archived(name, *those)
        accounts.assert_archived({"healthy": ids, **waiting})
        accounts.assert_silent_on_secrets()


def test_a_registered_id_is_archived_though_the_daemon_is_killed_and_neither_callback_nor_list_names_it(
    two: Accounts,
) -> None:
    daemon = two.start()
    task_id = two.create("us", external_task_id="order-7")
    body = {"task_id": task_id, "family": FAMILY, "account": "us", "request": {"prompt": "a cat"}}
    bearer = {"Authorization": f"Bearer {ADMIN}"}
    answer = httpx2.post(
        f"{daemon.url}/api/tasks", json=body, headers=bearer, trust_env=False, timeout=PATIENCE_SECONDS
    )
    daemon.kill()
    daemon = two.start()
    two.wait_archived("us", task_id)

    assert (answer.status_code, answer.json()["data"]["new"]) == (200, True)
    assert two.show("eu", task_id) is None
    manifest = json.loads(two.site.content(f"{two.folder('us', task_id)}manifest.json"))
    assert (manifest["discovered_by"], manifest["request"]) == ("registration", {"prompt": "a cat"})
    shown = httpx2.get(
        f"{daemon.url}/api/tasks/order-7", headers=bearer, trust_env=False, timeout=PATIENCE_SECONDS
    ).json()
    assert (shown["task_id"], shown["account"], shown["state"]) == (task_id, "us", "archived")
    assert (
        httpx2.get(f"{daemon.url}/api/tasks/order-7", trust_env=False, timeout=PATIENCE_SECONDS).status_code
        == 401
    )
    assert (
        "Admin token"
        in httpx2.get(f"{daemon.url}/console/login", trust_env=False, timeout=PATIENCE_SECONDS).text
    )
    assert daemon.stop() == 0
    two.assert_silent_on_secrets()


def test_a_ledger_that_knows_the_account_by_another_name_is_refused_until_it_is_renamed(site: Site) -> None:
    task_id = site.create_task()
    first = site.start()
    site.wait_archived(task_id)
    assert first.stop() == 0

    refused = site.start({"KLING_ACCOUNT": "team-eu"})
    assert refused.wait() == 2
    assert "kling-archiver rename-account default team-eu" in refused.output
    assert "Traceback" not in refused.output
    line = CommandLine(site.folder / "ledger.db")
    assert line.finish("rename-account", "default", "team-eu", KLING_ACCOUNT="team-eu")[0] == 0
    again = site.start({"KLING_ACCOUNT": "team-eu"})
    again.wait_ready()
    until(lambda: again.events("sweep.finished"), what="a sweep")

    with site.ledger() as ledger:
        assert ledger.accounts.names() == ["team-eu"]
        assert ledger.views.status().states[State.ARCHIVED] == 1
    assert again.stop() == 0
    site.assert_archived(task_id)


def test_an_account_that_no_setting_names_any_more_is_reported_and_left_alone(two: Accounts) -> None:
    two.sims["us"].fault("cdn", faults.Raw(500))
    daemon = two.start()
    task_id = two.create("us")
    two.call_back("us", task_id)
    until(lambda: (two.show("us", task_id) or {}).get("state") == "succeeded", what="the API's word")
    assert daemon.stop() == 0
    config = two.site.folder / "kling.toml"
    config.write_text(config.read_text().partition('\n[[accounts]]\nname = "us"')[0])
    two.sims["us"].clear_faults()

    alone = two.start()
    until(lambda: alone.events("sweep.finished"), what="a sweep")
    ((stranded),) = alone.events("account.stranded")
    assert (stranded["account"], stranded["tasks"], stranded["level"]) == ("us", 1, "warning")
    assert two.call_back("us", task_id) == 404
    assert alone.stop() == 0
    assert two.site.keys() == set()
