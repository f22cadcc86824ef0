"""Ctrl-C and SIGTERM beside a store, an API or a ledger that accepts connections and never answers."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import pytest

from archiver.ledger import Ledger
from tests.harness.command_line import FAMILY, PROCESS_SECONDS_MAX, CommandLine
from tests.harness.daemons import until
from tests.harness.terminal import ended_in_time, wait_until_printed
from tests.postgres import BadNetwork, PostgresServer
from tests.simulator import KlingSimulator, faults

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


class Silent:
    """A server that reads what it is sent."""

    def __init__(self) -> None:
        self.was_asked = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._opened = contextlib.ExitStack()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._server.accept()
                self._opened.enter_context(connection)
                connection.recv(1)
                self.was_asked.set()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # wakes a thread that waits in accept()
            self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join(PROCESS_SECONDS_MAX)
        self._server.close()  # only now: the thread would accept from what next has this file descriptor
        self._opened.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    with contextlib.closing(Silent()) as made:
        yield made


INTERRUPT, TERMINATE = SIGNALS


@pytest.mark.parametrize(
    ("command", "outside", "ending"),
    [
        ("verify", "store", INTERRUPT),
        ("verify", "store", TERMINATE),
        ("sums", "store", INTERRUPT),
        ("rebuild", "store", TERMINATE),
        ("sweep", "API", INTERRUPT),
        ("sweep --dry-run", "API", TERMINATE),
        ("list", "ledger", INTERRUPT),
        ("status", "ledger", TERMINATE),
        ("verify", "ledger", INTERRUPT),
    ],
)
def test_a_signal_ends_a_command_beside_an_outside_that_never_answers(
    tmp_path_factory: pytest.TempPathFactory,
    silent: Silent,
    command: str,
    outside: str,
    ending: tuple[signal.Signals, int],
) -> None:
    number, status = ending
    line = CommandLine(tmp_path_factory.mktemp("ledger") / "ledger.db").with_ledger()
    url = f"http://127.0.0.1:{silent.port}"
    settings = {
        "KLING_ACCESS_KEY": "access-key",
        "KLING_SECRET_KEY": "secret-key-of-thirty-two-characters",
        "KLING_BASE_URL": url,
        "KLING_S3_BUCKET": "results",
        "KLING_S3_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
    }
    if outside == "ledger":
        settings["KLING_LEDGER_URL"] = f"postgresql://user:word@127.0.0.1:{silent.port}/ledger"
    process = line.start(*command.split(), settings=settings)
    with ended_in_time(process):
        assert silent.was_asked.wait(PROCESS_SECONDS_MAX)
        process.send_signal(number)
        errors = process.communicate()[1]

    assert (process.returncode, "Traceback" in errors) == (status, False)
    assert "Nothing is lost" in errors


HANGS_AT_ITS_END = """
    import threading
    from archiver.commands.terminal import signals

    signals.GRACE_SECONDS = 0.1
    signals.handle_signals()
    try:
        print("begun", flush=True)
        threading.Event().wait()
    finally:
        threading.Event().wait()
"""


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_what_hangs_while_a_command_ends_does_not_keep_it(number: signal.Signals, status: int) -> None:
    """Such as a ledger's server, which the driver asks to cancel a query."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(HANGS_AT_ITS_END)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with ended_in_time(process):
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        errors = process.communicate()[1]

    assert process.returncode == status
    assert "Nothing is lost" in errors
    assert "Traceback" not in errors


def test_a_full_pipe_does_not_keep_it_either() -> None:
    source = HANGS_AT_ITS_END.replace(
        'print("begun", flush=True)',
        """print("begun", flush=True)
        import os
        os.set_blocking(2, False)
        try:
            while True:
                os.write(2, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(2, True)
        print("full", flush=True)""",
    )
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(source)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with ended_in_time(process):
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["begun\n", "full\n"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PROCESS_SECONDS_MAX) == 143
        process.communicate()


def test_a_submit_beside_an_api_and_a_ledger_that_hang_says_how_to_repeat_it_without_paying_twice(
    tmp_path: pathlib.Path, postgres_server: PostgresServer
) -> None:
    """It says so at once: a second Ctrl-C kills it."""
    database = postgres_server.create_database()
    with KlingSimulator() as simulator, BadNetwork(postgres_server.folder).working() as network:
        settings = {"KLING_LEDGER_URL": network.url(database)}
        Ledger.open(postgres_server.url(database), daemon=True).close()
        line = CommandLine(tmp_path / "unused.db", simulator=simulator)
        command = ("submit", FAMILY, "--prompt", "a red fox")
        simulator.fault("create", faults.Happened(faults.Hang()))
        process = line.start(*command, settings=settings)
        with ended_in_time(process):
            until(simulator.task_ids, what="a created task")
            network.hang()
            process.send_signal(signal.SIGINT)
            said = wait_until_printed(process, "--external-task-id")
            process.kill()
            process.communicate()
        assert "interrupted. The task may have been created." in said
        external_id = said.split()[-1]

        network.flow()
        simulator.clear_faults()
        status, output, _ = line.finish(*command, "--external-task-id", external_id, **settings)
        assert (status, len(simulator.task_ids())) == (0, 1)
        assert simulator.task_ids()[0] in output
    postgres_server.drop_database(database)


HAS_ITS_OWN_SENTENCE = HANGS_AT_ITS_END.replace(
    "signals.handle_signals()",
    """signals.handle_signals()
    from archiver.commands.terminal.last_sentence import LAST_SENTENCE
    LAST_SENTENCE.text = "Repeat it with --external-task-id f\u00f6x." """,
)


def test_what_hangs_ends_with_the_sentence_of_the_command() -> None:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(HAS_ITS_OWN_SENTENCE)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with ended_in_time(process):
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        errors = process.communicate()[1]

    assert "for what hangs. Repeat it with --external-task-id föx." in errors
    assert "Nothing is lost" not in errors


HANGING_CHECK = """
    import sys
    import threading
    from archiver.__main__ import main
    from archiver.ending import end_process
    from archiver.ledger.moving import backup

    def check(partial):
        print("checking", flush=True)
        threading.Event().wait()

    backup._check = check
    end_process(main(["backup", sys.argv[1]]))
"""


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_a_signal_ends_a_backup_whose_copy_is_being_read_through_and_leaves_no_file(
    tmp_path: pathlib.Path, number: signal.Signals, status: int
) -> None:
    line = CommandLine(tmp_path / "ledger.db").with_ledger()
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(HANGING_CHECK), str(tmp_path / "copy.db")]
    process = subprocess.Popen(
        command, env=os.environ | line.settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with ended_in_time(process):
        assert process.stdout is not None
        assert process.stdout.readline() == "checking\n"
        process.send_signal(number)
        errors = process.communicate()[1]

    assert (process.returncode, "Traceback" in errors) == (status, False)
    assert "Nothing is lost" in errors
    assert list(tmp_path.glob("copy*")) == []
