"""Connections to vetted addresses only, and no call that blocks for too long. Two rules:

1. Every connection resolves its name once and connects to the address that was judged (`PinnedBackend`). On a second
   look-up, the owner of the name could give another address.
2. Every call on a socket asks the `Allowance` of its fetch (`BoundedStream`).
"""

import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpcore2

from archiver.fetch.addresses import AddressClass, classify
from archiver.fetch.pace import Timeout, note_bytes, seconds_of
from archiver.fetch.urls import PolicyRefusal, RefusalCause
from archiver.lookups import Lookups, system_getaddrinfo

Resolver = Callable[[str, int], Sequence[str]]
"""Host and port → addresses as text, most preferred first. May raise OSError, UnicodeError."""


def resolve(host: str, port: int) -> Sequence[str]:
    """The system's resolver. Blocks without a limit."""
    answers = system_getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
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
    """Resolves a name, judges every address, connects to one of them.

    One bad address refuses the name: public and private addresses together are an attack or a mistake.
    """

    def __init__(self, *, resolver: Resolver, private_allowed: bool) -> None:
        self._resolver = resolver
        self._private_allowed = private_allowed
        self._sockets = httpcore2.SyncBackend()
        self._lookups = Lookups()

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
        try:
            return self._lookups.run(lambda: list(self._resolver(host, port)), seconds=seconds_of(timeout))
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(f"{host} cannot be resolved: {error}") from error
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"{host} cannot be resolved: {error}") from error
