"""Pools whose threads are all there from the start, or none of them."""

import pathlib
import subprocess
import sys
import threading

import pytest

from archiver.engine.pools import PrestartedPool, ThreadsRefused
from tests.harness.repository import ROOT

PATIENCE_SECONDS = 60

REFUSING_DAEMON = """
import sys, threading
from receiver.__main__ import main

name, given, start = sys.argv[1], 2, threading.Thread.start

def refuse_the_third(thread):
    global given
    if thread.name.startswith(name):
        given -= 1
        if given < 0:
            raise RuntimeError("can't start new thread")
    start(thread)

threading.Thread.start = refuse_the_third
sys.exit(main([]))
"""


@pytest.mark.parametrize("given", [0, 1, 4])
def test_threads_that_the_system_refuses_part_way_are_a_sentence_and_those_it_gave_end(
    monkeypatch: pytest.MonkeyPatch, given: int
) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def refuse_after(thread: threading.Thread) -> None:
        if len(started) == given:
            raise RuntimeError("can't start new thread")
        thread.daemon = True  # a defect must fail this test and not hang the session
        started.append(thread)
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse_after)
        with pytest.raises(ThreadsRefused, match=r"the 5 threads called 'early' .* limit on threads"):
            PrestartedPool(5, name="early")

    for thread in started:
        thread.join(PATIENCE_SECONDS)
    assert [thread for thread in started if thread.is_alive()] == []


def test_a_thread_that_never_reports_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archiver.engine.pools.START_SECONDS", 0.0)
    gate = threading.Event()

    with pytest.raises(ThreadsRefused):
        PrestartedPool(2, name="silent", begin=lambda: gate.wait(PATIENCE_SECONDS))
    gate.set()


@pytest.mark.parametrize("name", ["transfer", "verify", "archive", "look"])
def test_a_daemon_that_gets_too_few_threads_ends_with_a_sentence_and_status_1(
    tmp_path: pathlib.Path, name: str
) -> None:
    settings = {
        "KLING_ACCESS_KEY": "AKsimulated",
        "KLING_SECRET_KEY": "SKsimulated-0123456789abcdef0123456789",
        "KLING_S3_BUCKET": "results",
        "KLING_S3_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "simulated",
        "AWS_SECRET_ACCESS_KEY": "simulated",
        "AWS_REGION": "us-east-1",
        "KLING_CALLBACK_TOKEN": "0123456789abcdef0123456789abcdef",
        "KLING_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db",
        "KLING_SPOOL_DIR": str(tmp_path),
        "KLING_PORT": "0",
        "KLING_LOG_LEVEL": "error",
    }
    ended = subprocess.run(
        [sys.executable, "-c", REFUSING_DAEMON, name],
        env=settings,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )

    assert (ended.returncode, ended.stderr.count("Traceback")) == (1, 0), ended.stderr
    assert f"threads called {name!r} could not all be started" in ended.stderr
