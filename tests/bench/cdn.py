"""A CDN that costs almost no CPU: one PNG of the given size, made once, sent from memory.

`python -m tests.bench.cdn PORT BYTES`
"""

import asyncio
import os
import struct
import sys
import zlib

import uvloop

WIDTH = 1024


def png(size: int) -> bytes:
    """A whole PNG of about `size` bytes, which inflate as slowly as those of a photograph: 16 values, at random."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height = 2 * size // (1 + 3 * WIDTH)
    values = bytes(byte & 15 for byte in range(256))
    rows = b"".join(b"\0" + os.urandom(3 * WIDTH).translate(values) for _ in range(height))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, height, 8, 2, 0, 0, 0))
    packer = zlib.compressobj(strategy=zlib.Z_HUFFMAN_ONLY)
    pixels = packer.compress(rows) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


async def serve(port: int, body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(body)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(head)
                writer.write(body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), png(int(sys.argv[2]))))
