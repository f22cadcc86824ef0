"""kill -9 while clients create through the gateway: nothing is created twice or forgotten, and every client is told,
also if Kling's callback is lost as well as its answer."""

import concurrent.futures
import contextlib
import functools
import itertools
import pathlib
import threading
from collections.abc import Callable

import httpx2
import sqlalchemy as sa

from archiver.ledger import Ledger
from archiver.ledger.gateway_creates.by_time import MATCHED_MS, PATIENCE_MS
from tests.harness.consumer import SECRET, Consumer, consumer
from tests.harness.daemons import FAMILY, Daemon, Site, until
from tests.harness.gateway import GATEWAY_KEY
from tests.postgres import PostgresServer
from tests.s3_servers import S3Server
from tests.s3_servers.process import free_port
from tests.simulator import faults

CLIENTS = 4
KILLS = 2
CREATES_BETWEEN = 8
"""Answered before each kill; more are under way."""
CLIENTS_ORIGIN = "http://127.0.0.1:9"
"""Private and plain: KLING_FORWARD_HOSTS allows it. It has no listener."""
AGE_MS = MATCHED_MS + PATIENCE_MS
"""So long ago a create must have been for its task to be found by its time."""
HEADERS = {"Authorization": f"Bearer {GATEWAY_KEY}", "Content-Type": "application/json"}


class Clients:
    """Applications that create without a pause. Each create has a callback URL of its own."""

    def __init__(self, url: str) -> None:
        self.answered: dict[str, str] = {}
        """Prompt → the task's id, as the client has heard it."""
        self.prompts: set[str] = set()
        self._url = url
        self._numbers = itertools.count()
        self._stop = threading.Event()

    @staticmethod
    def callback_url(prompt: str) -> str:
        return f"{CLIENTS_ORIGIN}/cb?job={prompt}"

    def work(self) -> None:
        with httpx2.Client(trust_env=False, timeout=30.0) as client:
            while not self._stop.is_set():
                prompt = f"job-{next(self._numbers)}"
                self.prompts.add(prompt)
                body = {"prompt": prompt, "callback_url": self.callback_url(prompt)}
                try:
                    answer = client.post(f"{self._url}/v1/{FAMILY}", json=body, headers=HEADERS)
                except httpx2.TransportError:
                    self._stop.wait(0.2)
                    continue
                if answer.status_code == 200:
                    self.answered[prompt] = answer.json()["data"]["task_id"]

    def have_heard_of(self, tasks: int) -> bool:
        return len(self.answered) >= tasks

    def stop(self) -> None:
        self._stop.set()


def gateway_settings(site: Site) -> dict[str, str]:
    return {
        "KLING_GATEWAY": "on",
        "KLING_GATEWAY_KEY": f"shop:{GATEWAY_KEY}",
        "KLING_PUBLIC_URL": f"http://127.0.0.1:{site.port}",
        "KLING_LINK_SECRET": "link-secret-0123456789-0123456789-01",
        "KLING_FORWARD_HOSTS": CLIENTS_ORIGIN,
    }


def told(url: str) -> dict[str, str | None]:
    """Task id → the callback URL of its client."""
    ledger = Ledger.open(url, daemon=False)
    try:
        with ledger.database.read() as connection:
            query = "SELECT task_id, client_callback_url FROM tasks"
            return {row[0]: row[1] for row in connection.execute(sa.text(query))}
    finally:
        ledger.close()


def besiege(site: Site, url: str, start: Callable[[], Daemon], *, gateway_url: str) -> None:
    clients = Clients(gateway_url)
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as threads:
        try:
            working = [threads.submit(clients.work) for _ in range(CLIENTS)]
            for _ in range(KILLS):
                daemon = start()
                wanted = len(clients.answered) + CREATES_BETWEEN
                until(functools.partial(clients.have_heard_of, wanted), what="answers")
                daemon.kill()
            start().wait_ready()
        finally:
            clients.stop()
        for thread in working:
            thread.result()
    assert_nothing_is_lost(site, url, clients)


def assert_nothing_is_lost(site: Site, url: str, clients: Clients) -> None:
    arrived = [str(seen.prompt) for seen in site.sim.creates]
    assert len(arrived) == len(set(arrived)) <= len(clients.prompts), "a create was sent twice"
    made = set(site.sim.task_ids())
    assert len(made) == len(arrived)
    assert set(clients.answered.values()) <= told(url).keys(), (
        "a client heard of a task that the ledger lacks"
    )
    for task_id in made:
        site.sim.process(task_id)  # Kling calls us

    def all_are_told() -> bool:
        known = told(url)
        return all(known.get(task_id) for task_id in made)

    until(all_are_told, what="a client for every task")
    known = told(url)
    heard = {task_id: Clients.callback_url(prompt) for prompt, task_id in clients.answered.items()}
    assert {task_id: known[task_id] for task_id in heard} == heard
    unheard = {Clients.callback_url(prompt) for prompt in set(arrived) - clients.answered.keys()}
    assert {known[task_id] for task_id in made - heard.keys()} == unheard


def test_a_whole_daemon_that_is_killed_under_creates_forgets_none_and_repeats_none(
    swift_server: S3Server, tmp_path: pathlib.Path
) -> None:
    with Site(tmp_path, swift_server) as site:
        settings = gateway_settings(site)
        site.sim.switches.create_seconds = 0.02
        url = f"http://127.0.0.1:{site.port}"
        besiege(site, site.environment["KLING_LEDGER_URL"], lambda: site.start(settings), gateway_url=url)


def test_a_gateway_that_is_killed_beside_a_door_forgets_none_and_repeats_none(
    swift_server: S3Server, postgres_server: PostgresServer, tmp_path: pathlib.Path
) -> None:
    database = postgres_server.url(postgres_server.create_database())
    with Site(tmp_path, swift_server, KLING_LEDGER_URL=database) as site:
        port = str(free_port())
        settings = {**gateway_settings(site), "KLING_PORT": port}
        site.sim.switches.create_seconds = 0.02
        site.start(program=("receiver", "--edge-only")).wait_ready()
        besiege(
            site,
            database,
            lambda: site.start(settings, program=("receiver", "--gateway-only")),
            gateway_url=f"http://127.0.0.1:{port}",
        )


def lose_answer_and_callback(site: Site, gateway: Daemon, client: Consumer) -> str:
    """The gateway is killed when Kling has created the task of a client and not yet answered; the task's id."""
    site.sim.fault("create", faults.Happened(faults.Hang()), times=1)
    site.sim.switches.callback_drop = True

    def create() -> None:
        body = {"prompt": "a fox", "callback_url": client.url}
        with contextlib.suppress(httpx2.TransportError):
            httpx2.post(f"{gateway.url}/v1/{FAMILY}", json=body, headers=HEADERS, trust_env=False, timeout=60)

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        creating = thread.submit(create)
        until(site.sim.task_ids, what="a task")
        gateway.kill()
        creating.result()
    (task_id,) = site.sim.task_ids()
    site.sim.succeed(task_id)
    return task_id


def let_time_pass(site: Site, url: str, task_id: str) -> None:
    """For the create and its task."""
    site.sim.age(task_id, AGE_MS)
    with contextlib.closing(Ledger.open(url, daemon=False)) as ledger, ledger.database.write() as connection:
        aged = sa.text("UPDATE gateway_creates SET created_at = created_at - :age")
        assert connection.execute(aged, {"age": AGE_MS}).rowcount == 1


def client_settings(site: Site, client: Consumer) -> dict[str, str]:
    origin = "/".join(client.url.split("/")[:3])
    return {**gateway_settings(site), "KLING_FORWARD_HOSTS": origin, "KLING_SIGNING_SECRET": SECRET}


def assert_told(site: Site, client: Consumer, task_id: str) -> None:
    until(lambda: client.requests, what="a forward to the client")
    (body,) = client.taken
    assert (body["archive"]["task_id"], body["archive"]["state"]) == (task_id, "archived")
    site.assert_archived(task_id)


def test_a_client_is_told_by_a_whole_daemon_that_was_killed_before_the_answer_though_no_callback_came(
    swift_server: S3Server, tmp_path: pathlib.Path
) -> None:
    with Site(tmp_path, swift_server) as site, consumer() as client:
        settings = client_settings(site, client)
        daemon = site.start(settings)
        daemon.wait_ready()
        task_id = lose_answer_and_callback(site, daemon, client)
        let_time_pass(site, site.environment["KLING_LEDGER_URL"], task_id)

        site.start(settings)

        assert_told(site, client, task_id)
        assert site.sim.deliveries == []


def test_a_client_of_a_gateway_that_was_killed_before_the_answer_is_told_by_another_process(
    swift_server: S3Server, postgres_server: PostgresServer, tmp_path: pathlib.Path
) -> None:
    database = postgres_server.url(postgres_server.create_database())
    with Site(tmp_path, swift_server, KLING_LEDGER_URL=database) as site, consumer() as client:
        settings = client_settings(site, client)
        port = str(free_port())
        gateway = site.start({**settings, "KLING_PORT": port}, program=("receiver", "--gateway-only"))
        gateway.wait_ready()
        task_id = lose_answer_and_callback(site, gateway, client)
        let_time_pass(site, database, task_id)

        site.start(settings)

        assert_told(site, client, task_id)
