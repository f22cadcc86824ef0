"""The door before a PostgreSQL ledger that is away."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from archiver.ledger import Ledger
from archiver.ledger.databases.postgres import PostgresDatabase
from tests.harness.daemons import until
from tests.harness.edge import TOKEN, Edge, client, legacy_body
from tests.postgres import BadNetwork, BlankDatabase, Fate, PostgresServer

FAMILY = "images/generations"


@contextlib.contextmanager
def nobody_listens(network: BadNetwork) -> Iterator[None]:
    network.is_refusing = True
    network.cut()
    yield
    network.is_refusing = False


@contextlib.contextmanager
def nothing_is_answered(network: BadNetwork) -> Iterator[None]:
    network.hang()
    yield
    network.flow()


@contextlib.contextmanager
def every_commit_breaks(network: BadNetwork) -> Iterator[None]:
    network.judge = lambda sent: Fate.LOST if b"COMMIT\0" in sent else Fate.PASSED
    yield
    network.judge = lambda _: Fate.PASSED


@pytest.mark.parametrize("fault", [nobody_listens, nothing_is_answered, every_commit_breaks])
def test_the_door_says_503_and_opens_again_by_itself(
    postgres_server: PostgresServer,
    blank_database: BlankDatabase,
    fault: Callable[[BadNetwork], contextlib.AbstractContextManager[None]],
) -> None:
    with BadNetwork(postgres_server.folder).working() as network:
        name = blank_database.url.partition("?")[0].rpartition("/")[2]
        url = network.url(name) + "?connect_timeout=10"
        ledger = Ledger(PostgresDatabase(url, first_answer_seconds=0.2), now=lambda: 1_790_000_000_000)
        edge = Edge(ledger.callbacks.record, seconds_max=5.0)
        with (
            contextlib.closing(ledger),
            contextlib.closing(edge.server),
            client(edge.parts, probe=ledger.daemons.ping, degraded=list) as running,
        ):

            def call_back() -> int:
                posted = running.post(f"/callbacks/{TOKEN}/{FAMILY}", content=legacy_body())
                return posted.status_code

            def is_ready() -> bool:
                return running.get("/readyz").status_code == 200

            until(lambda: call_back() == 200, what="the door to work")
            until(is_ready, what="/readyz")
            with fault(network):
                assert call_back() == 503
                readiness = running.get("/readyz")
                problems = [problem["code"] for problem in readiness.json()["degraded"]]
                assert (readiness.status_code, problems) == (503, ["door_closed"])
            until(lambda: call_back() == 200, what="the door to open")
            until(is_ready, what="/readyz")
