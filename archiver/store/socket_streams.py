"""Connections that read no more than they are asked for: what a reader does not take stays in the kernel and at the
store.

An event loop's own connections read on while a reader waits: uvloop reads up to 8 MB at once, 32 times 256 KB. 200
readers that took nothing held 138 MB.
"""

import asyncio
import os
import select
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any

import httpcore2

from archiver.store.tls_streams import TlsStream


class SocketStream(httpcore2.AsyncNetworkStream):
    """A connected socket. For one event loop."""

    def __init__(self, line: socket.socket) -> None:
        """`line` does not block, and belongs to the stream."""
        self._line = line
        self._awaited = set[asyncio.Future[None]]()
        """Of at most one reader and one writer."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 -- httpcore2's
        """As every stream does."""
        while True:
            try:
                return self._line.recv(max_bytes)
            except BlockingIOError:
                pass
            except OSError as error:
                raise httpcore2.ReadError(str(error)) from error
            loop = asyncio.get_running_loop()
            if not await self._is_ready(loop.add_reader, loop.remove_reader, timeout):
                raise httpcore2.ReadTimeout

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- httpcore2's
        """As every stream does."""
        left = memoryview(buffer)
        while left:
            try:
                left = left[self._line.send(left) :]
                continue
            except BlockingIOError:
                pass
            except OSError as error:
                raise httpcore2.WriteError(str(error)) from error
            loop = asyncio.get_running_loop()
            if not await self._is_ready(loop.add_writer, loop.remove_writer, timeout):
                raise httpcore2.WriteTimeout

    async def _is_ready(
        self, watch: Callable[..., object], unwatch: Callable[..., object], seconds: float | None
    ) -> bool:
        """False when the time is up."""
        ready = asyncio.get_running_loop().create_future()
        self._awaited.add(ready)
        watch(self._line, _set, ready)
        try:
            async with asyncio.timeout(seconds):
                await ready
        except TimeoutError:
            return False
        finally:
            self._awaited.discard(ready)
            if self._line.fileno() >= 0:
                unwatch(self._line)
        return True

    async def aclose(self) -> None:
        """As every stream does. A task that waits for the socket finds it closed."""
        if self._line.fileno() < 0:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._line)
        loop.remove_writer(self._line)
        self._line.close()
        for ready in self._awaited:
            _set(ready)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore2's
    ) -> httpcore2.AsyncNetworkStream:
        """As every stream does."""
        return await TlsStream.begin(self, ssl_context, server_hostname, seconds=timeout)

    def get_extra_info(self, info: str) -> Any:
        """As every stream does."""
        if info == "socket":
            return self._line
        if info == "is_readable":
            return _is_readable(self._line)
        return None


class SocketStreams(httpcore2.AsyncNetworkBackend):
    """Connects as httpcore2 does, and reads by `SocketStream`."""

    def __init__(self) -> None:
        self._backend = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore2's
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> SocketStream:
        """As every backend does."""
        connected = await self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        try:
            line = socket.socket(fileno=os.dup(connected.get_extra_info("socket").fileno()))
        except OSError as error:  # no descriptor is free
            await connected.aclose()
            raise httpcore2.ConnectError(str(error)) from error
        try:
            # The copy stays connected. The server has sent nothing that could be lost: it is asked first.
            await connected.aclose()
        except BaseException:
            line.close()
            raise
        line.setblocking(False)
        return SocketStream(line)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _is_readable(line: socket.socket) -> bool:
    """Whether something has come, or the connection has ended."""
    if line.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(line, select.POLLIN)
    return bool(poll.poll(0))
