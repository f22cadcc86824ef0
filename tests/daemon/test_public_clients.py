"""Clients that others have published work with the gateway as they are, and read durable links.

Each is known by Kling's own key and by one of the gateway. All are replayed byte for byte against one daemon: while
Kling works, after it has deleted every task and file, and once it is not reached any more.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import httpx2
import pytest

from tests.harness.daemons import Site, until
from tests.harness.gateway import APPLICATION, GATEWAY_KEY
from tests.harness.public_clients import Answer, PublicClient, keys_of, recorded_clients
from tests.s3_servers import S3Server

FAMILIES = ("images/generations", "videos/text2video")
CLIENTS = [
    (recorded, place)
    for recorded in recorded_clients()
    for kind in recorded["keys"]
    for place in keys_of(kind, application=APPLICATION, gateway_key=GATEWAY_KEY)
]
NAMES = [f"{recorded['client']}, {key.name}" for recorded, key in CLIENTS]


@dataclasses.dataclass
class Life:
    """What one client has heard, and what its links led to."""

    client: PublicClient
    files: list[bytes] = dataclasses.field(default_factory=list)
    """Of its task, as Kling had them."""
    heard: dict[str, Answer] = dataclasses.field(default_factory=dict)
    """When → the answer to its query."""
    downloaded: dict[str, list[bytes]] = dataclasses.field(default_factory=dict)
    """When → what was behind the links."""

    def ask(self, when: str) -> Answer:
        self.heard[when] = answer = self.client.query()
        return answer

    def ask_until_done(self) -> None:
        """Questions within a second share one answer."""
        until(lambda: self.ask("done").data["task_status"] != "processing", what="the result")

    def ask_again(self, when: str) -> None:
        """Until the answer is a new one."""
        before = {answer.request_id for answer in self.heard.values()}
        until(lambda: self.ask(when).request_id not in before, what="an answer that is not shared")

    def download(self, when: str) -> None:
        """By the links that it has read first, as an application that has stored them."""
        links = self.heard["done"].urls
        with httpx2.Client(trust_env=False, timeout=30.0, follow_redirects=True) as client:
            self.downloaded[when] = [client.get(link).content for link in links]


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory, rclone_server: S3Server) -> Iterator[Mapping[str, Life]]:
    site = Site(tmp_path_factory.mktemp("clients"), rclone_server, KLING_FAMILIES=",".join(FAMILIES))
    site.environment |= {
        "KLING_GATEWAY": "on",
        "KLING_GATEWAY_KEY": f"{APPLICATION}:{GATEWAY_KEY}",
        "KLING_CLIENT_API_KEYS": site.sim.api_key,
        "KLING_PUBLIC_URL": f"http://127.0.0.1:{site.port}",
        "KLING_LINK_SECRET": "link-secret-0123456789-0123456789-01",
    }
    made = {
        name: Life(PublicClient(recorded, key, port=site.port))
        for name, (recorded, key) in zip(NAMES, CLIENTS, strict=True)
    }
    with site:
        site.sim.switches.callback_drop = True  # the client's own question brings the news
        site.start().wait_ready()
        live(site, list(made.values()))
        yield made


def live(site: Site, lives: list[Life]) -> None:
    """All clients at once, from the create to long after Kling's days."""
    for life in lives:
        if life.client.has_a_first_request:
            life.heard["first"] = life.client.try_key()
        life.client.create()
        site.sim.process(life.client.task_id)
        life.ask("running")
    for life in lives:
        task_id = life.client.task_id
        site.sim.succeed(task_id)
        life.ask_until_done()
        life.files = [site.sim.expected_bytes(task_id, name) for name in site.sim.expected_names(task_id)]
        life.download("at once")
        if life.client.reads_lists:
            life.heard["list"] = life.client.list()
    tasks = [life.client.task_id for life in lives]
    site.wait_archived(*tasks)
    for task_id in tasks:
        site.sim.purge(task_id)
    for life in lives:
        life.ask_again("purged")
        life.download("purged")
    site.sim.switch_off()
    for life in lives:
        life.ask_again("switched off")
        life.download("switched off")


@pytest.fixture(params=NAMES)
def life(request: pytest.FixtureRequest, lives: Mapping[str, Life]) -> Life:
    name: str = request.param
    return lives[name]


def test_a_public_client_is_known_by_its_key_and_its_task_is_shown_as_kling_shows_it(life: Life) -> None:
    first = life.heard.get("first")
    running = life.heard["running"]

    assert first is None or first.status != 401
    assert (running.source, running.data["task_status"]) == ("kling", "processing")


def test_the_first_result_that_it_reads_has_links_that_lead_to_its_files(life: Life) -> None:
    done = life.heard["done"]

    assert (done.source, done.data["task_status"]) == ("kling", "succeed")
    assert [link.split("/")[3] for link in done.urls] == ["files"] * len(life.files)
    assert life.downloaded["at once"] == life.files
    assert "list" not in life.heard or life.heard["list"].urls_of_row(life.client.task_id) == done.urls


@pytest.mark.parametrize("when", ["purged", "switched off"])
def test_it_reads_the_same_result_when_kling_has_deleted_all_or_is_gone(life: Life, when: str) -> None:
    answer = life.heard[when]

    assert answer.source == "manifest"
    assert answer.data == life.heard["done"].data
    assert life.downloaded[when] == life.files
