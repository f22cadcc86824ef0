"""A relay that adds latency: each answer of the server arrives `MILLISECONDS` later.

python -m tests.bench.distance PORT SERVER_PORT MILLISECONDS
"""

import asyncio
import dataclasses
import sys

import uvloop

PIECE_BYTES = 256 * 1024


@dataclasses.dataclass
class Call:
    """One connection: whether a request was sent since the last answer."""

    asked: bool = False


async def relay(port: int, server_port: int, delay_seconds: float) -> None:
    """Serve until killed."""

    async def questions(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, call: Call) -> None:
        while data := await reader.read(PIECE_BYTES):
            call.asked = True
            writer.write(data)
            await writer.drain()
        writer.close()

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, call: Call) -> None:
        while data := await reader.read(PIECE_BYTES):
            if call.asked:
                call.asked = False
                await asyncio.sleep(delay_seconds)
            writer.write(data)
            await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = Call()
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", server_port)
        await asyncio.gather(
            questions(reader, server_writer, call),
            answers(server_reader, writer, call),
            return_exceptions=True,
        )

    server = await asyncio.start_server(connected, "127.0.0.1", port, backlog=512, limit=PIECE_BYTES)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(relay(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) / 1000))
