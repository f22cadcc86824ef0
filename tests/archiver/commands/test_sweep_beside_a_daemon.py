"""`sweep` while a process asks for the account: it leaves the questions to that one, and shows what comes of them."""

import contextlib
import json
import pathlib
import threading
from collections.abc import Callable, Iterator

import pytest

from archiver.composition.clients import build_account
from archiver.config.settings import Need, Settings
from archiver.engine.stages import Clock, build_sweeper
from archiver.engine.sweep_loop import SweepLoop
from archiver.families import swept
from archiver.ledger import DRY_RUN, Ledger
from archiver.ledger.duties import asking
from archiver.metrics import Metrics
from tests.harness.command_line import ACCOUNT, FAMILY, OTHER_FAMILY, CommandLine
from tests.harness.pipeline import Unwaiting
from tests.simulator import KlingSimulator, faults


@pytest.fixture
def simulator() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator
        assert simulator.complaints == []


@pytest.fixture
def line(tmp_path: pathlib.Path, simulator: KlingSimulator) -> CommandLine:
    """An account with two finished tasks and one that failed."""
    for _ in range(2):
        simulator.create_task(images=2, status="succeed")
    simulator.create_task(family=OTHER_FAMILY, status="failed")
    return CommandLine(tmp_path / "ledger.db", now=simulator.now_ms(), simulator=simulator).with_ledger()


class Daemon:
    """The sweeps of a process that lives, on a ledger of its own, and how many lists it has read."""

    def __init__(
        self, line: CommandLine, ledger: Ledger, *, families: str = f"{FAMILY},{OTHER_FAMILY}"
    ) -> None:
        self.ledger = ledger
        settings = Settings.load(line.settings | {"KLING_FAMILIES": families}, need=(Need.KLING,))
        metrics = Metrics()
        account = build_account(settings, metrics, stop=threading.Event(), now=ledger.now)
        self.client = account.client
        self.loop = SweepLoop(
            sweeper=build_sweeper(account, ledger=ledger, metrics=metrics, clock=Clock(now_ms=ledger.now)),
            families=swept(account.families, has_api_key=False),
            ledger=ledger,
            interval_seconds=1e9,
            stop=Unwaiting(),
            on_swept=lambda _family: None,
        )

    def live(self) -> None:
        self.ledger.duties.take_part("daemon", accounts=[ACCOUNT])

    def die(self) -> None:
        self.ledger.duties.leave("daemon", held=[])


@pytest.fixture
def daemon_of(line: CommandLine) -> Iterator[Callable[..., Daemon]]:
    with contextlib.ExitStack() as opened:

        def make(**options: str) -> Daemon:
            daemon = Daemon(line, opened.enter_context(line.ledger(daemon=False)), **options)
            opened.callback(daemon.client.close)
            return daemon

        yield make


def report(line: CommandLine, *more: str, exit_code: int = 0, **settings: str) -> list[dict[str, object]]:
    result = line.run("sweep", "--json", *more, **settings)
    assert result.exit_code == exit_code
    families: list[dict[str, object]] = json.loads(result.stdout)["families"]
    return families


def test_a_sweep_beside_a_daemon_asks_nothing_itself_and_shows_what_the_daemon_finds(
    line: CommandLine, simulator: KlingSimulator, daemon_of: Callable[..., Daemon]
) -> None:
    daemon = daemon_of()
    daemon.loop.step()
    daemon.live()
    simulator.create_task(images=2, status="succeed")
    before, seen = simulator.requests["list"], []

    def work() -> None:
        seen.append(simulator.requests["list"])
        daemon.loop.step()
        seen.append(simulator.requests["list"])

    line.on_pause = work
    found = report(line, "--full")

    assert [(family["family"], family["full"], family["found"]) for family in found] == [
        (FAMILY, True, 1),
        (OTHER_FAMILY, True, 0),
    ]
    # Between two turns of the daemon no list was read.
    assert [before, *seen[1:-1:2]] == seen[::2]
    assert simulator.requests["list"] == seen[-1]
    assert daemon.ledger.sweep_requests.open(account=ACCOUNT) == []


def test_a_sweep_beside_a_daemon_says_why_the_daemons_sweep_has_failed(
    line: CommandLine, simulator: KlingSimulator, daemon_of: Callable[..., Daemon]
) -> None:
    daemon = daemon_of()
    daemon.loop.step()
    daemon.live()
    line.on_pause = daemon.loop.step
    simulator.faults.arm("list", faults.ErrorCode(403, 1103), match=FAMILY)

    first, second = report(line, exit_code=1)

    error = first["error"]
    assert isinstance(error, dict)
    assert error["reason"] == "api_forbidden"
    assert second["error"] is None


def test_a_sweep_held_for_the_whole_account_is_tried_at_once_and_only_once(
    line: CommandLine, simulator: KlingSimulator, daemon_of: Callable[..., Daemon]
) -> None:
    daemon = daemon_of()
    daemon.live()
    simulator.faults.arm("list", faults.ErrorCode(401, 1002))
    daemon.loop.step()
    before = simulator.requests["list"]
    line.on_pause = daemon.loop.step

    (only,) = report(line, exit_code=1)

    error = only["error"]
    assert isinstance(error, dict)
    assert error["reason"] == "api_credentials_refused"
    assert simulator.requests["list"] - before <= 2


def test_a_family_that_the_daemon_does_not_sweep_is_reported(
    line: CommandLine, daemon_of: Callable[..., Daemon]
) -> None:
    daemon = daemon_of(families=FAMILY)
    daemon.live()
    line.on_pause = daemon.loop.step

    first, second = report(line, exit_code=1)

    error = second["error"]
    assert (first["error"], first["found"]) == (None, 2)
    assert isinstance(error, dict)
    assert error["reason"] == "family_unswept"


def test_a_sweep_whose_daemon_ends_is_done_by_the_command(
    line: CommandLine, simulator: KlingSimulator, daemon_of: Callable[..., Daemon]
) -> None:
    daemon = daemon_of()
    held = daemon.ledger.duties.take_part("daemon", accounts=[ACCOUNT]).held
    line.on_pause = lambda: daemon.ledger.duties.leave("daemon", held=held)

    assert [family["found"] for family in report(line)] == [2, 1]
    assert simulator.requests["list"]
    assert daemon.ledger.sweep_requests.open(account=ACCOUNT) == []


def test_a_daemon_that_starts_during_a_sweep_gets_the_account_and_does_the_rest(
    line: CommandLine, simulator: KlingSimulator, daemon_of: Callable[..., Daemon]
) -> None:
    daemon = daemon_of()
    simulator.fault("list", faults.Call(daemon.live), times=1)

    def work() -> None:
        daemon.live()
        daemon.loop.step()

    line.on_pause = work

    found = report(line)

    # The daemon's own sweep has found the task of the second family before it was asked to.
    assert [(family["found"], family["error"]) for family in found] == [(2, None), (0, None)]
    assert sum(daemon.ledger.views.status().states.values()) == 3
    (view,) = (view for view in daemon.ledger.duties.all() if view.duty == asking(ACCOUNT))
    assert view.holder == "daemon"


# --- dry runs -------------------------------------------------------------------------------------------------------


def forecast(line: CommandLine, *more: str, exit_code: int = 0) -> list[tuple[str, int, int]]:
    """Of each family: how many tasks and files it would bring."""
    families = report(line, "--dry-run", *more, exit_code=exit_code)
    return [(str(row["family"]), int(str(row["to_archive"])), int(str(row["files"]))) for row in families]


OF_ALL = [(FAMILY, 2, 4), (OTHER_FAMILY, 0, 0)]


def test_a_dry_run_beside_a_daemon_asks_nothing_itself_and_shows_what_the_daemon_counts(
    line: CommandLine, simulator: KlingSimulator, daemon_of: Callable[..., Daemon]
) -> None:
    daemon = daemon_of()
    daemon.loop.step()
    daemon.live()
    states, seen = daemon.ledger.views.status().states, [simulator.requests["list"]]

    def work() -> None:
        seen.append(simulator.requests["list"])
        daemon.loop.step()
        seen.append(simulator.requests["list"])

    line.on_pause = work

    assert forecast(line, "--full") == OF_ALL
    assert seen[0] == seen[1] < seen[2]
    assert simulator.requests["list"] == seen[-1]
    assert daemon.ledger.views.status().states == states
    assert daemon.ledger.sweep_requests.open(account=ACCOUNT) == []


def test_a_dry_run_beside_a_daemon_says_what_the_daemon_could_not_read(
    line: CommandLine, simulator: KlingSimulator, daemon_of: Callable[..., Daemon]
) -> None:
    daemon = daemon_of(families=OTHER_FAMILY)
    daemon.live()
    line.on_pause = daemon.loop.step

    (first, second) = report(line, "--dry-run", exit_code=1)

    error = first["error"]
    assert isinstance(error, dict)
    assert (error["reason"], second["error"]) == ("family_unswept", None)

    simulator.faults.arm("list", faults.ErrorCode(401, 1002))
    (only,) = report(line, "--dry-run", KLING_FAMILIES=OTHER_FAMILY, exit_code=1)
    error = only["error"]
    assert isinstance(error, dict)
    assert error["reason"] == "api_credentials_refused"


def test_a_dry_run_whose_daemon_ends_is_done_by_the_command(
    line: CommandLine, simulator: KlingSimulator, daemon_of: Callable[..., Daemon]
) -> None:
    daemon = daemon_of()
    held = daemon.ledger.duties.take_part("daemon", accounts=[ACCOUNT]).held
    line.on_pause = lambda: daemon.ledger.duties.leave("daemon", held=held)

    assert forecast(line) == OF_ALL
    assert simulator.requests["list"]


def test_a_daemon_that_starts_during_a_dry_run_does_it_anew(
    line: CommandLine, simulator: KlingSimulator, daemon_of: Callable[..., Daemon]
) -> None:
    daemon = daemon_of()
    simulator.fault("list", faults.Call(daemon.live), times=1)

    def work() -> None:
        daemon.live()
        daemon.loop.step()

    line.on_pause = work

    assert forecast(line) == [(FAMILY, 2, 4), (OTHER_FAMILY, 0, 0)]
    (view,) = (view for view in daemon.ledger.duties.all() if view.duty == asking(ACCOUNT))
    assert view.holder == "daemon"


def test_a_withdrawn_dry_run_ends_with_the_page_that_is_being_read(
    simulator: KlingSimulator, daemon_of: Callable[..., Daemon]
) -> None:
    for _ in range(3):
        simulator.create_task(status="succeed")
    simulator.switches.list_page_rows_max = 1
    daemon = daemon_of()
    daemon.loop.step()
    requests = daemon.ledger.sweep_requests
    request = requests.request(
        account=ACCOUNT, family=DRY_RUN, is_full=True, dry_run_of=(FAMILY, OTHER_FAMILY)
    )
    simulator.fault("list", faults.Call(lambda: requests.withdraw(request)), times=1)
    before = simulator.requests["list"]

    daemon.loop.step()

    assert simulator.requests["list"] == before + 1
