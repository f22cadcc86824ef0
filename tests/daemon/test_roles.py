"""A door, a gateway and workers on one PostgreSQL ledger, each with only its own settings."""

import contextlib
import pathlib

import httpx2

from archiver.ledger import Ledger, Service, StatusView
from archiver.model import State
from archiver.problems import Expected, find_problems
from archiver.store.links import LinkSigner
from tests.harness.daemons import FAMILY, PATIENCE_SECONDS, TOKEN, Daemon, Site, until
from tests.harness.gateway import GATEWAY_KEY
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


LINK_SECRET = "link-secret-0123456789-0123456789-01"


def links_of(site: Site) -> dict[str, str]:
    """What a worker beside a gateway needs too, since the forwards that it sends name links."""
    return {"KLING_PUBLIC_URL": f"http://127.0.0.1:{site.port}", "KLING_LINK_SECRET": LINK_SECRET}


def start_worker(site: Site) -> Daemon:
    not_read = {"KLING_CALLBACK_TOKEN_FILE": "/nowhere", "KLING_ADMIN_TOKEN": "x"}
    changes = {"KLING_PORT": str(free_port()), **links_of(site), **not_read}
    return site.start(changes, without=OF_THE_DOOR, program=("archiver", "work"))


def start_gateway(site: Site) -> Daemon:
    changes = {
        "KLING_PORT": str(free_port()),
        **links_of(site),
        "KLING_GATEWAY_KEY": f"shop:{GATEWAY_KEY}",
        "KLING_ADMIN_TOKEN": "x",
        "KLING_SIGNING_SECRET": "none",
    }
    return site.start(changes, program=("receiver", "--gateway-only"))


def status(url: str) -> StatusView:
    with contextlib.closing(Ledger.open(url, daemon=False)) as ledger:
        return ledger.views.status()


def serving(url: str) -> dict[int, tuple[tuple[Service, ...], tuple[str, ...]]]:
    """Of each process that runs: what it serves, and for which accounts it asks."""
    return {daemon.pid: (daemon.serves, daemon.accounts) for daemon in status(url).alive_daemons}


def test_door_gateway_and_workers_share_the_work_and_each_needs_only_its_own_settings(
    tmp_path: pathlib.Path, rclone_server: S3Server, postgres_server: PostgresServer
) -> None:
    url = postgres_server.url(postgres_server.create_database())
    with Site(tmp_path, rclone_server, KLING_LEDGER_URL=url) as site:
        door, gateway, worker = start_door(site), start_gateway(site), start_worker(site)
        for daemon in (door, gateway, worker):
            daemon.wait_ready()
        first = site.create_task()
        site.sim.hide_from_list(first)
        assert site.call_back(first) == 200
        site.wait_archived(first)

        each_serves = {
            door.pid: ((Service.DOOR,), ()),
            gateway.pid: ((Service.GATEWAY,), ()),
            worker.pid: ((Service.WORK,), ("default",)),
        }
        until(lambda: serving(url) == each_serves, what="each to say what it serves")
        until(lambda: not any(each.degraded() for each in (door, gateway, worker)), what="all to be well")
        created = httpx2.post(
            f"{gateway.url}/kling/v1/{FAMILY}",
            json={"prompt": "a cat", "model_name": "kling-v2"},
            headers={"Authorization": f"Bearer {GATEWAY_KEY}"},
            trust_env=False,
            timeout=PATIENCE_SECONDS,
        )
        second = created.json()["data"]["task_id"]
        site.sim.hide_from_list(second)
        site.sim.succeed(second)  # and its callback goes to the door
        # The ledger says so after the manifest is there; until then the link leads to the API's own URL.
        until(
            lambda: status(url).states[State.ARCHIVED] == 2, what="the ledger to say that both are archived"
        )
        link = LinkSigner([LINK_SECRET], public_url=gateway.url).url(
            account="default", folder=site.folder_of(second).strip("/"), stem="0", extension="png"
        )
        file = httpx2.get(link, trust_env=False, timeout=PATIENCE_SECONDS)
        assert (file.status_code, file.headers["content-type"]) == (200, "image/png")
        assert file.content == site.content(f"{site.folder_of(second)}0.png")
        answers = [
            httpx2.get(f"{worker.url}{path}", trust_env=False, timeout=PATIENCE_SECONDS)
            for path in ("/healthz", "/metrics", f"/callbacks/{TOKEN}/{FAMILY}")
        ]
        answers.append(httpx2.get(f"{worker.url}/v1/{FAMILY}", trust_env=False, timeout=PATIENCE_SECONDS))
        answers.append(
            httpx2.get(f"{gateway.url}/callbacks/{TOKEN}/{FAMILY}", trust_env=False, timeout=PATIENCE_SECONDS)
        )
        answers += [
            httpx2.get(f"{each.url}/console", trust_env=False, timeout=PATIENCE_SECONDS)
            for each in (door, gateway, worker)
        ]
        assert [answer.status_code for answer in answers] == [200, 200, *[404] * 6]
        assert "kling_build_info" in answers[1].text

        door.kill()
        (problem, *_) = find_problems(status(url), Expected({}, 0))
        assert problem.code == "no_door"
        assert [daemon.stop() for daemon in (gateway, worker)] == [0, 0]
        site.assert_archived(first, second)
        site.assert_silent_on_secrets()
