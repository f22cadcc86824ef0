"""Bodies on their way into the spool, which archiving needs too."""

import asyncio
import contextlib
import pathlib

from starlette.types import Message

from archiver.fetch.spool import MARGIN_BYTES_MAX, Space, Spool
from receiver.gateway.blocking import BlockingCalls
from receiver.gateway.exchange import RequestBody
from receiver.gateway.front.bodies import BODY_BYTES_MAX, BodyReader, SpoolUnusable
from receiver.server.bodies import BodyProblem

MIB = 1024 * 1024
ROOM = 950 * MIB


class SlowClient:
    """Announces the largest body, sends some of it, and waits."""

    headers = ((b"content-length", b"%d" % BODY_BYTES_MAX),)

    def __init__(self) -> None:
        self.waits = asyncio.Event()
        self._has_sent = False

    async def receive(self) -> Message:
        if self._has_sent:
            self.waits.set()
            await asyncio.Event().wait()
        self._has_sent = True
        return {"type": "http.request", "body": bytes(MIB + 1), "more_body": True}


async def begin(reader: BodyReader) -> "asyncio.Task[RequestBody | BodyProblem]":
    """An upload that waits for its client, or has ended."""
    client = SlowClient()
    upload = asyncio.create_task(reader.read(client.receive, client.headers))
    waits = asyncio.create_task(client.waits.wait())
    await asyncio.wait([upload, waits], return_when=asyncio.FIRST_COMPLETED)
    waits.cancel()
    return upload


async def upload_nine(spool: Spool) -> list[bool]:
    """Which of nine slow uploads are refused; beside the others, a download gets half of the room."""
    with contextlib.closing(BlockingCalls(4, name="files")) as files:
        reader = BodyReader(spool, files)
        uploads = [await begin(reader) for _ in range(9)]
        refused = [upload.done() and isinstance(upload.exception(), SpoolUnusable) for upload in uploads]
        spool.reserve(ROOM // 2).close()
        for upload in uploads:
            upload.cancel()
        await asyncio.gather(*uploads, return_exceptions=True)
    return refused


def test_slow_uploads_leave_half_of_the_spool_to_downloads(tmp_path: pathlib.Path) -> None:
    space = Space(free=ROOM + MARGIN_BYTES_MAX, total=100 * ROOM)
    spool = Spool(tmp_path, space=lambda _: space)

    assert asyncio.run(upload_nine(spool)) == [False] * 4 + [True] * 5
    assert spool.promised_bytes == 0
