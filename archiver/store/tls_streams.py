"""TLS over a connection that reads no more than it is asked for."""

import asyncio
import functools
import ssl
from collections.abc import Callable
from typing import Any, Self, TypeVar

import httpcore2

_CIPHERED_BYTES = 64 * 1024
"""Read at once: a few records. They wait in memory until a reader takes them."""
_HEADER_BYTES = 5
"""Of a record; the last two say how many bytes follow."""
_Result = TypeVar("_Result")


class _Records:
    """Where the records end in the bytes that have come. OpenSSL does not say whether it holds a part of one."""

    def __init__(self) -> None:
        self._header = b""
        self._left = 0

    def add(self, ciphered: bytes) -> None:
        at = 0
        while at < len(ciphered):
            if self._left:
                taken = min(self._left, len(ciphered) - at)
                self._left -= taken
            else:
                taken = min(_HEADER_BYTES - len(self._header), len(ciphered) - at)
                self._header += ciphered[at : at + taken]
                if len(self._header) == _HEADER_BYTES:
                    self._left, self._header = int.from_bytes(self._header[-2:]), b""
            at += taken

    @property
    def is_inside(self) -> bool:
        """Whether the last record has come in part."""
        return bool(self._left or self._header)


class TlsStream(httpcore2.AsyncNetworkStream):
    """The TLS of a connection. For one event loop."""

    def __init__(
        self, stream: httpcore2.AsyncNetworkStream, context: ssl.SSLContext, server_hostname: str | None
    ) -> None:
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self._records = _Records()
        self._sending = asyncio.Lock()

    @classmethod
    async def begin(
        cls,
        stream: httpcore2.AsyncNetworkStream,
        context: ssl.SSLContext,
        server_hostname: str | None,
        *,
        seconds: float | None,
    ) -> Self:
        """Shake hands. `stream` is closed where that fails. Raises ConnectError, ConnectTimeout."""
        begun = cls(stream, context, server_hostname)
        try:
            async with asyncio.timeout(seconds):
                await begun._until_done(begun._tls.do_handshake, None)
        except BaseException as error:
            await stream.aclose()
            if isinstance(error, TimeoutError):
                raise httpcore2.ConnectTimeout from error
            if isinstance(error, ssl.SSLError | httpcore2.NetworkError):
                raise httpcore2.ConnectError(str(error)) from error
            raise
        return begun

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 -- httpcore2's
        """As every stream does: of all records that have come, not of one alone (16 KB)."""
        try:
            data = await self._until_done(functools.partial(self._tls.read, max_bytes), timeout)
        except ssl.SSLEOFError:  # many servers send no closing alert; the length of the body counts
            return b""
        except ssl.SSLError as error:
            raise httpcore2.ReadError(str(error)) from error
        pieces, left = [data], max_bytes - len(data)
        while data and left:
            try:
                data = self._tls.read(left)
            except ssl.SSLError:  # nothing more, or an error that the next read meets
                break
            pieces.append(data)
            left -= len(data)
        return b"".join(pieces)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- httpcore2's
        """As every stream does."""
        if not buffer:
            return
        try:
            await self._until_done(functools.partial(self._tls.write, buffer), timeout)
        except ssl.SSLError as error:
            raise httpcore2.WriteError(str(error)) from error

    async def _until_done(self, step: Callable[[], _Result], seconds: float | None) -> _Result:
        """What `step` returns once it has read and written what it needs. Raises SSLError, NetworkError."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                pass
            else:
                await self._send_ciphered(seconds)
                return result
            await self._send_ciphered(seconds)
            ciphered = await self._stream.read(_CIPHERED_BYTES, seconds)
            if ciphered:
                self._incoming.write(ciphered)
                self._records.add(ciphered)
            else:
                self._incoming.write_eof()

    async def _send_ciphered(self, seconds: float | None) -> None:
        if not self._outgoing.pending:
            return
        async with self._sending:  # a reader may have to answer while a writer sends
            if ciphered := self._outgoing.read():
                await self._stream.write(ciphered, seconds)

    async def aclose(self) -> None:
        """As every stream does."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore2's
    ) -> httpcore2.AsyncNetworkStream:
        """As every stream does: to a store behind a proxy that is itself reached by TLS."""
        return await TlsStream.begin(self, ssl_context, server_hostname, seconds=timeout)

    def get_extra_info(self, info: str) -> Any:
        """As every stream does. "is_inside_record": whether the last record has come in part."""
        if info == "is_inside_record":
            return self._records.is_inside
        return self._tls if info == "ssl_object" else self._stream.get_extra_info(info)
