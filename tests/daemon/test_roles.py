"""A door and workers on one PostgreSQL ledger, each with only its own settings."""

import contextlib
import pathlib

import httpx2

from archiver.ledger import Ledger, Service, StatusView
from archiver.problems import Expected, find_problems
from tests.harness.daemons import FAMILY, TOKEN, Daemon, Site
from tests.postgres import PostgresServer
from tests.s3_servers import S3Server
from tests.s3_servers.process import free_port

OF_THE_DOOR = ("KLING_CALLBACK_TOKEN",)
OF_WORK = (
    "KLING_ACCESS_KEY",
    "KLING_SECRET_KEY",
    "KLING_BASE_URL",
    "KLING_FAMILIES",
    "KLING_ASSET_HOSTS",
    "KLING_SPOOL_DIR",
    "KLING_QUERY_RATE_PER_SECOND",
    "KLING_SWEEP_INTERVAL_SECONDS",
)


def start_door(site: Site) -> Daemon:
    of_others = (*OF_WORK, *(name for name in site.environment if name.startswith(("KLING_S3", "AWS"))))
    not_read = {"KLING_SECRET_KEY_FILE": "/nowhere", "KLING_API_KEY": "no key", "KLING_ADMIN_TOKEN": "x"}
    return site.start(not_read, without=of_others, program=("receiver", "--edge-only"))


def start_worker(site: Site) -> Daemon:
    not_read = {"KLING_CALLBACK_TOKEN_FILE": "/nowhere", "KLING_SIGNING_SECRET": "none"}
    changes = {"KLING_PORT": str(free_port()), **not_read}
    return site.start(changes, without=OF_THE_DOOR, program=("archiver", "work"))


def status(url: str) -> StatusView:
    with contextlib.closing(Ledger.open(url, daemon=False)) as ledger:
        return ledger.views.status()


def serving(url: str) -> dict[int, tuple[tuple[Service, ...], tuple[str, ...]]]:
    """Of each process that runs: what it serves, and for which accounts it asks."""
    return {daemon.pid: (daemon.serves, daemon.accounts) for daemon in status(url).alive_daemons}


def test_a_door_and_workers_share_the_work_and_each_needs_only_its_own_settings(
    tmp_path: pathlib.Path, rclone_server: S3Server, postgres_server: PostgresServer
) -> None:
    url = postgres_server.url(postgres_server.create_database())
    with Site(tmp_path, rclone_server, KLING_LEDGER_URL=url) as site:
        door, worker = start_door(site), start_worker(site)
        door.wait_ready()
        worker.wait_ready()
        first = site.create_task()
        site.sim.hide_from_list(first)
        assert site.call_back(first) == 200
        site.wait_archived(first)

        assert serving(url) == {
            door.pid: ((Service.DOOR,), ()),
            worker.pid: ((Service.WORK,), ("default",)),
        }
        assert [daemon.degraded() for daemon in (door, worker)] == [[], []]
        answers = [
            httpx2.get(f"{worker.url}{path}", trust_env=False)
            for path in ("/healthz", "/metrics", f"/callbacks/{TOKEN}/{FAMILY}")
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 404]
        assert "kling_build_info" in answers[1].text

        door.kill()
        (problem, *_) = find_problems(status(url), Expected({}, 0))
        assert problem.code == "no_door"
        assert worker.stop() == 0
        site.assert_archived(first)
        site.assert_silent_on_secrets()
