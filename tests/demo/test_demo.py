"""The demo as a user runs it, in a process: it ends well, survives its daemon and leaves no process behind."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.demo.leash import leashed
from tests.harness.repository import ROOT
from tests.harness.wheel import Installed
from tests.project.secret_watch import WATCH

COMMAND = [sys.executable, "-m", "tests.demo"]
LINKS = re.compile(r"(?m)^  picture +http://127[.]0[.]0[.]1:.*/files/.*$")
"""Meant to be seen here."""
SECONDS_MAX = 60


class RunningDemo:
    """A demo whose output is a pipe."""

    def __init__(self, working_folder: Path, *, import_path: str, command: Sequence[str]) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command,
            cwd=working_folder,
            env={**os.environ, "PYTHONPATH": import_path, "FORCE_COLOR": "1", "KLING_PORT": "not a port"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read on to the first line that has it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"the demo ended without {pattern!r}:\n{self.text}")

    def end(self) -> int:
        """Read the rest; the exit status."""
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)
        return self.process.wait(SECONDS_MAX)

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def children(self) -> set[int]:
        """Process ids of the daemon and of the S3 server."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        return {int(pid) for path in tasks.glob("*/children") for pid in path.read_text().split()}


@contextlib.contextmanager
def running(
    working_folder: Path, *, import_path: str = str(ROOT), command: Sequence[str] = COMMAND
) -> Iterator[RunningDemo]:
    """A demo that is always killed at the end."""
    started = RunningDemo(working_folder, import_path=import_path, command=command)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.communicate()
        WATCH.said("output of the demo", LINKS.sub("", started.text))


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[RunningDemo]:
    with running(tmp_path) as started:
        yield started


def await_gone(pids: set[int]) -> None:
    """Poll: processes that are not our children offer nothing to wait on."""
    deadline = time.monotonic() + SECONDS_MAX
    while alive := {pid for pid in pids if is_alive(pid)}:
        assert time.monotonic() < deadline, f"still there: {alive}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """A zombie is not alive: it only waits to be reaped."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def summary_count(text: str, name: str) -> int:
    found = re.search(rf"{re.escape(name)}\s*\|\s*([0-9]+)", text)
    assert found is not None, f"no {name!r} in:\n{text}"
    return int(found[1])


def test_out_of_the_wheel_it_archives_everything_checks_every_byte_and_ends_by_itself(
    installed: Installed, tmp_path: Path
) -> None:
    command = [str(installed.programs / "kling-archiver"), "demo"]
    with running(tmp_path, import_path="", command=command) as demo:
        status = demo.end()

    assert status == 0, demo.text
    assert re.search(r"all bytes right: [1-9][0-9]+ files", demo.text)
    assert summary_count(demo.text, "tasks archived") == 18
    assert summary_count(demo.text, "found by the sweep") >= 7
    assert summary_count(demo.text, "complaints of the simulated account") == 0
    assert "the application was told of 14 tasks by signed forwards" in demo.text
    # Of `expand`, a list names watermarked pictures that a query does not: how many links there are, timing decides.
    assert re.search(r"the account has deleted every task.*\n.* [45][0-9] pictures opened again", demo.text)
    assert re.search(r"opened again; [1-9][0-9]* (query|queries) answered from manifests", demo.text)
    assert len(LINKS.findall(demo.text)) == 3
    assert re.search(r"  console +http://127[.]0[.]0[.]1:[0-9]+/console  token [0-9a-f]{32}\n", demo.text)
    assert "\x1b" not in demo.text
    assert "\r" not in demo.text


def test_a_killed_daemon_is_started_again_and_nothing_is_lost(demo: RunningDemo) -> None:
    pid = int(demo.read_until(r"try: kill -9 ([0-9]+)")[1])
    demo.read_until(r"archived .* by callback")
    os.kill(pid, signal.SIGKILL)
    demo.read_until(rf"pid {pid}\) ended by SIGKILL: starting it again")

    status = demo.end()

    assert status == 0, demo.text
    assert "all bytes right" in demo.text
    assert summary_count(demo.text, "starts of the daemon") == 2


def test_doors_a_gateway_and_workers_on_postgresql_lose_nothing_though_a_door_and_a_worker_are_killed(
    tmp_path: Path,
) -> None:
    with running(tmp_path, command=[*COMMAND, "--postgres"]) as demo:
        status = demo.end()

    assert status == 0, demo.text
    assert "all bytes right" in demo.text
    assert re.findall(r"killed +(\w+ \d) ", demo.text) in (["worker 2", "door 2"], ["door 2", "worker 2"])
    assert summary_count(demo.text, "tasks archived") == 18
    assert summary_count(demo.text, "created through the gateway") == 2
    assert summary_count(demo.text, "starts of doors, gateway and workers") == 7
    assert "the application was told of 14 tasks by signed forwards" in demo.text
    assert re.search(r"opened again; [1-9][0-9]* (query|queries) answered from manifests", demo.text)
    assert summary_count(demo.text, "complaints of the simulated account") == 0


def test_stopped_while_the_daemon_starts_it_ends_in_good_order_too(demo: RunningDemo) -> None:
    demo.read_until("history")
    demo.process.send_signal(signal.SIGINT)

    status = demo.end()

    assert status == 0, demo.text


def test_a_daemon_that_cannot_start_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "receiver"
    broken.mkdir(parents=True)
    (broken / "__main__.py").write_text("raise SystemExit('no daemon today')")
    (broken / "__init__.py").touch()

    with running(tmp_path, import_path=f"{broken.parent}{os.pathsep}{ROOT}") as demo:
        status = demo.end()

    assert status == 1
    assert "the daemon did not start (exit status 1). Its log ends with:\nno daemon today\n" in demo.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order_and_no_process_stays(demo: RunningDemo, number: int) -> None:
    demo.read_until("archived")
    children = demo.children()
    demo.process.send_signal(number)

    status = demo.end()

    assert status == 0, demo.text
    assert re.search("stopping .* of 18 tasks are archived", demo.text)
    assert "Traceback" not in demo.text
    assert len(children) == 2
    await_gone(children)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has died")
def test_when_the_demo_itself_is_killed_the_kernel_takes_its_children_along(demo: RunningDemo) -> None:
    demo.read_until("archived")
    children = demo.children()
    assert len(children) == 2
    demo.process.kill()

    await_gone(children)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has died")
def test_a_child_whose_parent_died_before_the_leash_was_on_does_not_start() -> None:
    command = leashed([sys.executable, "-c", "print('running')"])
    command[command.index(str(os.getpid()))] = (
        "1"  # a parent that is not this process: as if the parent had died
    )

    ended = subprocess.run(command, check=False, capture_output=True, text=True)

    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "the demo has ended already\n")


def test_a_second_demo_in_the_same_folder_is_refused_and_the_first_goes_on(
    demo: RunningDemo, tmp_path: Path
) -> None:
    demo.read_until("archived")

    refused = subprocess.run(COMMAND, cwd=tmp_path, check=False, capture_output=True, text=True)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert "another demo is running" in refused.stderr
    assert demo.end() == 0


def test_a_folder_of_that_name_that_no_demo_has_made_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / ".demo" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("keep me")

    refused = subprocess.run(COMMAND, cwd=tmp_path, check=False, capture_output=True, text=True)

    assert refused.returncode == 1
    assert "was not made by a demo" in refused.stderr
    assert mine.read_text() == "keep me"
