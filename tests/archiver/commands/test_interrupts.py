"""Ctrl-C ends what it is meant to end, also when Python drops the first."""

import contextlib
import queue
import signal
import threading

import pytest

from archiver.commands.terminal.interrupts import insistent_interrupts


def test_an_interrupt_that_something_swallows_comes_again_until_the_block_is_left() -> None:
    never = queue.SimpleQueue[None]()

    def run() -> None:
        with insistent_interrupts(repeat_seconds=0.5):
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
                never.get()
            never.get()

    with pytest.raises(KeyboardInterrupt):
        run()


def test_outside_of_the_block_an_interrupt_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGINT)

    with insistent_interrupts():
        assert signal.getsignal(signal.SIGINT) is not before

    assert signal.getsignal(signal.SIGINT) is before


def test_a_thread_that_gets_no_signals_is_left_alone() -> None:
    seen = []

    def run() -> None:
        with insistent_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    assert seen == [before]
