"""Kling's API, its CDN and the bucket, in process and on the timeline: cheap enough for millions of calls.

Each replaces the first thing that is not our code: the API is the HTTP transport of the real client, the CDN the
connections of the real fetcher, the bucket the checking fake store. Their answers take time on the timeline.
"""

import contextlib
import email.utils
import random
import ssl
from collections.abc import Callable, Iterator

import httpcore2
import httpx2

from archiver.failures import BucketForbidden, BucketMissing, Failure, StoreError, StoreUnreachable
from archiver.fetch.connecting import BoundedStream
from archiver.fetch.connections import HttpExchange, SplitStream
from archiver.fetch.fetcher import SECONDS_MAX, Fetcher
from archiver.fetch.pace import Allowance
from archiver.fetch.spool import Spool
from archiver.fetch.urls import EgressPolicy, VettedUrl
from archiver.store import Put, Upload
from tests.deadlines.world import Part, Upstream, World
from tests.harness.fake_store import FakeObject, FakeStore
from tests.simulator.media import media

ANSWER_SECONDS = 0.2
STORE_SECONDS = 0.02
SSL_CONTEXT = ssl.create_default_context()
"""Never used, but made once: loading the certificates takes longer than a simulated day."""
HTML = b"<html>bad gateway</html>"
REFUSALS = {
    # kind of outage: HTTP status, code
    "server_error": (500, 5000),
    "maintenance": (503, 5001),
    "key_refused": (401, 1002),
    "arrears": (429, 1101),
}
TOO_FAST_SECONDS = 4.0
"""In a storm the API refuses (1302) a call that comes sooner than this after the last accepted one."""


class Api(httpx2.BaseTransport):
    """The API of one account."""

    def __init__(self, world: World) -> None:
        self.calls = 0
        self.refused = 0
        self._world = world
        self._accepted_at = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.calls += 1
        self._world.timeline.sleep(ANSWER_SECONDS)
        kind = self._world.trouble(Part.API)
        if kind is None and self._world.is_storming() and not self._accepts():
            self.refused += 1
            return self._answer(429, _envelope(1302))
        if kind is not None:
            return self._fail(kind)
        path = request.url.path
        page = request.url.params.get("pageNum")
        return self._task(path) if page is None else self._list(path, page, request.url.params["pageSize"])

    def _accepts(self) -> bool:
        now = self._world.timeline.now
        if now - self._accepted_at < TOO_FAST_SECONDS * 1000:
            return False
        self._accepted_at = now
        return True

    def _fail(self, kind: str) -> httpx2.Response:
        if kind == "unreachable":
            raise httpx2.ConnectError("refused")
        if kind == "silent":
            self._world.timeline.sleep(15)
            raise httpx2.ReadTimeout("silent")
        if kind == "gateway":
            return self._answer(502, HTML)
        status, code = REFUSALS[kind]
        return self._answer(status, _envelope(code))

    def _list(self, path: str, page: str, size: str) -> httpx2.Response:
        world = self._world
        rows = world.listed(path.removeprefix("/v1/"), page=int(page), rows=min(int(size), world.page_rows))
        documents = [task.document(world.timeline.now) for task in rows]
        return self._answer(200, _envelope(0, b"[" + b",".join(documents) + b"]"))

    def _task(self, path: str) -> httpx2.Response:
        family, _, task_id = path.removeprefix("/v1/").rpartition("/")
        task = self._world.found(family, task_id)
        if task is None:
            return self._answer(400, _envelope(1201))
        return self._answer(200, _envelope(0, task.document(self._world.timeline.now)))

    def _answer(self, status: int, body: bytes) -> httpx2.Response:
        date = email.utils.formatdate(self._world.timeline.now / 1000, usegmt=True)
        return httpx2.Response(status, content=body, headers={"Date": date})


def _envelope(code: int, data: bytes = b"null") -> bytes:
    return b'{"code":%d,"message":"task id","request_id":"r","data":%s}' % (code, data)


class Cdn(Fetcher):
    """The real fetcher with simulated connections."""

    def __init__(self, world: World, spool: Spool, *, transfer_seconds: float) -> None:
        suffixes = ["klingai.com", "kechuangai.com", "inkwai.com"]
        timeline = world.timeline
        super().__init__(
            policy=EgressPolicy.parse(suffixes),
            spool=spool,
            clock=lambda: timeline.now / 1000,
            ssl_context=SSL_CONTEXT,
        )
        self.calls = 0
        self._world = world
        self._transfer_seconds = transfer_seconds

    @contextlib.contextmanager
    def _get(self, vetted: VettedUrl, transfer: Allowance) -> Iterator[HttpExchange]:
        self.calls += 1
        host = vetted.origin.host
        kind = self._world.trouble(Part.CDN, host=host)
        if kind == "silent":
            self._world.timeline.sleep(5)
            raise httpcore2.ConnectTimeout("silent")
        task = self._world.tasks[vetted.target.decode().partition("/bs2/")[2].partition(".png")[0]]
        if task.trouble == "dripping":
            self._world.timeline.sleep(SECONDS_MAX)
            raise httpcore2.ReadTimeout("too slow as a whole")
        self._world.timeline.sleep(self._transfer_seconds)
        if kind == "unreachable":
            raise httpcore2.ConnectError("refused")
        stream = SplitStream(BoundedStream(httpcore2.MockStream([])))
        yield HttpExchange(self._answer(kind or task.trouble, task), stream, transfer=transfer)

    def _answer(self, kind: str | None, task: Upstream) -> httpcore2.Response:
        now = self._world.timeline.now
        if now >= task.deadline_at or kind == "gone":
            return httpcore2.Response(404)
        if kind is not None and kind != "unstorable":
            status = {"server_error": 503, "forbidden": 403, "html": 200}[kind]
            return httpcore2.Response(status, content=HTML)
        if now < task.heals_at:
            return httpcore2.Response(200, content=HTML)
        return httpcore2.Response(200, content=media(f"{int(task.task_id) % 50}", "png", (1, 1)))


STORE_FAILURES: dict[str, Callable[[str], Failure]] = {
    "unreachable": StoreUnreachable,
    "slow_down": StoreError,
    "missing": BucketMissing,
    "forbidden": BucketForbidden,
}


class Bucket(FakeStore):
    """The checking fake store, with an index of folders, and with delays.

    A put waits before and after it happens, so a killed daemon may leave either state.
    """

    def __init__(self, world: World, rand: random.Random) -> None:
        super().__init__(self._hook)
        self.calls = 0
        self._world = world
        self._rand = rand
        self._folders: dict[str, dict[str, int]] = {}

    def _hook(self, operation: str, key: str) -> tuple[bool, BaseException | None]:
        self.calls += 1
        self._world.timeline.sleep(STORE_SECONDS)
        kind = self._world.trouble(Part.STORE)
        if kind is None and operation == "put" and self._task_of(key).trouble == "unstorable":
            kind = "forbidden"
        if kind is None:
            return True, None
        error = STORE_FAILURES[kind](f"{operation} {key}: {kind}")
        has_happened = kind == "slow_down" and operation == "put" and self._rand.random() < 0.5
        return has_happened, error

    def _task_of(self, key: str) -> Upstream:
        return self._world.tasks[key.rpartition("/")[0].rpartition("/")[2]]

    def put(self, upload: Upload, *, look_first: bool) -> Put:
        done = super().put(upload, look_first=look_first)
        self._world.timeline.sleep(STORE_SECONDS)
        return done

    def list(self, folder: str) -> dict[str, int]:
        self.ask("list", folder)
        return dict(self._folders.get(folder, {}))

    def _put(self, key: str, offered: FakeObject, *, look_first: bool) -> Put:
        done = super()._put(key, offered, look_first=look_first)
        folder, _, name = key.rpartition("/")
        self._folders.setdefault(f"{folder}/", {})[key] = done.bytes
        if name == "manifest.json":
            task = self._task_of(key)
            task.archived_at = task.archived_at or self._world.timeline.now
        return done
