"""The recipes of receiver/README.md work as they are pasted, with the reader's own URL and keys; and an application
that is told, from its create through the gateway to the POST at its own URL.
"""

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.harness.consumer import Consumer, consumer
from tests.harness.daemons import FAMILY, PATIENCE_SECONDS, Site, until
from tests.harness.repository import ROOT
from tests.s3_servers import S3Server
from tests.simulator.server import API_KEY

README = (ROOT / "receiver" / "README.md").read_text()
URL_IN_README = "https://kling.example.com"


def recipe(heading: str, language: str) -> str:
    """The first block of this language behind the words."""
    found = re.search(
        rf"\*\*{re.escape(heading)}.*?^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE
    )
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def application() -> Iterator[Consumer]:
    with consumer() as running:
        yield running


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, rclone_server: S3Server, application: Consumer
) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("recipes"), rclone_server)
    site.environment |= {
        "KLING_FORWARD_HOSTS": application.url.partition("/hook")[0],
        "KLING_GATEWAY": "on",
        "KLING_CLIENT_API_KEYS": API_KEY,
        "KLING_PUBLIC_URL": f"http://127.0.0.1:{site.port}",
        "KLING_LINK_SECRET": "link-secret-0123456789-0123456789-02",
    }
    with site:
        site.start().wait_ready()
        yield site


def paste(site: Site, code: str, program: list[str], *arguments: str, **more: str) -> str:
    """What it prints, where PATH has the commands of this program first."""
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*program, code.replace(URL_IN_README, f"http://127.0.0.1:{site.port}"), *arguments],
        env={**site.environment, "PATH": search, **more},
        cwd=site.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def open_link(site: Site, link: str, task_id: str) -> None:
    """Until its file comes: before it is archived, the link is a redirect to Kling's own URL."""
    expected = site.sim.expected_bytes(task_id, "0")
    until(
        lambda: httpx2.get(link, trust_env=False, timeout=PATIENCE_SECONDS).content == expected,
        what="the file behind the link",
    )


def test_a_client_with_one_base_url_changed_reads_a_link(site: Site) -> None:
    create, query = recipe("Change one base URL", "sh").split("curl")[1:]
    setting = recipe("Change one base URL", "sh").split("curl")[0]

    def run(request: str, **more: str) -> dict[str, object]:
        told = json.loads(
            paste(site, f"{setting}curl{request}", ["sh", "-ec"], KLING_API_KEY=API_KEY, **more)
        )
        assert isinstance(told["data"], dict)
        return told["data"]

    task_id = str(run(create)["task_id"])
    site.sim.succeed(task_id)
    site.wait_archived(task_id)

    result = run(query, TASK_ID=task_id)["task_result"]

    assert isinstance(result, dict)
    open_link(site, result["images"][0]["url"], task_id)


def test_a_client_s_own_callback_url_is_posted_to_once_its_picture_is_in_the_bucket(
    site: Site, application: Consumer
) -> None:
    asked = {"prompt": "a fox", "callback_url": application.url}
    headers = {"Authorization": f"Bearer {API_KEY}"}
    url = f"http://127.0.0.1:{site.port}/v1/{FAMILY}"
    created = httpx2.post(url, json=asked, headers=headers, trust_env=False, timeout=PATIENCE_SECONDS).json()
    task_id = created["data"]["task_id"]
    site.sim.succeed(task_id)

    def told() -> dict[str, Any]:
        bodies = [json.loads(body) for _, body in application.requests]
        done = [body for body in bodies if body["task_id"] == task_id and body["task_status"] == "succeed"]
        return done[0] if done else {}

    until(told, what="the word that it is archived")

    assert set(application.paths) == {"/" + application.url.split("/", 3)[3]}
    link = told()["task_result"]["images"][0]["url"]
    assert link.startswith(f"http://127.0.0.1:{site.port}/files/")
    open_link(site, link, task_id)


def test_a_link_in_a_database_still_opens_the_picture_once_kling_has_deleted_it(site: Site) -> None:
    task_id = site.create_task()
    site.call_back(task_id)
    site.wait_archived(task_id)

    paste(site, recipe("Store the link in your database", "python"), [sys.executable, "-c"], task_id)
    site.sim.purge(task_id)

    with sqlite3.connect(site.folder / "pictures.db") as database:
        [(link,)] = database.execute("SELECT link FROM pictures WHERE task = ?", (task_id,)).fetchall()
    open_link(site, link, task_id)
