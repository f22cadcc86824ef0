"""The API paths: create, single query, list, and `/tasks`. Every answer is the documented envelope.

Order of the checks, as far as it is known: method, credentials, parameters, existence. A refusal is a `Refusal`;
nothing else is raised on purpose, so that whatever else is raised is a defect of the simulator and complained of.
"""

import asyncio
import dataclasses
import hashlib
import json
import re
import urllib.parse
import uuid
from collections.abc import Callable, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.simulator.account import RETENTION_MS, Account, SimulatedFile, SimulatedTask
from tests.simulator.cdn import Cdn
from tests.simulator.creating import CreateRefused, create
from tests.simulator.documents import (
    created_document,
    json_bytes,
    legacy_document,
    new_standard_document,
    solution_document,
)
from tests.simulator.families import FAMILIES, LEGACY, Family
from tests.simulator.request_log import RequestLog, SeenCreate
from tests.simulator.signing import is_api_key, token_fault


class Refusal(Exception):
    """A documented error: HTTP status, code, text."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """What opens the account."""

    access_key: str
    secret_key: str
    api_key: str


def envelope(data: object) -> Response:
    """Code 0 around `data`."""
    body = {"code": 0, "message": "SUCCEED", "request_id": str(uuid.uuid4()), "data": data}
    return Response(json_bytes(body), media_type="application/json")


def _refuse(status: int, code: int, message: str) -> Response:
    body = {"code": code, "message": message, "request_id": str(uuid.uuid4())}
    return Response(json_bytes(body), status_code=status, media_type="application/json")


class Api:
    """The endpoints over one account. `origin` gives the scheme and host of result URLs."""

    def __init__(
        self, account: Account, *, log: RequestLog, credentials: Credentials, origin: str, prefix: str
    ) -> None:
        self._account = account
        self._log = log
        self._credentials = credentials
        self._origin = origin
        self._prefix = prefix

    def app(self) -> Starlette:
        """The application with all routes, the CDN's among them."""
        routes = [Route("/cdn/{path:path}", Cdn(self._account, log=self._log).file)]
        for family in LEGACY.values():
            path = f"{self._prefix}/v1/{family.path}"
            routes.append(Route(path, self._collection(family), methods=["GET", "POST"]))
            routes.append(Route(f"{path}/{{key:path}}", self._single(family)))
        routes.append(Route(f"{self._prefix}/text-to-video/{{model}}", self._new_create, methods=["POST"]))
        for collection in ("tasks", "solutions"):
            path = f"{self._prefix}/{collection}"
            routes.append(Route(path, self._questions(collection), methods=["GET", "POST"]))
        handlers = {Refusal: self._refused, HTTPException: self._not_routed, Exception: self._crashed}
        return Starlette(routes=routes, exception_handlers=handlers)

    # --- errors ---

    async def _refused(self, request: Request, error: Exception) -> Response:
        del request
        assert isinstance(error, Refusal)
        return _refuse(error.status, error.code, error.message)

    async def _not_routed(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            self._log.complain(f"wrong method: {request.method} {request.url.path}")
            return _refuse(404, 1202, "request method is invalid")
        return _refuse(404, 1203, "requested resource does not exist")

    async def _crashed(self, request: Request, error: Exception) -> Response:
        self._log.complain(f"the simulator crashed on {request.method} {request.url.path}: {error!r}")
        return _refuse(500, 5000, "server internal error")

    # --- the legacy standard ---

    def _collection(self, family: Family) -> Callable[[Request], object]:
        async def answer(request: Request) -> Response:
            self._authorize(request)
            if request.method == "POST":
                return await self._create(family, request)
            if not self._account.switches.lists_offered:
                return self._unoffered()
            return self._list(family, request)

        return answer

    def _single(self, family: Family) -> Callable[[Request], object]:
        async def answer(request: Request) -> Response:
            self._authorize(request)
            if request.scope["query_string"]:
                self._log.complain(f"unknown query parameters: {request.url.path}")
            raw = request.scope["raw_path"].decode("ascii", "replace")
            segment = raw.removeprefix(f"{self._prefix}/v1/{family.path}/")
            key = urllib.parse.unquote(segment)
            with self._account.lock:
                task = None if "/" in segment else self._account.find(key)
                if task is None or task.family is not family:
                    raise Refusal(400, 1201, f"task not found by task_id or external_task_id: {key}")
                return envelope(legacy_document(task, sign=self._sign(task), in_list=False))

        return answer

    def _list(self, family: Family, request: Request) -> Response:
        page, size = _page(request, self._log)
        with self._account.lock:
            most = self._account.switches.list_page_rows_max
            size = size if most is None else min(size, most)
            rows = self._account.tasks(family.path)[(page - 1) * size : page * size]
            return envelope(
                [legacy_document(task, sign=self._sign(task), in_list=True) for task in rows if task.listed]
            )

    async def _create(self, family: Family, request: Request) -> Response:
        return envelope(created_document(await self._created(family, request)))

    async def _new_create(self, request: Request) -> Response:
        """Of the new standard: its answer says `id`."""
        self._authorize(request)
        if not is_api_key(request.headers.get("authorization"), self._credentials.api_key):
            raise Refusal(401, 1002, "AK/SK is not supported on this path, use an API Key")
        task = await self._created(FAMILIES["tasks/video"], request)
        return envelope({"id": task.task_id, "status": "submitted", "create_time": task.created_at})

    async def _created(self, family: Family, request: Request) -> SimulatedTask:
        body = await _json_object(request, self._log)
        self._log.creates.append(seen_create(request.url.path, body))
        try:
            task = create(self._account, family, body, complain=self._log.complain)
        except CreateRefused as error:
            raise Refusal(error.status, error.code, error.message) from error
        await asyncio.sleep(self._account.switches.create_seconds)
        return task

    # --- the new standard's queries ---

    def _questions(self, collection: str) -> Callable[[Request], object]:
        """GET and POST of `/tasks` or `/solutions`."""

        async def answer(request: Request) -> Response:
            if not self._account.switches.tasks_offered:
                return self._unoffered()
            self._authorize(request)
            if not is_api_key(request.headers.get("authorization"), self._credentials.api_key):
                self._log.complain(f"AK/SK on /{collection}")
                raise Refusal(401, 1002, "AK/SK is not supported on this path, use an API Key")
            if request.method == "GET":
                return self._by_id(collection, request)
            return self._by_time(collection, await _json_object(request, self._log))

        return answer

    def _by_id(self, collection: str, request: Request) -> Response:
        given = request.query_params
        for name in given:
            if name not in ("task_ids", "external_task_ids"):
                self._log.complain(f"unknown query parameter for /{collection}: {name}")
        kinds = [name for name in ("task_ids", "external_task_ids") if given.get(name)]
        keys = given[kinds[0]].split(",") if len(kinds) == 1 else []
        if not 1 <= len(keys) <= 20:
            raise Refusal(400, 1201, "give 1 to 20 task_ids or external_task_ids")
        with self._account.lock:
            found = [self._account.find(key) for key in keys]
            named = [
                task
                for key, task in zip(keys, found, strict=True)
                if task is not None
                and self._is_shown(collection, task)
                and key == (task.task_id if kinds[0] == "task_ids" else task.external_task_id)
            ]
            return envelope([self._document(collection, task) for task in named])

    def _by_time(self, collection: str, body: dict[str, object]) -> Response:
        for name in body:
            if name not in ("start_time", "end_time", "cursor", "limit", "filters"):
                self._log.complain(f"unknown parameter for /{collection}: {name}")
        limit = _whole(body.get("limit"), default=100 if collection == "tasks" else 500)
        if not 1 <= limit <= 500:
            raise Refusal(400, 1201, "limit must be between 1 and 500")
        now, switches = self._account.now_ms(), self._account.switches
        times = (
            _whole(body.get("start_time"), default=now - RETENTION_MS),
            _whole(body.get("end_time"), default=now),
        )
        start_at, window = _cursor(_text(body.get("cursor")), times)
        size = limit if switches.list_page_rows_max is None else min(limit, switches.list_page_rows_max)
        if switches.limit_ignored:
            size = len(self._account.tasks())
        if switches.cursor_pages_max is not None and start_at > switches.cursor_pages_max * size:
            raise Refusal(400, 1201, "cursor expired")
        with self._account.lock:
            rows = [
                task
                for task in self._account.tasks()
                if self._is_shown(collection, task)
                and self._is_within(collection, task, window)
                and _passes(task, body.get("filters"))
            ]
            rows.sort(key=self._order(window), reverse=switches.list_order == "newest_first")
            page = rows[start_at : start_at + size]
            more = start_at + size < len(rows)
            if not page:
                return envelope({"count": 0, "has_more": False})  # seen on a live account: no `result` at all
            return envelope(
                {
                    "result": [self._document(collection, task) for task in page if task.listed],
                    "count": len(page),
                    "next_cursor": f"{window[0]}.{window[1]}.{start_at + size}" if more else "",
                    "has_more": more,
                }
            )

    def _is_shown(self, collection: str, task: SimulatedTask) -> bool:
        if collection == "solutions":
            return task.family.standard == "solution"
        return task.family.standard in self._account.switches.tasks_show

    def _is_within(self, collection: str, task: SimulatedTask, window: tuple[int, int]) -> bool:
        switches = self._account.switches
        with_start, with_end = (True, False) if collection == "solutions" else switches.window_bounds
        at: int = getattr(task, switches.window_time)
        return (
            window[0] < at < window[1] or (with_start and at == window[0]) or (with_end and at == window[1])
        )

    def _order(self, window: tuple[int, int]) -> Callable[[SimulatedTask], tuple[int, str]]:
        """By age; shuffled anew for every window, but the same for all pages of one: a cursor stands for a place."""
        if self._account.switches.list_order == "shuffled":
            return lambda task: (0, hashlib.sha256(f"{window}{task.task_id}".encode()).hexdigest())
        return lambda task: (task.created_at, task.task_id)

    def _document(self, collection: str, task: SimulatedTask) -> object:
        if task.override is not None:
            return task.override
        if collection == "solutions":
            return solution_document(task, sign=self._sign(task), shape=self._account.switches.solution_shape)
        return new_standard_document(task, sign=self._sign(task))

    def _unoffered(self) -> Response:
        """What a gateway says where it passes nothing on."""
        answer = self._account.switches.unoffered_answer
        if answer == "html":
            return Response("<html><body>Welcome</body></html>", media_type="text/html")
        return Response("<html>not here</html>", status_code=int(answer), media_type="text/html")

    # --- what they share ---

    def _authorize(self, request: Request) -> None:
        fault = token_fault(
            request.headers.get("authorization"),
            access_key=self._credentials.access_key,
            secret_key=self._credentials.secret_key,
            api_key=self._credentials.api_key,
            now=self._account.now(),
        )
        if fault is not None:
            raise Refusal(401, *fault)
        given = request.headers.get("authorization")
        if not self._account.switches.tokens_taken and not is_api_key(given, self._credentials.api_key):
            raise Refusal(401, 1000, "give a static key")

    def _sign(self, task: SimulatedTask) -> Callable[[SimulatedFile], str]:
        return lambda file: self._account.url(task, file, origin=self._origin)


async def _json_object(request: Request, log: RequestLog) -> dict[str, object]:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        log.complain(f"body without Content-Type application/json: {request.method} {request.url.path}")
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise Refusal(400, 1200, "the body is not JSON") from error
    if not isinstance(body, dict):
        raise Refusal(400, 1200, "the body is not a JSON object")
    return body


def seen_create(path: str, body: Mapping[str, object]) -> SeenCreate:
    """What is kept of a create, whatever else its body has."""
    options = body.get("options")
    given = {**(options if isinstance(options, dict) else {}), **body}
    prompt, external_id = given.get("prompt"), given.get("external_task_id")
    return SeenCreate(
        path,
        prompt if isinstance(prompt, str) else None,
        external_id if isinstance(external_id, str) else None,
        given.get("callback_url"),
    )


def _page(request: Request, log: RequestLog) -> tuple[int, int]:
    given = {"pageNum": ("1", 1000), "pageSize": ("30", 500)}
    numbers = []
    for name, _ in request.query_params.multi_items():
        if name not in given:
            log.complain(f"unknown query parameter: {name} on {request.url.path}")
    for name, (default, most) in given.items():
        values = request.query_params.getlist(name) or [default]
        if len(values) > 1 or not re.fullmatch(r"[0-9]{1,9}", values[0]) or not 1 <= int(values[0]) <= most:
            raise Refusal(400, 1201, f"{name} must be between 1 and {most}")
        numbers.append(int(values[0]))
    return numbers[0], numbers[1]


def _whole(value: object, *, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,15}", str(value)):
        raise Refusal(400, 1201, "not a whole number")
    return int(str(value))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _cursor(cursor: str | None, window: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """A cursor overrides the times, and remembers the window it came from."""
    if cursor is None:
        return 0, window
    if not re.fullmatch(r"[0-9]{1,15}\.[0-9]{1,15}\.[0-9]{1,9}", cursor):
        raise Refusal(400, 1201, "bad cursor")
    start, end, at = (int(part) for part in cursor.split("."))
    return at, (start, end)


def _passes(task: SimulatedTask, filters: object) -> bool:
    if filters is None:
        return True
    if not isinstance(filters, list):
        raise Refusal(400, 1201, "filters must be an array")
    status = "succeeded" if task.status == "succeed" else task.status
    area = task.family.path.partition("/")[0]
    product = "try_on" if task.family.path.endswith("try-on") else {"videos": "video"}.get(area, "image")
    actual = {"status": status, "product_type": product}
    for entry in filters:
        if not isinstance(entry, dict) or entry.get("key") not in actual:
            raise Refusal(400, 1201, "bad filter")
        values = entry.get("values")
        if not isinstance(values, list) or actual[entry["key"]] not in values:
            return False
    return True
