"""Reports the state of the process to its supervisor, by the protocol of systemd's `sd_notify(3)`.

- `READY=1` once the event loop runs behind an open listener: units that are ordered after this one start only then.
- `WATCHDOG=1` from the event loop, while the engine lives. A loop that hangs sends none, and systemd starts the process
  again: leases end by themselves, so this costs what a kill costs.
- `STOPPING=1` at the first signal, when the drain begins.

Without `NOTIFY_SOCKET` nothing is sent. No message waits: one that cannot be sent is dropped, because the next one is
due within seconds.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence

from archiver import log

_SENDS_PER_TIMEOUT = 4
"""systemd advises two at least."""


class Supervisor:
    """Sends the messages. Its methods are called on the event loop, and none of them blocks."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        look: Callable[[], object] = lambda: None,
        stalled: Callable[[], Sequence[str]] = tuple,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`look` is called every second, and `stalled` names the loops of the engine that hang; neither may wait."""
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._watchdog_seconds = _watchdog_seconds(environment)
        self._look = look
        self._stalled = stalled
        self._monotonic = monotonic
        self._sent_at = float("-inf")
        self._has_stalled = False

    def ready(self) -> None:
        """The listener is open."""
        self._send("READY=1")

    def stopping(self) -> None:
        """The drain has begun."""
        self._send("STOPPING=1")

    def tick(self) -> None:
        """Called every second. Says that the process lives where that is due and true."""
        self._look()
        if self._watchdog_seconds is None:
            return
        now = self._monotonic()
        if now - self._sent_at < self._watchdog_seconds / _SENDS_PER_TIMEOUT:
            return
        loops = self._stalled()
        if not loops:
            self._sent_at = now
            self._send("WATCHDOG=1")
        elif not self._has_stalled:
            message = "they hang: the supervisor will start this process again"
            log.get().critical("loops.stalled", loops=list(loops), message=message)
        self._has_stalled = bool(loops)

    def _send(self, message: str) -> None:
        # A path, or with `@` a name in Linux's abstract namespace. Other kinds (vsock) are for virtual machines.
        if not self._address.startswith(("/", "@")):
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(message.encode(), address)


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """How long the supervisor waits for a sign; None if it waits for none, or for one of another process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    is_number = microseconds.isascii() and microseconds.isdecimal() and len(microseconds) <= 18
    return int(microseconds) / 1_000_000 if is_number and int(microseconds) else None
