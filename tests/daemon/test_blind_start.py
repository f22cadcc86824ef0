"""A daemon that starts where nothing is: it takes callbacks, and says within seconds what is missing."""

import json
import pathlib

from archiver.version import VERSION
from tests.harness.daemons import Site, until
from tests.s3_servers import S3Server

CLOSED = "http://127.0.0.1:1"


def test_a_daemon_that_reaches_neither_api_nor_store_opens_its_door_and_holds_before_any_task_comes(
    tmp_path: pathlib.Path, rclone_server: S3Server
) -> None:
    wrong = {"KLING_BASE_URL": CLOSED, "KLING_S3_ENDPOINT_URL": CLOSED}
    with Site(tmp_path, rclone_server, **wrong) as site:
        daemon = site.start()

        until(lambda: len(daemon.holds()) == 3, what="the holds of every stage")
        assert {hold["stage"]: hold["reason"] for hold in daemon.holds()} == {
            "verify": "api_unreachable",
            "sweep": "api_unreachable",
            "archive": "store_unreachable",
        }
        assert site.call_back(site.create_task()) == 200
        first = json.loads(daemon.output.splitlines()[0])
        assert (first["event"], first["version"]) == ("daemon.started", VERSION)
        assert len(daemon.events("daemon.started")) == len(daemon.events("door.opened")) == 1
        assert first["ledger"] == str(tmp_path / "ledger.db")
        assert {"bucket", "families", "public_url"} <= first.keys()
        assert daemon.stop() == 0
