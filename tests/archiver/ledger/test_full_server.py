"""A PostgreSQL server whose disk is full, for real: callbacks are refused with the reason, and none that was taken is
lost."""

import contextlib
import pathlib
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

from archiver.failures import LedgerUnavailable
from archiver.model import Callback, Status
from archiver.problems import Expected, look
from tests.harness.disks import NO_DISK, fill, small_disk
from tests.harness.ledgers import ACCOUNT, FAMILY, Desk
from tests.postgres import BlankDatabase, PostgresServer

ADVICE = "Make room on the disk of the PostgreSQL server"
MANY = 4000
"""More than there is room for in the pages of the tables."""


@pytest.fixture
def disk() -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as name, contextlib.ExitStack() as opened:
        folder = pathlib.Path(name)
        try:
            opened.enter_context(small_disk(folder, megabytes=128))
        except subprocess.CalledProcessError:
            pytest.skip(NO_DISK)
        yield folder


def test_a_full_disk_of_the_server_refuses_callbacks_says_so_and_loses_none(disk: pathlib.Path) -> None:
    server = PostgresServer(disk)
    server.start()
    blank = BlankDatabase(server)
    desk = Desk(blank)
    answered: list[str] = []

    def tell(name: str, *, count: int) -> None:
        ids = [f"{name}-{number}" for number in range(count)]
        desk.ledger.callbacks.record([Callback(ACCOUNT, each, Status.SUCCEEDED, FAMILY) for each in ids])
        answered.extend(ids)

    def beat() -> None:
        desk.ledger.daemons.beat("door", version="1", started_at=0)

    tell("before", count=100)
    beat()
    filler = fill(disk)
    with pytest.raises(LedgerUnavailable) as caught:
        tell("meanwhile", count=MANY)
    assert ADVICE in caught.value.what_to_do
    beat()
    with pytest.raises(LedgerUnavailable, match="No space left"):
        desk.ledger.daemons.ping()
    view, problems = look(desk.ledger, Expected({ACCOUNT: [FAMILY]}, sweep_interval_ms=1))
    assert view is not None
    assert (problems[0].code, ADVICE in problems[0].what_to_do) == ("door_closed", True)

    filler.unlink()
    desk.ledger.daemons.ping()
    tell("after", count=MANY)
    assert {row["task_id"] for row in desk.rows("SELECT task_id FROM tasks")} == set(answered)
    desk.close()
    blank.close()
    server.kill()
