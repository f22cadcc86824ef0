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

from archiver.engine.pools import WatchedPool, WorkPool
from archiver.engine.threads import Guard
from archiver.kling.limiter import Priority, RateLimiter
from archiver.metrics import failure_reasons
from archiver.model import PROBLEM_CODES, Stage
from archiver.pulses.pulse import beat
from archiver.pulses.watch import LIMITS, LOOK_SECONDS_MAX, Pulses
from tests.harness.repository import ROOT

PATIENCE_SECONDS = 60
ACCOUNT = "default"


class Watched:
    """The pulses of a process that is looked at every second, as the event loop does."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pulses = Pulses(lambda: self.now)
        self.stop = threading.Event()
        self.guard = Guard(
            stop=self.stop, on_death=lambda: None, bound={"account": ACCOUNT}, pulses=self.pulses
        )

    def pass_seconds(self, seconds: float) -> None:
        until = self.now + seconds
        self.pulses.look()
        while self.now < until:
            self.now = min(until, self.now + LOOK_SECONDS_MAX)
            self.pulses.look()

    def stalled(self) -> list[tuple[str, str | None, str | None]]:
        return [(each.code, each.stage, each.reason) for each in self.pulses.problems()]


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
def test_what_hangs_for_longer_than_it_may_need_is_said_and_archiving_needs_a_new_start(
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


def test_no_time_in_which_the_process_stood_still_is_held_against_its_threads(watched: Watched) -> None:
    """SIGSTOP, a machine without a processor for it, a suspended one: nobody looked meanwhile."""
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


def test_work_that_comes_a_piece_further_does_not_hang(watched: Watched) -> None:
    with watched.pulses.watched("verify-work", account=ACCOUNT):
        for _ in range(4):
            watched.pass_seconds(LIMITS["verify-work"].seconds - 1)
            beat()
    assert watched.stalled() == []
    beat()


def test_one_that_waits_for_its_turn_at_the_rate_limiter_does_not_hang(watched: Watched) -> None:
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
