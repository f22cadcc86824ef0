"""`kling-archiver` as a process: streams, signals, terminals, and life beside a daemon that writes."""

import contextlib
import importlib.metadata
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from archiver.model import State, Status
from tests.harness.command_line import (
    ACCOUNT,
    FAMILY,
    PROCESS_SECONDS_MAX,
    CommandLine,
    api_task,
    archive,
    record,
)
from tests.harness.terminal import at_terminal, ended_in_time, wait_until_printed
from tests.simulator import KlingSimulator, faults

ESCAPE = "\x1b["


@pytest.fixture
def line(tmp_path: pathlib.Path) -> CommandLine:
    """A ledger with an archived task `1` and a failed task `2`."""
    line = CommandLine(tmp_path / "ledger.db", now=time.time_ns() // 1_000_000)
    with line.ledger() as ledger:
        record(ledger, api_task("1"), api_task("2", Status.FAILED, message="审核未通过"))
        archive(ledger, "1")
    return line


@pytest.fixture
def simulator() -> Iterator[KlingSimulator]:
    """An account with one finished task."""
    with KlingSimulator() as simulator:
        simulator.create_task(status="succeed")
        yield simulator


# --- streams ---


def test_version_is_that_of_the_package(line: CommandLine) -> None:
    version = importlib.metadata.version("kling-archiver")

    assert line.finish("--version") == (0, f"kling-archiver {version}\n", "")


@pytest.mark.parametrize("arguments", [["show", "1"], ["status", "--json"]])
def test_a_closed_pipe_is_no_traceback_and_status_141(line: CommandLine, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = line.start(*arguments, stdout=writing)
    os.close(writing)
    with ended_in_time(process):
        errors = process.communicate()[1]

    assert (process.returncode, errors) == (141, "")


@pytest.mark.parametrize("arguments", [["show", "1"], ["show", "1", "--json"]])
def test_a_full_disk_is_a_sentence_and_status_1(line: CommandLine, arguments: list[str]) -> None:
    with pathlib.Path("/dev/full").open("w") as full:
        process = line.start(*arguments, stdout=full.fileno())
        with ended_in_time(process):
            errors = process.communicate()[1]

    assert process.returncode == 1
    assert "No space left on device" in errors
    assert "Traceback" not in errors


def test_a_closed_output_does_not_stop_a_command(line: CommandLine) -> None:
    command = [sys.executable, "-m", "archiver", "register", "9", "--family", FAMILY]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command],
        env={**os.environ, **line.settings},
        timeout=PROCESS_SECONDS_MAX,
        check=False,
    )

    assert done.returncode == 0
    assert line.run("show", "9").exit_code == 0


def test_characters_that_a_narrow_locale_lacks_are_escaped(line: CommandLine) -> None:
    status, output, _ = line.finish("show", "2", PYTHONIOENCODING="ascii")

    assert status == 0
    assert "\\u5ba1\\u6838" in output


def test_nothing_is_wrapped_or_coloured_in_a_pipe(line: CommandLine) -> None:
    _, output, _ = line.finish("show", "1", COLUMNS="40")

    assert f"kling/{FAMILY}/2026/11/20/1/manifest.json" in output
    assert ESCAPE not in output


def test_colour_is_for_terminals_whose_user_has_not_refused_it(line: CommandLine) -> None:
    coloured = at_terminal(line, "status")[1]
    plain = at_terminal(line, "status", NO_COLOR="1")[1]

    assert ESCAPE in coloured
    assert ESCAPE not in plain
    assert "archived" in plain


def test_status_and_show_fit_into_80_columns(line: CommandLine) -> None:
    screen = at_terminal(line, "status", NO_COLOR="1")[1] + at_terminal(line, "show", "1", NO_COLOR="1")[1]

    assert max(len(text) for text in screen.splitlines()) <= 80


# --- a sweep as a process ---


def test_a_sweep_shows_a_bar_at_a_terminal_and_none_in_a_pipe(
    tmp_path: pathlib.Path, simulator: KlingSimulator
) -> None:
    line = CommandLine(tmp_path / "ledger.db", now=simulator.now_ms(), simulator=simulator).with_ledger()

    at_screen = at_terminal(line, "sweep")
    in_pipe = line.finish("sweep", "--full")

    assert at_screen[0] == 0
    assert "1 row, 1 found" in at_screen[1]
    assert (in_pipe[0], in_pipe[2]) == (0, "")
    assert simulator.complaints == []


def test_a_sweep_waits_for_the_one_that_is_running(tmp_path: pathlib.Path, simulator: KlingSimulator) -> None:
    line = CommandLine(tmp_path / "ledger.db", now=simulator.now_ms(), simulator=simulator).with_ledger()
    with line.ledger() as ledger:
        token = ledger.sweeps.begin(account=ACCOUNT, family=FAMILY) or ""
        process = line.start("sweep")
        with ended_in_time(process):
            wait_until_printed(process, f"{FAMILY}: another sweep is running")
            asked_meanwhile = simulator.requests["list"]
            ledger.sweeps.end(token, succeeded_at=None, full=False, oldest_first=False, last_page=None)
            output = process.communicate()[0]

    assert asked_meanwhile == 0
    assert process.returncode == 0
    assert "1 new task found" in output


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_waiting_sweep_ends_at_a_signal(
    tmp_path: pathlib.Path, simulator: KlingSimulator, number: signal.Signals, status: int
) -> None:
    line = CommandLine(tmp_path / "ledger.db", now=simulator.now_ms(), simulator=simulator).with_ledger()
    with line.ledger() as ledger:
        ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)
        process = line.start("sweep")
        with ended_in_time(process):
            wait_until_printed(process, "another sweep is running")
            process.send_signal(number)
            errors = process.communicate()[1]

    assert process.returncode == status
    assert "Traceback" not in errors


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_sweep_ended_by_a_signal_releases_its_family_and_keeps_what_it_read(
    tmp_path: pathlib.Path, simulator: KlingSimulator, number: signal.Signals, status: int
) -> None:
    line = CommandLine(tmp_path / "ledger.db", now=simulator.now_ms(), simulator=simulator).with_ledger()
    asked, ended = threading.Event(), threading.Event()

    def hang() -> None:
        asked.set()
        ended.wait(PROCESS_SECONDS_MAX)

    simulator.faults.arm("list", faults.Call(hang), match="pageNum=2")
    process = line.start("sweep")
    with ended_in_time(process):
        assert asked.wait(PROCESS_SECONDS_MAX)
        process.send_signal(number)
        errors = process.communicate()[1]
    ended.set()

    assert process.returncode == status
    assert "Traceback" not in errors
    with line.ledger(daemon=False) as ledger:
        assert ledger.views.status().states[State.SUCCEEDED] == 1
        assert ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)


def test_a_second_ctrl_c_ends_a_command_that_waits_for_a_locked_ledger_at_once(
    tmp_path: pathlib.Path, simulator: KlingSimulator
) -> None:
    line = CommandLine(tmp_path / "ledger.db", now=simulator.now_ms(), simulator=simulator).with_ledger()
    asked, ended = threading.Event(), threading.Event()

    def hang() -> None:
        asked.set()
        ended.wait(PROCESS_SECONDS_MAX)

    simulator.faults.arm("list", faults.Call(hang), match="pageNum=1")
    process = line.start("sweep")
    other = sqlite3.connect(line.path, isolation_level=None)
    with ended_in_time(process), contextlib.closing(other):
        assert asked.wait(PROCESS_SECONDS_MAX)
        other.execute("BEGIN IMMEDIATE")  # the sweep cannot release its family
        process.send_signal(signal.SIGINT)
        while _catches(process.pid, signal.SIGINT):
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        process.communicate()
    ended.set()

    assert process.returncode == -signal.SIGINT


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) & 1 << (number - 1))


# --- beside the daemon ---

WRITER = """
import sys, threading
from archiver.ledger import Ledger
from archiver.model import Callback, Status

ledger = Ledger.open(sys.argv[1], daemon=True)
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
written = 0
while not stop.wait(0.02):
    ledger.callbacks.record([Callback("default", f"w{written}", Status.SUCCEEDED, "images/generations")])
    written += 1
    if written == 1:
        print("writing", flush=True)
ledger.close()
print(written)
"""


def test_commands_work_beside_a_daemon_that_writes(line: CommandLine) -> None:
    command = [sys.executable, "-W", "error", "-c", WRITER, f"sqlite:///{line.path}"]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with ended_in_time(writer):
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        ended = [
            line.finish(*arguments)[0]
            for arguments in (
                ["register", "9", "--family", FAMILY],
                ["show", "9"],
                ["retry", "9", "w0"],
                ["status"],
            )
        ]
        written = int(writer.communicate()[0])

    assert ended == [0, 0, 0, 0]
    with line.ledger(daemon=False) as ledger:
        # Those of the writer, and the registered one.
        assert ledger.views.status().states[State.REPORTED] == written + 1
