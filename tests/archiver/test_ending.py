"""How a process ends that still has threads."""

import pathlib
import subprocess
import sys
import textwrap

import pytest

from archiver.ending import UNWRITTEN
from tests.harness.repository import ROOT

PATIENCE_SECONDS = 60

PRINTING = """
    import select
    import sys
    import threading
    from archiver.ending import end_process

    def print_until_the_pipe_is_full():
        while True:
            print("a line", file=getattr(sys, sys.argv[1]))

    threading.Thread(target=print_until_the_pipe_is_full, daemon=True).start()
    while select.select([], [getattr(sys, sys.argv[1])], [], 0)[1]:
        pass
    end_process(3)
"""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_thread_that_waits_for_a_full_pipe_does_not_change_the_exit_status(stream: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(PRINTING), stream]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.wait(timeout=PATIENCE_SECONDS) == 3
        finally:
            process.kill()


LEAVES_A_THREAD = """
    import threading
    from archiver.ending import end_process

    threading.Thread(target=threading.Event().wait, daemon=True).start()
    print("a line")
    end_process(3)
"""


def ended(redirection: str = "") -> subprocess.CompletedProcess[str]:
    """A process that a shell starts, and that leaves a thread."""
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-c"]
    return subprocess.run(
        [*command, textwrap.dedent(LEAVES_A_THREAD)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_what_was_printed_is_written_though_a_thread_is_left() -> None:
    done = ended()

    assert (done.returncode, done.stdout, done.stderr) == (3, "a line\n", "")


@pytest.mark.parametrize(("redirection", "said"), [(">&-", ""), ("2>&-", "a line\n"), (">&- 2>&-", "")])
def test_a_closed_stream_changes_neither_the_status_nor_what_the_other_one_says(
    redirection: str, said: str
) -> None:
    done = ended(redirection)

    assert (done.returncode, done.stdout, done.stderr) == (3, said, "")


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_what_cannot_be_written_is_a_status_of_its_own_as_python_has_it() -> None:
    assert ended(">/dev/full").returncode == UNWRITTEN


def test_without_another_thread_the_status_is_that_of_an_ordinary_exit() -> None:
    command = [sys.executable, "-c", "from archiver.ending import end_process; end_process(2)"]

    assert subprocess.run(command, cwd=ROOT, timeout=PATIENCE_SECONDS, check=False).returncode == 2
