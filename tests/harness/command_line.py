"""Run `kling-archiver` in this process with the test's clock, or as a real process; and fill a ledger for it."""

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from typer.testing import CliRunner, Result

from archiver.__main__ import app
from archiver.commands.terminal.invocation import Invocation
from archiver.failures import Bury, Failure
from archiver.ledger import Ledger
from archiver.model import Asset, DiscoveredBy, Lease, Role, Status, StoredAsset, Task
from tests.harness.blank_ledger import lay_blank_ledger
from tests.harness.ledgers import claim_archive
from tests.project.secret_watch import WATCH
from tests.simulator import KlingSimulator

ACCOUNT = "default"
FAMILY = "images/generations"
OTHER_FAMILY = "images/editing/expand"
NOW = time.time_ns() // 1_000_000
PROCESS_SECONDS_MAX = 120


class _Process(subprocess.Popen[str]):
    """A command whose output the secret watch reads."""

    def communicate(self, input: str | None = None, timeout: float | None = None) -> tuple[str, str]:  # noqa: A002 -- the library's name
        output, errors = super().communicate(input, timeout)
        WATCH.said("output of a command", f"{output}\n{errors}")
        return output, errors


@dataclasses.dataclass
class CommandLine:
    """Runs commands on one ledger. `now` is what the clock of ledger and commands says, in Unix ms."""

    path: pathlib.Path
    now: int = NOW
    simulator: KlingSimulator | None = None
    screen: Mapping[str, str | None] = dataclasses.field(default_factory=lambda: {"NO_COLOR": "1"})
    """What the environment of commands in this process says of colours; None removes a variable."""
    pauses: list[float] = dataclasses.field(default_factory=list)
    """The sleeps of commands in this process, in seconds; none really happens."""
    on_pause: Callable[[], object] = lambda: None
    """Called at each sleep of a command: what happens meanwhile."""

    @property
    def settings(self) -> dict[str, str]:
        found = {"KLING_LEDGER_URL": f"sqlite:///{self.path}", "KLING_FAMILIES": f"{FAMILY},{OTHER_FAMILY}"}
        if self.simulator is None:
            return found
        return found | {
            "KLING_ACCESS_KEY": self.simulator.access_key,
            "KLING_SECRET_KEY": self.simulator.secret_key,
            "KLING_BASE_URL": self.simulator.base_url,
            "KLING_QUERY_RATE_PER_SECOND": "1000",
        }

    def run(self, *arguments: str, stdin: str | None = None, **settings: str) -> Result:
        """One command in this process; settings in capitals add to the usual ones."""
        WATCH.environment(self.settings | settings)
        invocation = Invocation(self.settings | settings, now=lambda: self.now, wait=self._wait)
        result = CliRunner().invoke(
            app, arguments, obj=invocation, prog_name="kling-archiver", env=self.screen, input=stdin
        )
        WATCH.said("output of a command", result.output)
        return result

    def _wait(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += round(seconds * 1000)
        self.on_pause()

    def start(
        self,
        *arguments: str,
        settings: Mapping[str, str] | None = None,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """One command as a process, where warnings are errors."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KLING_")}
        environment = {**inherited, **self.settings, **(settings or {})}
        WATCH.environment(environment)
        return _Process(
            [sys.executable, "-W", "error", "-m", "archiver", *arguments],
            env=environment,
            stdout=stdout,
            stderr=stderr,
            text=True,
        )

    def finish(self, *arguments: str, **settings: str) -> tuple[int, str, str]:
        """One command as a process: exit status, standard output, standard error."""
        with self.start(*arguments, settings=settings) as process:
            output, errors = process.communicate(timeout=PROCESS_SECONDS_MAX)
        return process.returncode, output, errors

    def with_ledger(self) -> "CommandLine":
        """Itself, with an empty ledger that no daemon has opened yet."""
        with self.ledger(daemon=False):
            return self

    @contextlib.contextmanager
    def ledger(self, *, daemon: bool = True) -> Iterator[Ledger]:
        """The ledger, as a daemon has it."""
        lay_blank_ledger(self.path)
        with contextlib.closing(
            Ledger.open(f"sqlite:///{self.path}", daemon=daemon, create=True, now=lambda: self.now)
        ) as ledger:
            yield ledger


def api_task(
    task_id: str,
    status: Status = Status.SUCCEEDED,
    *,
    created_at: int = NOW,
    external_task_id: str | None = None,
    message: str = "",
    has_results: bool = True,
) -> Task:
    """An answer of the API; a succeeded task has one image. Without results it is buried at once."""
    image = Asset("0", f"https://p1.klingai.com/{task_id}.png?sign=x", Role.IMAGE, 0, watermarked=False)
    return Task(
        task_id=task_id,
        family=FAMILY,
        status=status,
        message=message,
        created_at=created_at,
        updated_at=created_at + 24_000,
        external_task_id=external_task_id,
        assets=(image,) if status is Status.SUCCEEDED and has_results else (),
        document={"task_id": task_id},
    )


def record(ledger: Ledger, *tasks: Task) -> None:
    """Record these answers of the API."""
    ledger.records.record(tasks, account=ACCOUNT, discovered_by=DiscoveredBy.SWEEP, rand=0.5)


def archive(ledger: Ledger, task_id: str) -> None:
    """Make a recorded task archived."""
    lease = lease_of(ledger, task_id)
    folder = f"kling/{FAMILY}/2026/11/20/{task_id}"
    stored = [
        StoredAsset(
            stem="0",
            name="0.png",
            key=f"{folder}/0.png",
            role=Role.IMAGE,
            index=0,
            watermarked=False,
            bytes=1_512_345,
            sha256="ab" * 32,
            content_type="image/png",
            width=704,
            height=704,
            source_url=lease.assets[0].asset.url,
        )
    ]
    ledger.outcomes.archived(lease, manifest_key=f"{folder}/manifest.json", archived_at=NOW, stored=stored)


def bury(ledger: Ledger, task_id: str, error: Failure, *, account: str = ACCOUNT) -> None:
    """Bury a recorded task."""
    lease = lease_of(ledger, task_id, account=account)
    ledger.outcomes.bury(lease, error, Bury(due_at=NOW + 3_600_000), failed={"0": error})


def lease_of(ledger: Ledger, task_id: str, *, account: str = ACCOUNT) -> Lease:
    """Claim this task for archiving, and give the others back."""
    leases = claim_archive(ledger, count=50, account=account)
    for lease in leases:
        if lease.task_id != task_id:
            ledger.outcomes.give_back(lease)
    return next(lease for lease in leases if lease.task_id == task_id)


def swept(ledger: Ledger, *, at: int = NOW, families: Sequence[str] = (FAMILY, OTHER_FAMILY)) -> None:
    """Record successful sweeps of these families at this time (Unix ms)."""
    for family in families:
        token = ledger.sweeps.begin(account=ACCOUNT, family=family)
        if token is None:
            raise AssertionError(f"another sweep has {family}")
        ledger.sweeps.end(token, succeeded_at=at, full=True, oldest_first=False, last_page=None)
