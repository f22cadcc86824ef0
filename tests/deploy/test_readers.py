"""The examples of `deploy/readers` and `deploy/ASSISTANTS.md`, each run as its head says, on a real S3 server."""

import csv
import datetime
import importlib.util
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from archiver.forward.body import body_of
from archiver.model import State
from archiver.record import Recorder
from archiver.store.links import LinkSigner
from receiver.gateway.gateway import QueryParts
from receiver.gateway.queries.account_tasks import AccountTasks
from tests.harness.archived_tasks import ArchivedTask
from tests.harness.engine import Engine
from tests.harness.gateway import gateway_to
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, START, Desk
from tests.harness.repository import ROOT
from tests.s3_servers import S3Server
from tests.s3_servers.rclone import BINARY as RCLONE
from tests.simulator import KlingSimulator
from tests.simulator.server import API_KEY

READERS = ROOT / "deploy/readers"
SECONDS_MAX = 120
MONTH = "images/generations/2026/09"


class Bucket:
    """Three tasks of September and October, one amended, with Kling's charges in each dialect."""

    def __init__(self, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.name = server, server.create_bucket()
        store = server.store(self.name)
        charges: list[dict[str, Any]] = [
            {"final_unit_deduction": "1.5"},
            {"final_unit_deduction": "2"},
            {
                "billing": [
                    {"charge_type": "unit", "amount": "0.25"},
                    {"charge_type": "cash", "amount": "0.14", "currency": "USD"},
                ]
            },
            {},
        ]
        self.tasks = [
            ArchivedTask(f"88{number}", created_at=START + number // 3 * 10 * DAY, task=charged)
            for number, charged in enumerate(charges)
        ]
        for number, task in enumerate(self.tasks):
            task.put(store, files=1, amended=number % 2)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)

    @property
    def environment(self) -> dict[str, str]:
        """With which every example reads it."""
        server = self.server
        return {
            **server.environment(self.name),
            "AWS_ENDPOINT_URL_S3": server.endpoint_url,
            "AWS_DEFAULT_REGION": server.region,
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_CONFIG_REMOTE_TYPE": "s3",
            "RCLONE_CONFIG_REMOTE_PROVIDER": "Other",
            "RCLONE_CONFIG_REMOTE_ENDPOINT": server.endpoint_url,
            "RCLONE_CONFIG_REMOTE_REGION": server.region,
            "RCLONE_CONFIG_REMOTE_ACCESS_KEY_ID": server.access_key,
            "RCLONE_CONFIG_REMOTE_SECRET_ACCESS_KEY": server.secret_key,
        }

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self.server.store(self.name).walk("")]


@pytest.fixture
def bucket(swift_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    return Bucket(swift_server, monkeypatch)


def run(*command: str, folder: pathlib.Path) -> str:
    """Its standard output; it must end well and complain of nothing."""
    path = f"{RCLONE.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def files_below(folder: pathlib.Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def loaded(path: pathlib.Path) -> Any:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- the bucket -----------------------------------------------------------------------------------------------------


def test_boto3_reads_manifests_and_amendments_and_downloads_their_files(
    bucket: Bucket, tmp_path: pathlib.Path
) -> None:
    script = str(READERS / "manifests.py")

    output = run(sys.executable, script, bucket.name, MONTH, "--download", "pictures", folder=tmp_path)

    september = bucket.tasks[:3]
    assert [line.split("\t")[0] for line in output.splitlines()] == ["880", "881", "881", "882"]
    expected = sorted(key for key in bucket.keys if key.startswith(MONTH) and key.endswith(".png"))
    assert files_below(tmp_path / "pictures") == expected
    first = tmp_path / "pictures" / september[0].asset(0).key
    assert first.read_bytes() == september[0].content(0)


@pytest.mark.skipif(shutil.which("aws") is None, reason="there is no `aws`: pip install awscli")
def test_the_aws_command_line_shows_what_is_complete_and_copies_a_day(
    bucket: Bucket, tmp_path: pathlib.Path
) -> None:
    day = f"{MONTH}/21/"

    output = run("sh", str(READERS / "aws.sh"), bucket.name, day, "copy", folder=tmp_path)

    assert output.split() == [f"{task.folder}manifest.json" for task in bucket.tasks[:3]]
    assert files_below(tmp_path / "copy") == sorted(key for key in bucket.keys if key.startswith(day))


def test_rclone_copies_the_bucket_and_checks_the_copy_by_sums(bucket: Bucket, tmp_path: pathlib.Path) -> None:
    arguments = (sys.executable, "-m", "archiver", "sums")
    (tmp_path / "SUMS").write_text(run(*arguments, folder=ROOT))
    script = str(READERS / "rclone.sh")

    checked = subprocess.run(
        ["sh", script, "copy", f"remote:{bucket.name}", "copy", "SUMS"],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{RCLONE.parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )

    assert checked.returncode == 0, checked.stderr
    assert "0 differences found" in checked.stderr
    assert files_below(tmp_path / "copy") == sorted(bucket.keys)


def test_duckdb_adds_up_what_a_month_has_cost(bucket: Bucket, tmp_path: pathlib.Path) -> None:
    for month in ("09", "10"):
        where = f"images/generations/2026/{month}"
        run(
            "sh", str(READERS / "rclone.sh"), "manifests", f"remote:{bucket.name}", where, "autumn",
            folder=tmp_path,
        )  # fmt: skip
    assert len(files_below(tmp_path / "autumn")) == len(bucket.tasks), "manifests, and no amendments"

    output = run(sys.executable, str(READERS / "cost.py"), "autumn", folder=tmp_path)

    rows = [
        (row["month"], row["charged_in"], row["tasks"], row["amount"])
        for row in csv.DictReader(io.StringIO(output))
    ]
    assert rows == [
        ("2026-09", "USD", "1", "0.1400"),
        ("2026-09", "units", "3", "3.7500"),
        ("2026-10", "units", "1", "0.0000"),
    ]


def test_the_event_of_a_manifest_starts_the_function_once_for_each_task(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    event = json.loads((ROOT / "tests/samples/s3_event.json").read_text())
    keys = [task.folder + "manifest.json" for task in bucket.tasks[:2]] + [bucket.tasks[0].asset(0).key]
    (record,) = event["Records"]
    event["Records"] = [_about(record, bucket.name, key) for key in keys]

    done = loaded(READERS / "on_manifest.py").handler(event, None)

    assert done == ["880", "881"]
    assert f"s3://{bucket.name}/{bucket.tasks[0].asset(0).key}" in capsys.readouterr().out
    notification = json.loads((READERS / "event-notification.json").read_text())
    (function,) = notification["LambdaFunctionConfigurations"]
    (rule,) = function["Filter"]["Key"]["FilterRules"]
    assert [key.endswith(rule["Value"]) for key in keys] == [True, True, False]
    assert f"s3:{record['eventName']}" in function["Events"]


def _about(record: dict[str, Any], bucket: str, key: str) -> dict[str, Any]:
    changed: dict[str, Any] = json.loads(json.dumps(record))
    changed["s3"]["bucket"]["name"] = bucket
    changed["s3"]["object"]["key"] = key
    return changed


def forward_of(folder: pathlib.Path) -> str:
    """What an application is told of an archived task."""
    desk = Desk(folder)
    try:
        desk.ledger.forwards.set_operator(is_told=True)
        task = ArchivedTask("881")
        task.record(desk.ledger)
        (lease,) = desk.ledger.forwards.claim("", accounts=[ACCOUNT], count=1)
        content = desk.ledger.forwards.content(lease)
        return body_of(lease, content, "{}", {"0": "https://kling.example.com/files/0.png"}, bucket="bucket")
    finally:
        desk.close()


# --- n8n ------------------------------------------------------------------------------------------------------------

NODE_TYPES = {
    "n8n-nodes-base.webhook": 2,
    "n8n-nodes-base.if": 2,
    "n8n-nodes-base.splitOut": 1,
    "n8n-nodes-base.set": 3.4,
    "n8n-nodes-base.noOp": 1,
}


def test_the_n8n_workflow_is_whole_and_reads_what_a_forward_has(tmp_path: pathlib.Path) -> None:
    workflow = json.loads((READERS / "n8n.json").read_text())
    nodes = {node["name"]: node for node in workflow["nodes"]}
    assert len(nodes) == len(workflow["nodes"]) == len({node["id"] for node in workflow["nodes"]})
    assert {node["type"]: node["typeVersion"] for node in nodes.values()} == NODE_TYPES
    targets = {
        link["node"]
        for outputs in workflow["connections"].values()
        for output in outputs["main"]
        for link in output
    }
    assert workflow["connections"].keys() | targets == set(nodes)
    assert set(nodes) - targets == {"Forward of kling-archiver"}, "it begins there"

    told = json.loads(forward_of(tmp_path))
    (split,) = (node for node in nodes.values() if node["type"].endswith("splitOut"))
    files = _at({"body": told}, split["parameters"]["fieldToSplitOut"])
    written = json.dumps(workflow)
    for path in re.findall(r"first\(\)\.json\.([\w.]+)|\$json\.(body\.[\w.]+)", written):
        assert _at({"body": told}, path[0] or path[1])
    for path in re.findall(r"\$json\.((?!body)\w+)", written):
        assert _at(files[0], path)


def test_the_n8n_workflow_takes_every_event_so_that_none_comes_again() -> None:
    """n8n answers 500 where the last node has no item, as behind a branch of `if` that leads nowhere."""
    workflow = json.loads((READERS / "n8n.json").read_text())
    nodes = {node["name"]: node for node in workflow["nodes"]}

    branches = workflow["connections"]["Are files new?"]["main"]
    assert [bool(links) for links in branches] == [True, True]
    beginning = nodes["Forward of kling-archiver"]["parameters"]
    assert (beginning["responseMode"], beginning["responseData"]) == ("lastNode", "noData")


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value[name]
    return value


# --- coding assistants ----------------------------------------------------------------------------------------------


def snippets() -> list[dict[str, Any]]:
    """Every piece of Python on the page, run: what it defines."""
    found = []
    for source in re.findall(r"```python\n(.*?)```", (ROOT / "deploy/ASSISTANTS.md").read_text(), re.DOTALL):
        names: dict[str, Any] = {}
        exec(source, names)  # noqa: S102 -- our own page
        found.append(names)
    return found


def test_the_page_for_assistants_creates_and_reads_through_the_gateway(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, _, _ = snippets()
    public = "https://kling.example.com"
    with KlingSimulator() as sim, Engine(sim, tmp_path) as engine:
        signer = LinkSigner(["a-link-secret-of-32-characters-or-more"], public_url=public)
        recorder = Recorder(ACCOUNT, engine.ledger, engine.metrics, lambda: 0.5)
        tasks = AccountTasks(recorder, (FAMILY,), signer, public)
        parts = QueryParts({ACCOUNT: tasks}, engine.ledger.views, engine.ledger.registrations, engine.store)
        with gateway_to(sim.base_url, tmp_path / "gateway", queries=parts) as edge:
            monkeypatch.setenv("KLING_BASE_URL", str(edge.client.base_url).rstrip("/"))
            monkeypatch.setenv("KLING_API_KEY", API_KEY)
            task_id = gateway["create_image"]("a red fox", "order-4711")
            sim.succeed(task_id)
            urls = gateway["image_urls"](task_id)
            running, failed = sim.create_task(), sim.create_task()
            sim.fail(failed, "no foxes")
            assert gateway["image_urls"](running) is None
            with pytest.raises(RuntimeError, match="no foxes"):
                gateway["image_urls"](failed)

    assert urls
    assert all(url.startswith(f"{public}/files/") for url in urls)


def test_the_page_for_assistants_reads_a_signed_forward_and_refuses_a_forged_one(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, forward, _ = snippets()
    secret = "whsec_" + "A" * 32
    monkeypatch.setenv("KLING_FORWARD_SECRET", secret)
    body = forward_of(tmp_path)
    now = datetime.datetime.now(tz=datetime.UTC)
    headers = {
        "webhook-id": "fwd_" + "0" * 32,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("fwd_" + "0" * 32, now, body),
    }

    files = forward["files_of_forward"](headers, body)

    told = json.loads(body)["archive"]
    assert files == [(told["task_id"], file["name"], file["url"]) for file in told["objects"]]
    assert told["state"] == State.ARCHIVED
    with pytest.raises(WebhookVerificationError):
        forward["files_of_forward"](headers, body.replace("archived", "Archived"))


def test_the_page_for_assistants_reads_a_day_of_the_bucket(bucket: Bucket) -> None:
    _, _, reader = snippets()

    keys = reader["keys_of_day"](FAMILY, "2026/09/21")

    assert keys == {
        "880": [bucket.tasks[0].asset(0).key],
        "881": [bucket.tasks[1].asset(1).key, bucket.tasks[1].asset(0).key],
        "882": [bucket.tasks[2].asset(0).key],
    }
