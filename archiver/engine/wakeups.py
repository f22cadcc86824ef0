"""Wakes the loops of other processes when there is something new for them, and ours when others say so.

A hint: a loop that is not woken looks twice a second. So a wake-up that cannot be sent is dropped; a failure that lasts
is reported.
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, Self

from archiver import log
from archiver.failures import LedgerUnavailable
from archiver.ledger.databases.notifications import Notifications
from archiver.model import Problem, Stage

SEND_SECONDS = 0.02
"""The pause between two messages of a process; later wake-ups go into the next message."""
RECEIVE_SECONDS = 0.5
PAUSE_SECONDS = 5.0
"""The pause after a failure."""
FAILING_SECONDS_MAX = 60.0
"""A failure that lasts longer is a problem."""
STAGES = (Stage.VERIFY, Stage.ARCHIVE)


class Channel(Protocol):
    """How wake-ups travel. Both raise LedgerUnavailable."""

    def send(self, wakes: Mapping[str, Sequence[str]]) -> None:
        """Wake these accounts of each stage in every other process."""

    def receive(self, stages: Sequence[str], *, seconds: float) -> Sequence[tuple[str, Sequence[str]]]:
        """Wait at most `seconds` for wake-ups of other processes: stages and accounts, no accounts for all."""


class SendLoop:
    """`tell` belongs to any thread, `step` to one."""

    name = "wake-sender"

    def __init__(self, channel: Channel, *, stop: threading.Event) -> None:
        self._channel = channel
        self._stop = stop
        self._lock = threading.Lock()
        self._waiting: dict[Stage, set[str]] = {}
        self._has_waiting = threading.Event()
        self._trouble = _Trouble("sent")

    def tell(self, stage: Stage, accounts: Iterable[str]) -> None:
        """Note that these accounts have new work. Cheap; never waits for the channel."""
        with self._lock:
            self._waiting.setdefault(stage, set()).update(accounts)
        self._has_waiting.set()

    def step(self) -> None:
        """Send the waiting wake-ups, then rest."""
        if not self._has_waiting.wait(RECEIVE_SECONDS):
            return
        with self._lock:
            taken, self._waiting = self._waiting, {}
            self._has_waiting.clear()
        try:
            self._channel.send({stage: sorted(accounts) for stage, accounts in taken.items()})
        except LedgerUnavailable as error:
            self._trouble.began(error)
            self._has_waiting.set()  # to see when it ends, also if nothing more is to be sent
            self._stop.wait(PAUSE_SECONDS)
        else:
            self._trouble.ended()
            self._stop.wait(SEND_SECONDS)

    def problems(self) -> Sequence[Problem]:
        """That it has failed for long."""
        return self._trouble.problems()


class ReceiveLoop:
    """`step` belongs to one thread."""

    name = "wake-receiver"

    def __init__(
        self,
        channel: Channel,
        wake: Callable[[Stage, Iterable[str] | None], object],
        *,
        stop: threading.Event,
    ) -> None:
        """`wake` gets a stage, and accounts or None for all."""
        self._channel = channel
        self._wake = wake
        self._stop = stop
        self._trouble = _Trouble("received")

    def step(self) -> None:
        """Wait a little for what others send, and pass it on."""
        try:
            heard = self._channel.receive(STAGES, seconds=RECEIVE_SECONDS)
        except LedgerUnavailable as error:
            self._trouble.began(error)
            self._stop.wait(PAUSE_SECONDS)
            return
        self._trouble.ended()
        for stage, accounts in heard:
            if stage in STAGES:
                self._wake(Stage(stage), accounts or None)

    def problems(self) -> Sequence[Problem]:
        """That it has failed for long."""
        return self._trouble.problems()


@dataclasses.dataclass(frozen=True)
class WakeUps:
    """The loops that send and receive wake-ups; none if only one process works on the ledger."""

    loops: tuple[SendLoop | ReceiveLoop, ...] = ()
    tell: Callable[[Stage, Iterable[str]], None] | None = None
    close: Callable[[], None] = lambda: None

    @classmethod
    def build(
        cls, url: str | None, wake: Callable[[Stage, Iterable[str] | None], object], *, stop: threading.Event
    ) -> Self:
        """`url` is that of a PostgreSQL server; `wake` as in `ReceiveLoop`. Raises LedgerUnusable."""
        if url is None:
            return cls()
        channel = Notifications(url)
        sender, receiver = SendLoop(channel, stop=stop), ReceiveLoop(channel, wake, stop=stop)
        return cls((sender, receiver), sender.tell, channel.close)


class _Trouble:
    """How long the channel has failed. The log has the beginning and the end of a failure, `status` shows one that
    lasts."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._since: float | None = None
        self._message = ""

    def began(self, error: LedgerUnavailable) -> None:
        if self._since is None:
            self._since = time.monotonic()
            log.get().warning("wakeups.failed", message=f"wake-ups are not {self._what}: {error}")
        self._message = str(error)

    def ended(self) -> None:
        self._since = None

    def problems(self) -> Sequence[Problem]:
        since = self._since
        if since is None or time.monotonic() - since < FAILING_SECONDS_MAX:
            return ()
        message = f"wake-ups between processes are not {self._what}: {self._message}"
        what_to_do = (
            "KLING_LEDGER_LISTEN_URL must lead to the ledger's server itself, not through a pooler. Until then work "
            "begins half a second later."
        )
        return (Problem("settings", message, what_to_do, stage="ledger", reason="no_wakeups"),)
