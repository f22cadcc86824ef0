"""A load generator in its own process: raw HTTP/1.1 over keep-alive connections, answers counted and timed.

With `--rate 0` it sends as fast as answers come (closed loop). With a rate it sends at that rate even if answers are
late (open loop), so that queueing shows in the latency. Prints one JSON line.
"""

import argparse
import asyncio
import collections
import json
import pathlib
import sys
import time
from typing import cast

import uvloop

BODY = (
    b'{"task_id":"%018d","task_status":"succeed","task_status_msg":"","task_info":{},"created_at":%d,'
    b'"updated_at":%d,"task_result":{"images":[{"index":0,"url":"https://s15-kling.klingai.com/bs2/a.png?x=1"}],'
    b'"videos":[],"audios":[]}}'
)


GATEWAY_BODY = b'{"model_name":"kling-v2","prompt":"%s %018d"}'
_PROMPT = b"a cat on a roof, " * 60


class Connection(asyncio.Protocol):
    """One keep-alive connection: in a closed loop at most one request under way, in an open loop any number."""

    def __init__(self, run: "Run") -> None:
        self.run = run
        self.sent_at: collections.deque[float] = collections.deque()
        self.left = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's transports are no subclass
        if self.run.rate == 0:
            self.send()

    def send(self) -> None:
        self.sent_at.append(time.perf_counter())
        self.transport.write(self.run.request())

    def data_received(self, data: bytes) -> None:
        data = self.left + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head = data[:end].lower()
            at = head.index(b"content-length:") + 15
            length = int(head[at : head.find(b"\r\n", at) if head.find(b"\r\n", at) > 0 else None])
            if len(data) < end + 4 + length:
                break
            data = data[end + 4 + length :]
            self.run.answered(head[9:12], time.perf_counter() - self.sent_at.popleft())
            if self.run.rate == 0 and self.run.going:
                self.send()
        self.left = data


class Run:
    """One measurement."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.host, self.port, self.path = arguments.host, arguments.port, arguments.path
        self.connections, self.seconds, self.rate = arguments.connections, arguments.seconds, arguments.rate
        self.links = (
            [line.encode() for line in arguments.links.read_text().split()] if arguments.links else []
        )
        self.number = arguments.first_id
        self.kind, self.authorization = arguments.kind, arguments.authorization
        self.going = True
        self.statuses: collections.Counter[str] = collections.Counter()
        self.latencies: list[float] = []

    def request(self) -> bytes:
        self.number += 1
        if self.links:
            return b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % self.links[self.number % len(self.links)]
        line = f"GET {self.path}/{self.number:018d}" if self.kind == "query" else f"POST {self.path}"
        head = f"{line} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
        if self.authorization:
            head += f"Authorization: {self.authorization}\r\n"
        body = self.body()
        return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def body(self) -> bytes:
        if self.kind == "callback":
            now = int(time.time() * 1000)
            return BODY % (self.number, now, now)
        return GATEWAY_BODY % (_PROMPT, self.number) if self.kind == "create" else b""

    def answered(self, status: bytes, seconds: float) -> None:
        self.statuses[status.decode()] += 1
        self.latencies.append(seconds)

    async def measure(self) -> None:
        loop = asyncio.get_running_loop()
        made = [
            await loop.create_connection(lambda: Connection(self), self.host, self.port)
            for _ in range(self.connections)
        ]
        began = time.perf_counter()
        if self.rate:
            await self._send_at_rate([connection for _, connection in made])
        else:
            await asyncio.sleep(self.seconds)
        self.going = False
        took = time.perf_counter() - began
        answered = len(self.latencies)
        await asyncio.sleep(1)
        for transport, _ in made:
            transport.close()
        self.report(answered, took)

    async def _send_at_rate(self, connections: list[Connection]) -> None:
        """Due times are fixed beforehand, so a slow answer does not delay the next request."""
        began, total = time.perf_counter(), int(self.rate * self.seconds)
        for number in range(total):
            due = began + number / self.rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            connections[number % len(connections)].send()

    def report(self, answered: int, took: float) -> None:
        ordered = sorted(self.latencies)
        figures = {
            "per_second": answered / took,
            "p50_ms": ordered[len(ordered) // 2] * 1000,
            "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000,
            "statuses": dict(self.statuses),
        }
        sys.stdout.write(json.dumps(figures) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/")
    parser.add_argument(
        "--links", type=pathlib.Path, help="a file of paths to GET in turn, in place of --path"
    )
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float, default=0, help="requests a second; 0: as fast as answers come")
    parser.add_argument("--kind", choices=["callback", "create", "query"], default="callback")
    parser.add_argument("--authorization", default="", help="the value of the header")
    parser.add_argument("--first-id", type=int, default=0)
    uvloop.run(Run(parser.parse_args()).measure())


if __name__ == "__main__":
    main()
