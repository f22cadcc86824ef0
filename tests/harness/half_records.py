"""A peer by TLS whose answer is followed by the beginning of a record, as a network may cut it."""

import asyncio
import contextlib
import pathlib
import ssl
from collections.abc import AsyncIterator, Callable


class HalfRecords:
    """Answers each first request of a connection with `first` and so many bytes of the record of `second`, and each
    second request with the rest."""

    def __init__(self, certificate: pathlib.Path, *, first: bytes, second: bytes, sent_bytes: int) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._first, self._second, self._sent_bytes = first, second, sent_bytes
        self.opened = 0
        """So many connections."""

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Its port."""
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing, server_side=True)

        async def until_done(step: Callable[[], object]) -> None:
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    step()
                    return
                writer.write(outgoing.read())
                ciphered = await reader.read(65536)
                if not ciphered:
                    raise ConnectionError
                incoming.write(ciphered)

        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            await until_done(tls.do_handshake)
            while True:
                await until_done(lambda: tls.read(65536))
                tls.write(self._first)
                whole = outgoing.read()
                tls.write(self._second)
                record = outgoing.read()
                writer.write(whole + record[: self._sent_bytes])
                await until_done(lambda: tls.read(65536))
                writer.write(record[self._sent_bytes :])
