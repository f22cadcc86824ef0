"""Loops that query an account's API run only in the process that has the account's lease."""

import threading
from collections.abc import Callable
from typing import Protocol

from archiver.engine.threads import IDLE_SECONDS


class AskingLoop(Protocol):
    """A loop that spends the query budget of an account."""

    name: str

    def begin(self) -> None:
        """This process asks the API for the account from now on. Discard what it remembers: it may be stale."""

    def step(self) -> None:
        """Do what is due, or wait a little."""

    def end(self) -> None:
        """Another process asks from now on: begin nothing more, and give up what can be given up."""


class Gate:
    """Runs a loop while its process may ask. `step` belongs to one thread, `is_open` to any."""

    def __init__(self, loop: AskingLoop, may_ask: Callable[[], str | None], *, stop: threading.Event) -> None:
        """`may_ask` gives the token of the lease; None while no query may begin."""
        self.name = loop.name
        self._loop = loop
        self._may_ask = may_ask
        self._stop = stop
        self._token: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether the loop may be sending a query."""
        return self._token is not None

    def step(self) -> None:
        """The loop's step, or wait a little."""
        token = self._may_ask()
        if token != self._token and self._token is not None:
            self._loop.end()
            self._token = None
        if token is None:
            self._stop.wait(IDLE_SECONDS)
            return
        if self._token is None:
            self._loop.begin()
            self._token = token
        self._loop.step()
