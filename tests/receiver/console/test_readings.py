"""Pages and callbacks: a hanging ledger blocks a few threads, and nothing else."""

import asyncio
import pathlib
import threading
from collections.abc import Iterator

import pytest

from receiver.console.readings import READINGS_MAX, Readings, TooSlow
from tests.harness.console import ADMIN_TOKEN, ConsoleDesk, console_at, csrf_of
from tests.harness.edge import SECONDS_MAX, TOKEN, legacy_body
from tests.project.secret_watch import WATCH


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a hanging ledger waits for."""
    made = threading.Event()
    yield made
    made.set()


def test_a_page_that_takes_too_long_has_an_end_and_no_more_than_a_few_threads(gate: threading.Event) -> None:
    async def run() -> list[object]:
        readings = Readings(seconds_max=0.05)
        hanging = [readings.run(lambda: gate.wait(SECONDS_MAX)) for _ in range(READINGS_MAX + 2)]
        ended: list[object] = await asyncio.gather(*hanging, return_exceptions=True)
        gate.set()
        while isinstance(said := await one_more(readings), TooSlow):
            pass
        return [*map(type, ended), said]

    async def one_more(readings: Readings) -> object:
        try:
            return await readings.run(lambda: "free again")
        except TooSlow as error:
            return error

    assert asyncio.run(run()) == [TooSlow] * (READINGS_MAX + 2) + ["free again"]


def test_callbacks_are_taken_while_every_thread_of_the_console_hangs(
    tmp_path: pathlib.Path, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    with console_at(tmp_path) as console:
        enter_by_http(console)
        monkeypatch.setattr(console.desk.ledger.views, "status", lambda: gate.wait(SECONDS_MAX))
        visits = [
            threading.Thread(target=console.edge.client.get, args=("/console/accounts",)) for _ in range(6)
        ]
        for visit in visits:
            visit.start()

        answer = console.edge.client.post(f"/callbacks/{TOKEN}", content=legacy_body())

        assert answer.status_code == 200
        gate.set()
        for visit in visits:
            visit.join()


def enter_by_http(console: ConsoleDesk) -> None:
    WATCH.secret("the admin token", ADMIN_TOKEN)
    client = console.edge.client
    form = {"csrf": csrf_of(client.get("/console/login")), "token": ADMIN_TOKEN, "next": ""}
    assert client.post("/console/login", data=form).status_code == 303
