"""Connections to vetted addresses only, and no call that blocks for too long. Two rules:

1. Every connection resolves its name once and connects to the address that was judged (`PinnedBackend`). On a second
   look-up, the owner of the name could give another address.
2. Every call on a socket asks the `Allowance` of its fetch (`BoundedStream`).
"""

import _thread
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpcore2

from archiver.fetch.addresses import AddressClass, classify
from archiver.fetch.pace import Timeout, note_bytes, seconds_of
from archiver.fetch.urls import PolicyRefusal, RefusalCause

RESOLUTIONS_MAX = 64
"""Name look-ups under way at once. getaddrinfo has no timeout: while DNS is dead, each leaves a waiting thread."""


Resolver = Callable[[str, int], Sequence[str]]
"""Host and port → addresses as text, most preferred first. May raise OSError, UnicodeError."""


def resolve(host: str, port: int) -> Sequence[str]:
    """The system's resolver. Blocks without a limit."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class BoundedStream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: Timeout = None) -> bytes:
        data = self._stream.read(max_bytes, timeout=seconds_of(timeout))
        note_bytes(timeout, len(data))
        return data

    def write(self, buffer: bytes, timeout: Timeout = None) -> None:
        self._stream.write(buffer, timeout=seconds_of(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: Timeout = None
    ) -> "BoundedStream":
        try:
            seconds = seconds_of(timeout)
        except httpcore2.TimeoutException:
            self.close()
            raise
        return BoundedStream(
            self._stream.start_tls(ssl_context, server_hostname=server_hostname, timeout=seconds)
        )

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class PinnedBackend(httpcore2.NetworkBackend):
    """Resolves, judges every address, connects to one of them.

    One bad address refuses the name: public and private addresses together are an attack or a mistake.
    """

    def __init__(self, *, resolver: Resolver, private_allowed: bool) -> None:
        self._resolver = resolver
        self._private_allowed = private_allowed
        self._sockets = httpcore2.SyncBackend()
        self._resolutions = threading.BoundedSemaphore(RESOLUTIONS_MAX)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: Timeout = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> BoundedStream:
        """Tries the addresses in turn; each gets an equal share of the time that is left.

        Raises PolicyRefusal, httpcore2.ConnectError, httpcore2.TimeoutException.
        """
        addresses = self.vet(host, port, timeout)
        for untried in range(len(addresses), 0, -1):
            seconds = seconds_of(timeout)
            try:
                stream = self._sockets.connect_tcp(
                    addresses[-untried],
                    port,
                    timeout=None if seconds is None else seconds / untried,
                    local_address=local_address,
                    socket_options=socket_options,
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if untried == 1:
                    raise
            else:
                return BoundedStream(stream)
        raise httpcore2.ConnectError(f"{host} has no address")

    def vet(self, host: str, port: int, timeout: Timeout) -> list[str]:
        """The host's addresses, each judged. Raises PolicyRefusal, httpcore2.ConnectError, httpcore2.ConnectTimeout."""
        addresses = []
        for answer in self._resolve(host, port, timeout):
            try:
                address = ipaddress.ip_address(answer)
            except ValueError:
                message = f"{host} resolves to something that is no address"
                raise PolicyRefusal(RefusalCause.ADDRESS, message, host=host) from None
            address_class = classify(address)
            if address_class is not AddressClass.PUBLIC and not self._private_allowed:
                message = f"{host} resolves to {address}, which is {address_class}"
                raise PolicyRefusal(RefusalCause.ADDRESS, message, host=host)
            addresses.append(str(address))
        return addresses

    def _resolve(self, host: str, port: int, timeout: Timeout) -> Sequence[str]:
        if not self._resolutions.acquire(timeout=seconds_of(timeout)):
            raise httpcore2.ConnectTimeout("too many name look-ups are waiting for an answer")
        lookup = _NameLookup(self._resolver, host=host, port=port, on_end=self._resolutions.release)
        try:
            lookup.start()
        except RuntimeError as error:
            self._resolutions.release()
            raise httpcore2.ConnectError(f"{host} cannot be resolved: {error}") from error
        lookup.wait(seconds_of(timeout))
        return lookup.addresses()


class _NameLookup:
    """One name look-up, in a thread of its own since getaddrinfo cannot be interrupted. Calls `on_end` once.

    Not a `threading.Thread`: its `start()` waits for the new thread to report. If the thread dies of ENOMEM first,
    `start()` never returns.
    """

    def __init__(self, resolver: Resolver, *, host: str, port: int, on_end: Callable[[], None]) -> None:
        self._resolver = resolver
        self._host = host
        self._port = port
        self._on_end = on_end
        self._lock = threading.Lock()
        self._has_begun = False
        self._has_ended = False
        self._done = threading.Event()
        self._addresses: Sequence[str] | None = None
        self._error: OSError | UnicodeError | None = None

    def start(self) -> None:
        """Raises RuntimeError if no thread can be had."""
        _thread.start_new_thread(self._run, ())

    def wait(self, seconds: float | None) -> None:
        """A thread that has not begun after `seconds` is taken for dead."""
        if not self._done.wait(seconds) and not self._has_begun:
            self._end()

    def _end(self) -> None:
        """Once: a thread may begin after it was taken for dead."""
        with self._lock:
            had_ended, self._has_ended = self._has_ended, True
        if not had_ended:
            self._on_end()

    def _run(self) -> None:
        self._has_begun = True
        try:
            self._addresses = list(self._resolver(self._host, self._port))
        except (OSError, UnicodeError) as error:
            self._error = error
        finally:
            self._end()
            self._done.set()

    def addresses(self) -> Sequence[str]:
        """Raises httpcore2.ConnectError, httpcore2.ConnectTimeout."""
        if self._error is not None:
            raise httpcore2.ConnectError(f"{self._host} cannot be resolved: {self._error}") from self._error
        if self._addresses is None:
            raise httpcore2.ConnectTimeout(f"resolving {self._host} took too long")
        return self._addresses
