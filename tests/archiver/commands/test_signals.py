"""How signals end a command."""

import signal
from collections.abc import Iterator

import pytest

from archiver.commands.terminal.signals import Terminated, handle_signals

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in HANDLED}
    for number in HANDLED:
        signal.signal(number, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGHUP])
def test_further_signals_of_a_supervisor_do_not_interrupt_what_the_first_one_is_ending(
    first: signal.Signals,
) -> None:
    handle_signals()
    saved = []

    def command() -> None:
        try:
            signal.raise_signal(first)
        finally:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
            saved.append("place")

    with pytest.raises(Terminated) as ended:
        command()

    assert (saved, ended.value.status) == (["place"], 128 + first)
