"""How signals end a command. In a process of its own, which the handlers end after GRACE_SECONDS."""

import signal
import subprocess
import sys
import textwrap

import pytest

from tests.harness.terminal import ended_in_time

SAVES_ITS_PLACE = """
    import signal
    import sys
    from archiver.commands.terminal.signals import handle_signals

    handle_signals()
    try:
        signal.raise_signal(int(sys.argv[1]))
    finally:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        print("saved")
"""


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGHUP])
def test_further_signals_of_a_supervisor_do_not_interrupt_what_the_first_one_is_ending(
    first: signal.Signals,
) -> None:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(SAVES_ITS_PLACE), str(int(first))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with ended_in_time(process):
        output, errors = process.communicate()

    assert (process.returncode, output, errors) == (128 + first, "saved\n", "")
