"""The end of the process, where the stop comes to its end and where it hangs."""

import queue
import threading

import pytest
import structlog

from archiver import log
from receiver.closing import GRACE_SECONDS, Closing

PATIENCE_SECONDS = 60.0


def test_a_stop_that_waits_for_a_lock_of_a_thread_that_hangs_ends_the_process_and_the_log_says_why() -> None:
    statuses = queue.SimpleQueue[int]()
    closing = Closing(seconds=0, grace_seconds=0, end_process=statuses.put)
    with structlog.testing.capture_logs() as lines:
        closing.begin()
        assert statuses.get(timeout=PATIENCE_SECONDS) == 1  # while this thread, which is the stop, waits

    assert [line["event"] for line in lines] == ["daemon.aborted"]


def test_a_log_that_hangs_too_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses, goes_on, has_gone = queue.SimpleQueue[int](), threading.Event(), threading.Event()

    class Hanging:
        def critical(self, *_: object, **__: object) -> None:
            goes_on.wait(PATIENCE_SECONDS)
            has_gone.set()

    monkeypatch.setattr("receiver.closing._LOG_SECONDS", 0.01)
    monkeypatch.setattr(log, "get", Hanging)
    closing = Closing(seconds=0, grace_seconds=0, end_process=statuses.put)
    closing.begin()

    assert statuses.get(timeout=PATIENCE_SECONDS) == 1
    goes_on.set()
    assert has_gone.wait(PATIENCE_SECONDS)


def test_a_stop_that_comes_to_its_end_leaves_nothing_that_would_end_the_process() -> None:
    before = set(threading.enumerate())
    closing = Closing(seconds=20)
    closing.begin()
    closing.begin()
    assert closing.begun.is_set()
    assert 0 < closing.seconds_left() <= 20
    (timer,) = (
        each for each in threading.enumerate() if isinstance(each, threading.Timer) and each not in before
    )
    assert (timer.daemon, timer.interval) == (True, 20 + GRACE_SECONDS)
    closing.end()
    timer.join(PATIENCE_SECONDS)

    assert not timer.is_alive()
