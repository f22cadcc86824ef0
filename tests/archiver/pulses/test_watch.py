"""Threads that hang, on a clock of the test's; the threads that hang here are real ones."""

import ast
import concurrent.futures
import contextlib
import functools
import pathlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from structlog.typing import EventDict

from archiver.archive.folder_work import IDLE_SECONDS
from archiver.engine.pools import WatchedPool, WorkPool
from archiver.engine.process_holds import ROUND_SECONDS
from archiver.engine.upkeep import UPKEEP_SECONDS
from archiver.fetch.fetcher import SECONDS_MAX as FETCH_SECONDS_MAX
from archiver.kling.limiter import Priority, RateLimiter
from archiver.leases import RENEW_SECONDS
from archiver.ledger.databases.limits import CONNECT_SECONDS
from archiver.ledger.databases.postgres import FIRST_ANSWER_SECONDS, READ_SECONDS_MAX
from archiver.ledger.databases.protocol import WRITE_SECONDS_MAX
from archiver.metrics import failure_reasons
from archiver.model import PROBLEM_CODES, Stage
from archiver.pulses.pulse import beat
from archiver.pulses.watch import LIMITS
from archiver.store.s3 import PUT_SECONDS_MAX
from tests.harness.repository import ROOT
from tests.harness.watched import ACCOUNT, Watched

PATIENCE_SECONDS = 60


class Hanging:
    """A real thread that hangs in `hang_here` from its first step on."""

    def __init__(self) -> None:
        self.began, self.goes_on = threading.Event(), threading.Event()

    def hang_here(self) -> None:
        self.began.set()
        self.goes_on.wait(PATIENCE_SECONDS)


@pytest.fixture
def watched() -> Watched:
    return Watched()


@contextlib.contextmanager
def hanging(watched: Watched, name: str) -> Iterator[Hanging]:
    """A loop of this name whose step hangs."""
    hang = Hanging()
    thread = threading.Thread(target=watched.guard.loop, args=(name, hang.hang_here), daemon=True)
    thread.start()
    assert hang.began.wait(PATIENCE_SECONDS)
    try:
        yield hang
    finally:
        watched.stop.set()
        hang.goes_on.set()
        thread.join(PATIENCE_SECONDS)


@pytest.mark.parametrize("name", LIMITS)
def test_a_thread_that_hangs_beyond_its_limit_is_reported_and_archiving_needs_a_restart(
    watched: Watched, name: str
) -> None:
    limit = LIMITS[name]
    with hanging(watched, name):
        watched.pass_seconds(limit.seconds)
        assert watched.stalled() == []
        watched.pass_seconds(2)
        code = "settings" if limit.stage is None else "hold"
        assert watched.stalled() == [(code, limit.stage, "loop_stalled")]
        assert watched.pulses.vital_stalled() == ([name] if limit.is_vital else [])


def test_the_log_says_once_where_a_loop_hangs_and_that_it_goes_on(
    watched: Watched, lines: list[EventDict]
) -> None:
    with hanging(watched, "verify-loop"):
        watched.pass_seconds(3 * LIMITS["verify-loop"].seconds)
    watched.pass_seconds(1)

    began, ended = lines
    assert (began["event"], began["log_level"]) == ("loop.stalled", "error")
    assert {key: began[key] for key in ("loop", "account", "stage")} == {
        "loop": "verify-loop",
        "account": ACCOUNT,
        "stage": Stage.VERIFY,
    }
    assert any(frame.endswith(" hang_here") for frame in began["frames"])
    assert (ended["event"], ended["loop"]) == ("loop.resumed", "verify-loop")
    assert watched.stalled() == []


def test_time_in_which_the_process_stood_still_does_not_count_against_its_threads(watched: Watched) -> None:
    """SIGSTOP, a machine without a free processor, a suspended one: the watch did not look meanwhile."""
    with hanging(watched, "archive-loop"):
        watched.pass_seconds(10)
        watched.now += 10 * LIMITS["archive-loop"].seconds
        watched.pass_seconds(10)
        assert watched.stalled() == []


def test_an_idle_loop_and_an_idle_pool_are_never_late(watched: Watched) -> None:
    pool = WorkPool(
        concurrent.futures.ThreadPoolExecutor(1),
        1,
        on_free=lambda: None,
        watched=functools.partial(watched.guard.watched, "verify-work"),
    )
    pool.run(lambda _: None, None)
    assert pool.close(seconds=PATIENCE_SECONDS)
    watched.guard.loop("verify-loop", watched.stop.set)
    watched.pass_seconds(2 * LIMITS["verify-loop"].seconds)

    assert watched.stalled() == []


def in_a_work_pool(watched: Watched, name: str, work: Callable[[], None]) -> None:
    executor = concurrent.futures.ThreadPoolExecutor(1)
    pool = WorkPool(executor, 1, on_free=lambda: None, watched=functools.partial(watched.guard.watched, name))
    pool.run(lambda _: work(), None)
    executor.shutdown(wait=False)


def in_the_transfer_pool(watched: Watched, name: str, work: Callable[[], None]) -> None:
    around = functools.partial(watched.pulses.watched, name, account=ACCOUNT)
    executor = WatchedPool(1, name=name, begin=lambda: None, watched=around)
    executor.submit(work)
    executor.shutdown(wait=False)


@pytest.mark.parametrize(
    ("name", "start"), [("verify-work", in_a_work_pool), ("transfer", in_the_transfer_pool)]
)
def test_one_piece_of_work_that_hangs_is_noticed_while_its_loop_comes_round(
    watched: Watched, name: str, start: Callable[[Watched, str, Callable[[], None]], None]
) -> None:
    hang = Hanging()
    start(watched, name, hang.hang_here)
    assert hang.began.wait(PATIENCE_SECONDS)
    watched.pass_seconds(LIMITS[name].seconds + 2)
    found = watched.pulses.vital_stalled()
    hang.goes_on.set()

    assert found == [name]


def test_work_that_makes_progress_does_not_hang(watched: Watched) -> None:
    with watched.pulses.watched("verify-work", account=ACCOUNT):
        for _ in range(4):
            watched.pass_seconds(LIMITS["verify-work"].seconds - 1)
            beat()
    assert watched.stalled() == []
    beat()


def test_a_thread_that_waits_at_the_rate_limiter_does_not_hang(watched: Watched) -> None:
    """At a rate of one request in two hours."""

    def wait(seconds: float) -> bool:
        watched.pass_seconds(seconds)
        return False

    limiter = RateLimiter(1 / 7200, wait=wait, monotonic=lambda: watched.now)
    limiter.acquire(Priority.VERIFY)
    with watched.pulses.watched("verify-work", account=ACCOUNT):
        limiter.acquire(Priority.VERIFY)
        assert watched.stalled() == []


def test_problems_have_codes_and_reasons_that_the_contract_has(watched: Watched) -> None:
    with contextlib.ExitStack() as opened:
        for name in LIMITS:
            opened.enter_context(watched.pulses.watched(name))
        watched.pass_seconds(max(limit.seconds for limit in LIMITS.values()) + 1)
        found: list[Any] = list(watched.pulses.problems())

    assert {problem.code for problem in found} <= set(PROBLEM_CODES)
    assert {problem.reason for problem in found} <= failure_reasons()
    assert len({problem.key for problem in found}) == len(LIMITS)


def loop_names() -> Iterator[str]:
    """Of every class that is a loop."""
    for path in pathlib.Path(ROOT / "archiver").rglob("*.py"):
        source = path.read_text()
        for node in ast.walk(ast.parse(source)) if "def step(self" in source else ():
            if isinstance(node, ast.ClassDef) and any(
                isinstance(part, ast.FunctionDef) and part.name == "step" for part in node.body
            ):
                for part in node.body:
                    if isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "name":
                        yield ast.literal_eval(part.value)


def pool_names() -> set[str]:
    """Of the work in pools."""
    sources = [*(ROOT / "archiver/engine").rglob("*.py"), *(ROOT / "archiver/composition").rglob("*.py")]
    return {name for path in sources for name in re.findall(r'\.watched, "([a-z-]+)"', path.read_text())}


def test_every_loop_and_pool_of_the_engine_has_a_limit_and_every_limit_one_of_them() -> None:
    of_looks = {"api-look-loop", "store-look-loop"}

    assert {*loop_names(), *pool_names(), *of_looks, "lease-renewal"} == LIMITS.keys()


LEDGER_SECONDS = max(READ_SECONDS_MAX, WRITE_SECONDS_MAX) + FIRST_ANSWER_SECONDS + 2 * CONNECT_SECONDS
"""Of one transaction, on a connection that had broken."""
GAPS = {
    "transfer": max(FETCH_SECONDS_MAX, PUT_SECONDS_MAX),
    "folder-work-loop": max(FETCH_SECONDS_MAX, PUT_SECONDS_MAX),
}


@pytest.mark.parametrize("name", [name for name, limit in LIMITS.items() if limit.is_vital])
def test_no_thread_that_archiving_needs_may_take_half_its_limit_between_two_beats(name: str) -> None:
    pause = max(UPKEEP_SECONDS, RENEW_SECONDS, IDLE_SECONDS, ROUND_SECONDS)

    assert 2 * max(GAPS.get(name, 0), LEDGER_SECONDS + pause) <= LIMITS[name].seconds
