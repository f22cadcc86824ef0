"""Name look-ups with a time limit. getaddrinfo has none of its own: with three silent name servers and a search list of
four domains, one call takes 56 s.

`bound_all` replaces the socket module's function for this process. The clients of API and store call it, and neither
takes a resolver or a time-out for it. `fetch` gives each look-up a limit of its own.

A stuck look-up costs its caller the limit, and the process one thread (33 KB, and a socket) until the system gives up.
There are at most `LOOKUPS_MAX`. While all are stuck, another caller waits for its limit and gets no thread. No slot and
no lease waits longer, and the process does not join these threads when it ends.
"""

import _thread
import ipaddress
import socket
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

LOOKUPS_MAX = 64
"""Look-ups under way at once."""
LOOKUP_SECONDS = 5.0

_Answer = TypeVar("_Answer")

system_getaddrinfo = socket.getaddrinfo
"""The system's own function, also after `bound_all`. Blocks without a limit."""


class Lookups:
    """Runs look-ups, each in a thread of its own since none can be interrupted. Thread-safe."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(LOOKUPS_MAX)

    def run(self, lookup: Callable[[], _Answer], *, seconds: float | None) -> _Answer:
        """What `lookup` returns or raises. Raises TimeoutError after `seconds`."""
        if not self._free.acquire(timeout=seconds):
            raise TimeoutError("too many name look-ups are waiting for an answer")
        running = _Lookup(lookup, on_end=self._free.release)
        try:
            running.start()
        except RuntimeError as error:
            self._free.release()
            raise OSError(str(error)) from error
        return running.wait(seconds)


class _Lookup(Generic[_Answer]):
    """Calls `on_end` once.

    Not a `threading.Thread`: its `start()` waits for the new thread to report. If the thread dies of ENOMEM first,
    `start()` never returns.
    """

    def __init__(self, lookup: Callable[[], _Answer], *, on_end: Callable[[], None]) -> None:
        self._lookup = lookup
        self._on_end = on_end
        self._lock = threading.Lock()
        self._has_begun = False
        self._has_ended = False
        self._done = threading.Event()
        self._answer: list[_Answer] = []
        self._error: Exception | None = None

    def start(self) -> None:
        """Raises RuntimeError if no thread can be started."""
        _thread.start_new_thread(self._run, ())

    def wait(self, seconds: float | None) -> _Answer:
        """A thread that has not begun after `seconds` is taken for dead."""
        if not self._done.wait(seconds) and not self._has_begun:
            self._end()
        if self._error is not None:
            raise self._error
        if not self._answer:
            raise TimeoutError("the name look-up took too long")
        return self._answer[0]

    def _end(self) -> None:
        """Once: a thread may begin after it was taken for dead."""
        with self._lock:
            had_ended, self._has_ended = self._has_ended, True
        if not had_ended:
            self._on_end()

    def _run(self) -> None:
        self._has_begun = True
        try:
            self._answer.append(self._lookup())
        except Exception as error:  # noqa: BLE001 -- raised again in the caller
            self._error = error
        finally:
            self._end()
            self._done.set()


def bound_all() -> None:
    """From now on no look-up of this process by `socket.getaddrinfo` lasts longer than `LOOKUP_SECONDS`."""
    lookups, system, seconds = Lookups(), system_getaddrinfo, LOOKUP_SECONDS

    def getaddrinfo(host: Any, port: Any, *options: Any, **named: Any) -> Any:
        if host is None or _is_address(host):  # nothing to look up
            return system(host, port, *options, **named)
        try:
            return lookups.run(lambda: system(host, port, *options, **named), seconds=seconds)
        except TimeoutError as error:
            raise socket.gaierror(
                socket.EAI_AGAIN, f"no name server answered within {seconds:g} s"
            ) from error

    socket.getaddrinfo = getaddrinfo


def _is_address(host: str | bytes) -> bool:
    try:
        ipaddress.ip_address(host.decode("ascii") if isinstance(host, bytes) else host)
    except ValueError:
        return False
    return True
