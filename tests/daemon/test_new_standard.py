"""The daemon as a process, with an API Key: what only `/tasks` and `/solutions` know comes into a real bucket."""

import json
import pathlib
from collections.abc import Iterator

import pytest

from tests.harness.daemons import TOKEN, Site
from tests.s3_servers import S3Server

VIDEO, SOLUTION = "tasks/video", "solutions/virtual_try_on"


@pytest.fixture
def site(tmp_path: pathlib.Path, rclone_server: S3Server) -> Iterator[Site]:
    with Site(tmp_path, rclone_server, KLING_FAMILIES=f"images/generations,{VIDEO},{SOLUTION}") as made:
        made.environment["KLING_API_KEY"] = made.sim.api_key
        yield made


def test_callbacks_and_sweeps_bring_the_new_standard_into_the_bucket(site: Site) -> None:
    swept = [site.create_task(family=family) for family in (VIDEO, SOLUTION, "images/generations")]
    daemon = site.start(without=("KLING_ACCESS_KEY", "KLING_SECRET_KEY"))
    daemon.wait_ready()
    site.wait_archived(*swept)
    called = [site.create_task(family=family) for family in (VIDEO, SOLUTION)]
    url = f"http://127.0.0.1:{site.port}/callbacks/{TOKEN}"
    answers = [
        site.sim.send_callback(called[0], url=url),
        site.sim.send_callback(called[1], url=f"{url}/{SOLUTION}"),
        site.sim.send_console_test(url),
    ]
    site.wait_archived(*called)

    assert answers == [200, 200, 200]
    manifests = [json.loads(site.content(f"{site.folder_of(one)}manifest.json")) for one in swept + called]
    assert [manifest["discovered_by"] for manifest in manifests] == ["sweep"] * 3 + ["callback"] * 2
    assert daemon.holds() == []
    assert site.sim.complaints == []
    assert daemon.stop() == 0
