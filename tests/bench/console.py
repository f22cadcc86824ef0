"""The console of a whole daemon at a million tasks: how long its pages take, and what an open console costs callbacks.

An operator looks at the overview again every five seconds, as three browsers do that have it open, and as often
searches for a text that no task has, page after page. Rounds with and without the operator alternate; the ratio is that
of the medians of p99.

Then 300,000 forged ids come, which PostgreSQL has not counted yet, and the pages are timed again.
"""

import contextlib
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx2

from archiver.ledger import Ledger
from archiver.model import State
from tests.bench import door, large_ledger
from tests.bench.processes import daemon_environment, free_port, python
from tests.postgres import DURABLE, running_postgres

ROUNDS = 5
TIMES = 15
PAGE_MS_MAX = 100
PAUSE_SECONDS = 5.0
TOKEN = "bench-admin-token-0123456789abcdef"
TEXT = "zebra"
"""In no prompt."""
PATH = "/callbacks/bench-callback-token/images/generations"

PAGES = [
    "",
    "/accounts",
    "/forwards?state=delivered",
    "/tasks",
    "/tasks?view=gallery",
    *(f"/tasks?state={state}" for state in State),
    "/tasks?family=images/generations",
    "/tasks?family=videos/lip-sync",
    f"/tasks?account={large_ledger.ACCOUNT}",
    f"/tasks?account={large_ledger.SMALL_ACCOUNT}",
    f"/tasks?account={large_ledger.SMALL_ACCOUNT}&family=videos/text2video&until=200d",
    "/tasks?text=800000000012346",
    f"/tasks/{large_ledger.ACCOUNT}/800000000012346",
]


def measure(folder: Path, *, seconds: float, tasks: int = large_ledger.TASKS) -> list[str]:
    """Lines of figures."""
    lines = _measure(
        "SQLite", f"sqlite:///{folder}/ledger.db", folder / "sqlite", seconds=seconds, tasks=tasks
    )
    with running_postgres(settings=DURABLE) as server:
        url = server.url(server.create_database())
        return lines + _measure("PostgreSQL", url, folder / "postgresql", seconds=seconds, tasks=tasks)


def _measure(name: str, url: str, folder: Path, *, seconds: float, tasks: int) -> list[str]:
    folder.mkdir()
    with contextlib.closing(Ledger.open(url, daemon=True)) as ledger:
        large_ledger.fill(ledger, tasks=tasks)
        large_ledger.analyze(ledger)
    with _daemon(url, folder) as (port, operator):
        lines = [
            _pages(name, f"{tasks:,} tasks", operator),
            _callbacks(name, port, operator, seconds=seconds),
        ]
    with contextlib.closing(Ledger.open(url, daemon=True)) as ledger:
        large_ledger.flood(ledger)
    with _daemon(url, folder) as (_, operator):
        return [*lines, _pages(name, f"and {large_ledger.FLOOD:,} forged ids", operator)]


@contextlib.contextmanager
def _daemon(url: str, folder: Path) -> Iterator[tuple[int, "Operator"]]:
    port = free_port()
    environ = daemon_environment(
        folder,
        port=port,
        KLING_LEDGER_URL=url,
        KLING_SPOOL_DIR=str(folder / "spool"),
        KLING_ADMIN_TOKEN=TOKEN,
    )
    with (
        python(["-m", "receiver"], port=port, log=folder / "daemon.log", environ=environ),
        contextlib.closing(Operator(port)) as operator,
    ):
        yield port, operator


class Operator:
    """Somebody with the console open."""

    def __init__(self, port: int) -> None:
        self._client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        form = re.search(r'name="csrf" value="([^"]+)"', self._client.get("/console/login").text)
        assert form is not None
        self._client.post("/console/login", data={"csrf": form[1], "token": TOKEN})
        self.look("")

    def look(self, page: str) -> str:
        """The page."""
        answer = self._client.get(f"/console{page}")
        if answer.status_code != 200:
            raise RuntimeError(f"{page} was answered {answer.status_code}")
        return answer.text

    def search(self) -> None:
        """All pages of a search, as far back as it goes."""
        following: str | None = f"?text={TEXT}"
        while following is not None:
            found = re.search(r'href="[^"?]*(\?[^"]+)" rel="next"', self.look(f"/tasks{following}"))
            following = found and found[1].replace("&amp;", "&")

    def close(self) -> None:
        self._client.close()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Until the block ends."""
        ended = threading.Event()
        threads = [
            threading.Thread(target=_again, args=(do, ended)) for do in (lambda: self.look(""), self.search)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()


def _again(do: Callable[[], object], ended: threading.Event) -> None:
    do()
    while not ended.wait(PAUSE_SECONDS):
        do()


def _pages(name: str, of_what: str, operator: Operator) -> str:
    medians = {page: _median_ms(operator, page) for page in PAGES}
    slowest = max(medians, key=lambda page: medians[page])
    overview = f"overview {medians['']:.0f} ms, slowest of {len(PAGES)} {medians[slowest]:.0f} ms"
    return f"console, {of_what}, {name}  {overview} (/console{slowest})  (≤ {PAGE_MS_MAX})"


def _median_ms(operator: Operator, page: str) -> float:
    took: list[float] = []
    for _ in range(TIMES):
        began = time.perf_counter()
        operator.look(page)
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def _callbacks(name: str, port: int, operator: Operator, *, seconds: float) -> str:
    alone, beside = list[float](), list[float]()
    for number in range(ROUNDS):
        alone.append(_p99_ms(port, seconds=2 * seconds, first_id=2 * number * 10**9))
        with operator.working():
            beside.append(_p99_ms(port, seconds=2 * seconds, first_id=(2 * number + 1) * 10**9))
    return _line(name, beside, alone)


def _p99_ms(port: int, *, seconds: float, first_id: int) -> float:
    figures = door.load(
        port, PATH, seconds=seconds, rate=door.STEADY_PER_SECOND, first_id=first_id, connections=32
    )
    return float(figures["p99_ms"])


def _line(name: str, beside: Sequence[float], alone: Sequence[float]) -> str:
    ours, baseline = statistics.median(beside), statistics.median(alone)
    what = f"callbacks, steady {door.STEADY_PER_SECOND}/s, p99 beside an open console, {name}"
    return f"{what}  {ours:.1f} ms  without {baseline:.1f} ms  ratio {ours / baseline:.2f}  (≤ {door.P99_MS_MAX} ms)"
