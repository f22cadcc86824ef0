"""Connections below the HTTP library that know whether they hold bytes that the library has not read.

Bytes behind an answer would pass for the answer to the next request on the same connection.
"""

import contextlib
import os
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Self

import httpcore2


class InspectedStream(httpcore2.AsyncNetworkStream):
    """A connection, or the TLS of one. A subclass reads and writes. For one event loop."""

    def __init__(
        self, stream: httpcore2.AsyncNetworkStream, *, below: "InspectedStream | None" = None
    ) -> None:
        """`below`: the connection that this one is the TLS of."""
        self._stream = stream
        self._below = below
        self._tls: ssl.SSLObject | None = None if below is None else stream.get_extra_info("ssl_object")

    def holds_more(self) -> bool:
        """Whether bytes have come that the library has not read, apart from those in the kernel.

        It may read some of them: close a connection that holds more.
        """
        if self._tls is not None and (
            _tls_holds_more(self._tls) or self._stream.get_extra_info("is_inside_record")
        ):
            return True
        return self._below is not None and self._below.holds_more()

    async def aclose(self) -> None:
        """As every stream does."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore2's
    ) -> Self:
        """As every stream does."""
        return type(self)(await self._stream.start_tls(ssl_context, server_hostname, timeout), below=self)

    def get_extra_info(self, info: str) -> Any:
        """As every stream does."""
        return self._stream.get_extra_info(info)


class InspectedStreams(httpcore2.AsyncNetworkBackend):
    """Connects through `backend`, and returns streams that `inspect` has made of its own."""

    def __init__(
        self,
        backend: httpcore2.AsyncNetworkBackend,
        inspect: Callable[[httpcore2.AsyncNetworkStream], InspectedStream],
    ) -> None:
        self._backend = backend
        self._inspect = inspect

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore2's
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> InspectedStream:
        """As every backend does."""
        connected = await self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        return self._inspect(connected)


async def import_all() -> None:
    """Import what the HTTP library imports when it first connects: 30 ms, in which callbacks would wait."""
    with contextlib.suppress(httpcore2.ConnectError):  # nothing listens there
        await httpcore2.AnyIOBackend().connect_unix_socket(os.devnull)


def _tls_holds_more(tls: ssl.SSLObject) -> bool:
    """Whether an idle connection has something to decrypt, or has ended. A session ticket is read, and does not count.

    OpenSSL does not show a record that has come in part: the stream says that.
    """
    try:
        tls.read(1)
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLError:
        return True
    return True
