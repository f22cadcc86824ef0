"""What the tests of looks share: real API clients, and a daemon whose look a test exchanges."""

import dataclasses
import pathlib
from collections.abc import Callable

from archiver.engine.looks.look import ApiLook, Look
from archiver.engine.looks.loop import LookLoop
from archiver.engine.looks.outage import Outages
from archiver.failures import Failure, Outside
from archiver.kling.client import KlingClient
from archiver.kling.credentials import ApiKey, KeyPair
from archiver.kling.limiter import RateLimiter
from archiver.ledger import Ledger
from archiver.metrics import Metrics
from archiver.model import Stage
from tests.harness.engine import ACCOUNT, FAMILY, EngineClock
from tests.harness.pipeline import Unwaiting
from tests.simulator import KlingSimulator

CLOSED = "http://127.0.0.1:1"
UNKNOWN = "http://no-such-host.invalid"
SECRET = "s" * 32
MINUTE = 60
HOUR = 60 * MINUTE
CLIENTS = list[KlingClient]()
"""Made in this test."""


def client_of(url: str, *, secret_key: str = SECRET, access_key: str = "key") -> KlingClient:
    limiter = RateLimiter(1000, wait=lambda _seconds: False)
    CLIENTS.append(KlingClient(url, KeyPair(access_key, secret_key), limiter, read_seconds=1.0))
    return CLIENTS[-1]


def client_with_key(sim: KlingSimulator) -> KlingClient:
    limiter = RateLimiter(1000, wait=lambda _seconds: False)
    CLIENTS.append(KlingClient(sim.base_url, ApiKey(sim.api_key), limiter, read_seconds=1.0))
    return CLIENTS[-1]


def api_look(url: str, **keys: str) -> ApiLook:
    return ApiLook(client_of(url, **keys), (FAMILY,))


def right_look(sim: KlingSimulator) -> ApiLook:
    return api_look(sim.base_url, access_key=sim.access_key, secret_key=sim.secret_key)


@dataclasses.dataclass
class Changing:
    """A look at something that a test exchanges."""

    current: Look
    looks: int = 0

    @property
    def outside(self) -> Outside:
        return self.current.outside

    def look(self) -> None:
        self.looks += 1
        self.current.look()


class Daemon:
    """The look loop of one account, on a ledger without tasks."""

    def __init__(self, folder: pathlib.Path, look: Look) -> None:
        self.clock = EngineClock()
        self.ledger = Ledger.open(f"sqlite:///{folder}/ledger.db", daemon=True, now=self.clock.now)
        self.outages = Outages(monotonic=self.clock.monotonic)
        self.look = Changing(look)
        self.woken: list[Stage] = []
        self._loop = LookLoop(
            self.look,
            self.outages.of(look.outside),
            account=ACCOUNT,
            ledger=self.ledger,
            metrics=Metrics(),
            wake=Unwaiting(),
            wake_stage=self.woken.append,
            monotonic=self.clock.monotonic,
        )

    def begin(self) -> None:
        """The first step of a daemon that has just started."""
        self._loop.step()

    def pass_time(self, seconds: int, *, until: Callable[[], bool] = lambda: False) -> int:
        """Let the loop run, a second a step; how many have passed."""
        for passed in range(seconds):
            if until():
                return passed
            self.clock.advance(seconds=1)
            self._loop.step()
        return seconds

    def fail(self, error: Failure) -> None:
        """A task has failed so."""
        self.outages.of(self.look.outside).failed(error, task_id="a task")

    def reasons(self) -> set[str]:
        return {hold.reason for hold in self.ledger.holds.all()}

    def held(self) -> set[str]:
        return {hold.stage for hold in self.ledger.holds.all()}
