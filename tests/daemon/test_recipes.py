"""The recipes of receiver/README.md work as they are pasted, with the reader's own URL and keys."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.harness.daemons import Site
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
def site(tmp_path_factory: pytest.TempPathFactory, rclone_server: S3Server) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("recipes"), rclone_server)
    site.environment |= {
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
    assert httpx2.get(result["images"][0]["url"], trust_env=False).content == site.sim.expected_bytes(
        task_id, "0"
    )


def test_a_link_in_a_database_still_opens_the_picture_once_kling_has_deleted_it(site: Site) -> None:
    task_id = site.create_task()
    site.call_back(task_id)
    site.wait_archived(task_id)

    paste(site, recipe("Store the link in your database", "python"), [sys.executable, "-c"], task_id)
    site.sim.purge(task_id)

    with sqlite3.connect(site.folder / "pictures.db") as database:
        [(link,)] = database.execute("SELECT link FROM pictures WHERE task = ?", (task_id,)).fetchall()
    assert httpx2.get(link, trust_env=False).content == site.sim.expected_bytes(task_id, "0")
