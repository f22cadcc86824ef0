"""deploy/compose.postgres.yaml, as Docker and Compose start it: doors, workers and gateways on one PostgreSQL."""

import json
import pathlib
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from tests.image.composition import PUBLIC_URL, TOKEN, Composition
from tests.image.engine import Engine
from tests.image.outside import Outside, running_outside

GATEWAY = {
    "COMPOSE_PROFILES": "gateway",
    "KLING_GATEWAY": "on",
    "KLING_LINK_SECRET_FILE": "/run/secrets/links/link_secret",
}
SETTINGS = {"KLING_PUBLIC_URL": PUBLIC_URL, "KLING_FAMILIES": "images/generations", **GATEWAY}
PASSWORD = secrets.token_urlsafe(24)
SECRETS = {
    "door/callback_token": TOKEN,
    "links/link_secret": secrets.token_urlsafe(24),
    "postgres/password": PASSWORD,
    "ledger/url": f"postgresql://kling:{PASSWORD}@postgres/kling",
}
DAEMONS = ("door", "work", "gateway")


def problems(engine: Engine, work: pathlib.Path) -> Iterator[str]:
    """Each is a sentence. The engine has the images."""
    work.mkdir()
    composition = Composition(
        engine, work / "deploy", "compose.postgres.yaml", settings=SETTINGS, secrets=SECRETS
    )
    try:
        # It makes the network: only then this machine has an address there.
        status, said = composition.run("up", "--no-start", "--no-build", "postgres")
        if status:
            yield f"`up --no-start` ends with {status}: {said}"
            return
        with running_outside(composition.gateway_address(), work / "outside") as outside:
            composition.settle(SETTINGS | outside.settings)
            composition.keep(outside.secrets)
            yield from _problems_of(composition, outside)
    finally:
        composition.remove()


def _problems_of(composition: Composition, outside: Outside) -> Iterator[str]:
    # Compose starts the daemons when the database is healthy, and Caddy when the doors are.
    status, said = composition.run("up", "--detach", "--no-build")
    if status:
        yield f"`up` ends with {status}: {said}\n{composition.run('logs', '--tail', '20')[1]}"
        return
    reachable_at = composition.logged_at("postgres", "listening on IPv4")
    for service in DAEMONS:
        if (started_at := composition.started_at(service)) < reachable_at:
            yield f"{service} was started at {started_at}, and the database was to be reached at {reachable_at}"
        if (restarts := composition.restarts(service)) != ["0", "0"]:
            yield f"the containers of {service} were started again {restarts} times"
    task = outside.create_task()
    if (answered := composition.call_back(task)) != 200:
        yield f"a callback through the proxy is answered by {answered}"
    outside.wait_archived(task)
    yield from _problems_of_commands(composition)
    yield from _problems_of_link(composition, outside, task)
    yield from _problems_of_stopping(composition)
    yield from outside.complaints


def _problems_of_commands(composition: Composition) -> Iterator[str]:
    yield from composition.failed("exec", "-T", "work", "kling-archiver", "status", "--check")
    status, said = composition.run("exec", "-T", "work", "kling-archiver", "status", "--json")
    serves = sorted(served for process in json.loads(said)["daemons"] for served in process["serves"])
    if status or serves != sorted(2 * DAEMONS):
        yield f"`status` ends with {status}, and lists {serves}"


def _problems_of_link(composition: Composition, outside: Outside, task: str) -> Iterator[str]:
    """The link is made by a worker, and opens at a gateway."""
    _, said = composition.run("exec", "-T", "work", "kling-archiver", "show", task, "--json")
    shown: Any = json.loads(said)
    [asset] = shown["assets"]
    status, content = composition.ask_proxy("GET", urlsplit(asset["link"]).path)
    if status != 200 or content != outside.expected_bytes(task):
        yield f"the link of the file is answered by {status} and {len(content)} bytes"


def _problems_of_stopping(composition: Composition) -> Iterator[str]:
    """The database last, so that what is under way is still written."""
    yield from composition.failed("stop")
    for service in (*DAEMONS, "postgres"):
        if set(ended := composition.exit_statuses(service)) != {"0"}:
            _, log = composition.run("logs", "--tail", "20", service)
            yield f"`stop` ends {service} with {ended}. The log ends with:\n{log}"
