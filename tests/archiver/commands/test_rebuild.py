"""`rebuild` on a real S3 server."""

import json
import pathlib
import signal
import subprocess
import threading

import pytest

from archiver.model import State
from tests.harness.archived_tasks import ArchivedTask
from tests.harness.command_line import PROCESS_SECONDS_MAX, CommandLine
from tests.harness.ledgers import ACCOUNT, DAY, START
from tests.harness.terminal import act_at_terminal, at_terminal
from tests.s3_servers import FaultyProxy, S3Server
from tests.s3_servers.faulty import Exchange

PREFIX = "kling/"


class Bench:
    """A bucket with three archived tasks, and an empty ledger."""

    def __init__(self, server: S3Server, folder: pathlib.Path) -> None:
        self.bucket = server.create_bucket()
        self.line = CommandLine(folder / "ledger.db", now=START + DAY)
        self.settings = {"KLING_S3_PREFIX": PREFIX, **server.environment(self.bucket)}
        self.store = server.store(self.bucket)
        self.tasks = [ArchivedTask(f"88{number}", prefix=PREFIX) for number in range(3)]
        for number, task in enumerate(self.tasks):
            task.put(self.store, files=2, amended=number)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        result = self.line.run(*arguments, **self.settings)
        return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def bench(swift_server: S3Server, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(swift_server, tmp_path)
    for name, value in made.settings.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return made


def test_a_rebuilt_ledger_verifies_against_the_bucket_and_again_nothing_is_lacking(bench: Bench) -> None:
    bench.line.with_ledger()

    first, again = bench.run("rebuild"), bench.run("rebuild", "--json")

    assert (first[0], first[2]) == (0, "")
    assert first[1].startswith("3 tasks in the bucket, 3 of them added to the ledger, in ")
    told = json.loads(again[1])
    assert (told["folders"], told["added"], told["known"]) == (3, 0, 3)
    status, lines, _ = bench.run("verify")
    assert (status, {line[0] for line in lines.splitlines()}) == (0, {"="})
    with bench.line.ledger(daemon=False) as ledger:
        assert len(ledger.views.ids_in(State.ARCHIVED, account=ACCOUNT)) == 3


def test_a_broken_manifest_is_reported_with_its_key_and_is_status_1(bench: Bench) -> None:
    bench.line.with_ledger()
    broken = ArchivedTask("889", prefix=PREFIX)
    broken.put_object(bench.store, "manifest.json", b"{")

    status, printed, said = bench.run("rebuild")

    assert status == 1
    assert f"s3://{bench.bucket}/{broken.folder}manifest.json: the manifest is not JSON" in said
    assert "1 documents cannot be used." in printed


def test_it_creates_no_ledger_and_names_the_program_that_does(bench: Bench) -> None:
    status, printed, said = bench.run("rebuild")

    assert (status, printed) == (2, "")
    assert "start kling-receiver, which makes it" in said
    assert not bench.line.path.exists()


def test_at_a_terminal_it_shows_how_far_it_is(bench: Bench) -> None:
    bench.line.with_ledger()

    status, shown = at_terminal(bench.line, "rebuild", **bench.settings)

    assert status == 0
    assert "3/3" in shown


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_at_a_terminal_beside_a_store_that_hangs(
    bench: Bench, swift_proxy: FaultyProxy, number: signal.Signals, status: int
) -> None:
    bench.line.with_ledger()
    is_asked = [threading.Event(), threading.Event()]
    """By the run, and by the thread that counts the folders."""
    waiting = iter(is_asked)

    def hang(exchange: Exchange) -> None:
        next(waiting).set()
        exchange.wait_until_gone()

    swift_proxy.rule = lambda _: hang

    def interrupt(process: subprocess.Popen[str]) -> None:
        assert all(event.wait(PROCESS_SECONDS_MAX) for event in is_asked)
        process.send_signal(number)

    settings = {**bench.settings, "KLING_S3_ENDPOINT_URL": swift_proxy.endpoint_url}
    ended, shown = act_at_terminal(bench.line, "rebuild", act=interrupt, settings=settings)

    assert ended == status
    assert "Nothing is lost" in shown
