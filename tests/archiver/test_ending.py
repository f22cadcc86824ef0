"""How a process ends that still has threads."""

import subprocess
import sys
import textwrap

import pytest

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


def test_what_was_printed_is_written_though_a_thread_is_left() -> None:
    program = """
        import threading
        from archiver.ending import end_process

        threading.Thread(target=threading.Event().wait, daemon=True).start()
        print("a line")
        end_process(3)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (3, "a line\n", "")


def test_without_another_thread_the_status_is_that_of_an_ordinary_exit() -> None:
    command = [sys.executable, "-c", "from archiver.ending import end_process; end_process(2)"]

    assert subprocess.run(command, cwd=ROOT, timeout=PATIENCE_SECONDS, check=False).returncode == 2
