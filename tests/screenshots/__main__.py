"""`python -m tests.screenshots`: the pictures of the console that receiver/README.md shows.

A ledger on a clock of its own has a day of tasks in it; their files lie in a real S3 server, and a real receiver serves
the console and its links. Chromium takes the pictures, into receiver/screenshots.
"""

import contextlib
import dataclasses
import pathlib
import random
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from archiver import model
from archiver.fetch.urls import EgressPolicy
from archiver.ledger import Service
from archiver.metrics import Metrics
from archiver.model import Asset, Role, StoredAsset
from archiver.problems import Expected
from archiver.store import S3Store, digests_of
from archiver.store.links import LinkSigner, links_of_shown
from receiver.console.parts import ConsoleAccount
from receiver.links.finder import LinkedAccount
from receiver.links.service import LinkService
from tests.harness.browser import CHROMIUM, DESKTOP, MISSING, PHONE
from tests.harness.console import ADMIN_TOKEN, console_parts
from tests.harness.edge import Edge
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, HOUR, MINUTE, SECOND, Desk, answer
from tests.harness.links import put
from tests.harness.repository import ROOT
from tests.s3_servers import SwiftServer, running
from tests.s3_servers.process import free_port
from tests.screenshots.scenery import landscape

FOLDER = ROOT / "receiver/screenshots"
BYTES_MAX = 150_000
"""Of each picture: a README is read over the net."""
PREFIX = "kling/"
SIDE = 320
PICTURES = 60
"""Tasks whose files are there; older ones are in the ledger alone."""
PER_HOUR = (9, 7, 6, 4, 3, 2, 2, 3, 5, 9, 14, 18, 21, 19, 16, 20, 24, 27, 25, 22, 18, 16, 13, 11)
PROMPTS = (
    "layered hills at sunrise, flat poster colours",
    "a pale sun over a blue mountain range",
    "green valley in morning mist, minimalist",
    "violet dusk over the dunes, long shadows",
    "a quiet bay under a teal sky",
    "lavender evening, soft hills, a rising moon",
    "night over the ridge, a cold white moon",
    "desert at noon, burning orange sky",
)


@dataclasses.dataclass(frozen=True)
class Scene:
    """The running console, and a task to look at."""

    url: str
    task_id: str


def main() -> int:
    """Take the pictures; 1 where one is too large."""
    if CHROMIUM is None:
        sys.stderr.write(f"{MISSING}\n")
        return 1
    FOLDER.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        playing(pathlib.Path(folder)) as scene,
        sync_playwright() as player,
    ):
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        taken = list(take(browser, scene))
        browser.close()
    for path in taken:
        sys.stdout.write(f"{path.relative_to(ROOT)} {path.stat().st_size:,} bytes\n")
    return int(any(path.stat().st_size > BYTES_MAX for path in taken))


def take(browser: Browser, scene: Scene) -> Iterator[pathlib.Path]:
    """Each picture: its name, the page below `/console`, and how the reader has it."""
    readers: dict[str, dict[str, Any]] = {
        "desktop": {"viewport": DESKTOP, "color_scheme": "light"},
        "dark": {"viewport": DESKTOP, "color_scheme": "dark"},
        "phone": {"viewport": PHONE, "color_scheme": "light"},
    }
    for name, below, reader in (
        ("overview", "", "desktop"),
        ("gallery", "tasks?view=gallery", "desktop"),
        ("gallery-dark", "tasks?view=gallery", "dark"),
        ("task", f"tasks/{ACCOUNT}/{scene.task_id}", "desktop"),
        ("overview-phone", "", "phone"),
    ):
        context = browser.new_context(**readers[reader])
        page = context.new_page()
        log_in(page, scene)
        page.goto(f"{scene.url}/{below}" if below else scene.url)
        page.wait_for_load_state("networkidle")
        path = FOLDER / f"{name}.png"
        page.screenshot(path=path)
        context.close()
        yield path


def log_in(page: Page, scene: Scene) -> None:
    page.goto(f"{scene.url}/login")
    page.get_by_label("Admin token").fill(ADMIN_TOKEN)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(scene.url)


@contextlib.contextmanager
def playing(folder: pathlib.Path) -> Iterator[Scene]:
    desk, port = Desk(folder), free_port()
    with contextlib.closing(desk), running(SwiftServer) as server:
        store = server.store(server.create_bucket())
        task_id = a_day(desk, store)
        signer = LinkSigner([ADMIN_TOKEN * 2], public_url=f"http://127.0.0.1:{port}")
        links = LinkService(
            signer,
            desk.ledger.files.find,
            store,
            accounts={ACCOUNT: LinkedAccount(ACCOUNT, PREFIX)},
            mode="stream",
            policy=EgressPolicy.parse(["klingai.com"]),
            metrics=Metrics(),
        )
        parts = console_parts(
            desk,
            accounts=[
                ConsoleAccount(
                    ACCOUNT,
                    [FAMILY],
                    base_url="https://api-singapore.klingai.com",
                    credentials="API Key",
                    prefix=PREFIX,
                )
            ],
            expected=Expected({ACCOUNT: [FAMILY]}, 300_000),
            links=lambda task: links_of_shown(signer, task),
        )
        with Edge(console=parts, links=links, port=port) as edge:
            yield Scene(f"{edge.server.url}/console", task_id)


def a_day(desk: Desk, store: S3Store) -> str:
    """A day in the life of an archive: every hour some tasks come and are archived. Returns the id of the last."""
    chance = random.Random(1)
    total, number = sum(PER_HOUR), 0
    began_at = desk.clock.now // HOUR * HOUR
    task_id = ""
    for hour, count in enumerate(PER_HOUR):
        desk.clock.now = began_at + hour * HOUR
        desk.ledger.trends.note_hour()
        for place in range(count):
            desk.clock.now = began_at + hour * HOUR + (place + 1) * (HOUR - 10 * MINUTE) // count
            number += 1
            task_id = f"8317682510{chance.randrange(10**8):08d}"
            pictures = 3 if number == total else 1
            archive(desk, store if number > total - PICTURES else None, task_id, number, pictures=pictures)
    for days in (0, 0, 0, 1, 1, 2, 3, 3, 4):
        desk.say(answer(f"8317689{chance.randrange(10**11):011d}", created_at=desk.clock() - days * DAY))
    token = desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)
    assert token is not None
    desk.ledger.sweeps.end(token, succeeded_at=desk.clock(), full=True, oldest_first=False, last_page=None)
    desk.clock.advance(3 * MINUTE)
    desk.ledger.daemons.beat(
        "kling-1",
        version="0.1.0",
        started_at=desk.clock() - 6 * DAY,
        serves=list(Service),
        accounts=[ACCOUNT],
    )
    return task_id


def archive(desk: Desk, store: S3Store | None, task_id: str, number: int, *, pictures: int = 1) -> None:
    """A callback, the API's word, and the files; without a store, none is put."""
    created_at, external_id = desk.clock(), f"order-{4000 + number}"
    prompt = PROMPTS[number % len(PROMPTS)]
    desk.ledger.registrations.register(
        task_id,
        account=ACCOUNT,
        family=FAMILY,
        external_task_id=external_id,
        request={"model_name": "kling-v2-1", "prompt": prompt, "n": pictures, "aspect_ratio": "1:1"},
        created_at=created_at,
    )
    desk.clock.advance(24 * SECOND)
    desk.tell(task_id)
    assets = tuple(
        Asset(str(index), f"https://cdn.klingai.com/{index}.png", Role.IMAGE, index, watermarked=False)
        for index in range(pictures)
    )
    desk.say(
        answer(
            task_id,
            created_at=created_at,
            external_task_id=external_id,
            assets=assets,
            updated_at=desk.clock(),
        )
    )
    desk.clock.advance(2 * SECOND)
    (lease,) = [lease for lease in desk.claim_all(model.Stage.ARCHIVE) if lease.task_id == task_id]
    folder = model.task_folder(prefix=PREFIX, family=FAMILY, created_at=created_at, task_id=task_id)
    stored = [
        bring(store, asset, f"{folder}{asset.stem}.png", landscape(number + len(PROMPTS) * place, SIDE, SIDE))
        for place, asset in enumerate(assets)
    ]
    desk.ledger.outcomes.archived(
        lease, manifest_key=f"{folder}manifest.json", archived_at=desk.clock(), stored=stored
    )


def bring(store: S3Store | None, asset: Asset, key: str, content: bytes) -> StoredAsset:
    if store is not None:
        put(store, key, content)
    digests = digests_of(content)
    return StoredAsset(
        stem=asset.stem,
        name=key.rpartition("/")[2],
        key=key,
        role=asset.role,
        index=asset.index,
        watermarked=False,
        bytes=digests.bytes,
        sha256=digests.sha256,
        content_type="image/png",
        width=SIDE,
        height=SIDE,
        source_url=asset.url,
    )


if __name__ == "__main__":
    sys.exit(main())
