"""`/api`: register and show tasks. It exists only if KLING_ADMIN_TOKEN is set.

    POST /api/tasks           {"task_id", "family", "external_task_id"?, "account"?, "request"?, "created_at"?}
    GET  /api/tasks/{id}      the same JSON as `kling-archiver show ID --json`; ?account= if several have the id

1. The token is checked first: without it, a client learns neither what exists nor whether its body was well-formed.
2. 200 is sent only after the commit. Registering is idempotent: a client without an answer repeats.
3. At most `LEDGER_CALLS_MAX` calls to the ledger run at once, in threads, so that callbacks hardly wait for the API.
"""

import asyncio
import contextlib
import functools
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from archiver import log
from archiver.create import registration
from archiver.create.registration import NotARegistration, Registration
from archiver.failures import LedgerUnavailable, TaskForgotten
from archiver.ledger import TaskView, Tombstone
from archiver.ledger.registrations import Registrations
from archiver.ledger.views import Views
from receiver.api.auth import AdminToken
from receiver.server import replies
from receiver.server.bodies import BodyProblem, announced_bytes, read_body
from receiver.server.replies import Reply

BODY_BYTES_MAX = 256 * 1024
BODY_SECONDS_MAX = 10.0
LEDGER_CALLS_MAX = 4

UNAUTHORIZED = Reply(
    401,
    1000,
    "The admin token is missing or wrong: Authorization: Bearer.",
    ((b"www-authenticate", b"Bearer"),),
)
UNKNOWN = Reply(404, 1203, "No task has this id or external id.")
AMBIGUOUS = replies.malformed("Several accounts have this id: say which with ?account=.")
FORGOTTEN = Reply(409, 1201, "This task was forgotten, and is not followed again.")
INVALID = replies.malformed("The body is no registration.")
NOT_NOW = Reply(503, 5001, "The ledger cannot be used now; please try again.", (replies.RETRY_AFTER,))
_PROBLEMS = {BodyProblem.TOO_LARGE: replies.TOO_LARGE, BodyProblem.TOO_SLOW: replies.TOO_SLOW}

_log = log.get()
_Result = TypeVar("_Result")


class Api:
    """`now` gives Unix ms; `on_registered(account)` runs after each commit; `links(task)` has those of its files, by
    stem."""

    def __init__(
        self,
        registrations: Registrations,
        views: Views,
        *,
        token: str,
        accounts: Sequence[str],
        now: Callable[[], int],
        on_registered: Callable[[str], None],
        links: Callable[[TaskView], Mapping[str, str]] = lambda _: {},
        operator_url: str | None = None,
    ) -> None:
        self._registrations = registrations
        self._views = views
        self._token = AdminToken(token)
        self._accounts = tuple(accounts)
        self._now = now
        self._on_registered = on_registered
        self._links = links
        self._operator_url = operator_url
        self._ledger_calls = asyncio.Semaphore(LEDGER_CALLS_MAX)

    def routes(self) -> list[Route]:
        return [
            Route("/api/tasks", self.register, methods=["POST"]),
            Route("/api/tasks/{id}", self.show, methods=["GET"]),
        ]

    async def register(self, request: Request) -> Response:
        if not self._token.is_in(request.headers.raw):
            return _Refusal(UNAUTHORIZED)
        body = await _body_of(request)
        if isinstance(body, BodyProblem):
            return _Refusal(_PROBLEMS.get(body, INVALID))
        try:
            task = registration.read(_json(body), now=self._now())
            account = self._account_of(task)
        except NotARegistration as error:
            return _Refusal(replies.malformed(str(error)))
        try:
            is_new = await self._call_ledger(functools.partial(self._commit, task, account=account))
        except TaskForgotten:
            return _Refusal(FORGOTTEN)
        except LedgerUnavailable as error:
            _log.error("ledger.unavailable", message=str(error))
            return _Refusal(NOT_NOW)
        _log.info("task.registered", account=account, task_id=task.task_id, family=task.family, new=is_new)
        return _success(
            {
                "task_id": task.task_id,
                "account": account,
                "family": task.family,
                "external_task_id": task.external_task_id,
                "new": is_new,
            }
        )

    async def show(self, request: Request) -> Response:
        if not self._token.is_in(request.headers.raw):
            return _Refusal(UNAUTHORIZED)
        identifier, account = request.path_params["id"], request.query_params.get("account")
        accounts = self._accounts if account is None else (account,)
        if not registration.is_identifier(identifier) or not set(accounts) <= set(self._accounts):
            return _Refusal(UNKNOWN)
        try:
            find = functools.partial(self._find, identifier, accounts=accounts)
            found, forgotten = await self._call_ledger(find)
        except LedgerUnavailable as error:
            _log.error("ledger.unavailable", message=str(error))
            return _Refusal(NOT_NOW)
        if not found and forgotten:
            return Response(json.dumps(forgotten[0].as_json()), media_type="application/json")
        if len(found) != 1:
            return _Refusal(AMBIGUOUS if found else UNKNOWN)
        shown = found[0].as_json(self._links(found[0]), operator_url=self._operator_url)
        return Response(json.dumps(shown), media_type="application/json")

    def _account_of(self, task: Registration) -> str:
        """The account that the registration names, or the only one. Raises NotARegistration."""
        names = ", ".join(self._accounts)
        if task.account is None and len(self._accounts) == 1:
            return self._accounts[0]
        if task.account is None:
            raise NotARegistration(f"account is missing, and there are several: {names}.")
        if task.account not in self._accounts:
            raise NotARegistration(f"account must be one of: {names}.")
        return task.account

    def _commit(self, task: Registration, *, account: str) -> bool:
        is_new = self._registrations.register(
            task.task_id,
            account=account,
            family=task.family,
            external_task_id=task.external_task_id,
            request=task.request,
            created_at=task.created_at,
        )
        self._on_registered(account)
        return is_new

    def _find(self, identifier: str, *, accounts: Sequence[str]) -> tuple[list[TaskView], list[Tombstone]]:
        shown = (self._views.show(identifier, account=account) for account in accounts)
        found = [task for task in shown if task is not None]
        if found:
            return found, []
        tombstones = (self._views.forgotten(identifier, account=account) for account in accounts)
        return [], [tombstone for tombstone in tombstones if tombstone is not None]

    async def _call_ledger(self, call: Callable[[], _Result]) -> _Result:
        """A disconnect does not cancel a call that has begun."""
        async with self._ledger_calls:
            return await asyncio.to_thread(call)


async def _body_of(request: Request) -> bytes | BodyProblem:
    if announced_bytes(request.headers.raw) > BODY_BYTES_MAX:
        return BodyProblem.TOO_LARGE
    return await read_body(request.receive, bytes_max=BODY_BYTES_MAX, seconds_max=BODY_SECONDS_MAX)


def _json(body: bytes) -> object:
    """Raises NotARegistration, also for a 5000-digit number or 5000 nested lists."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
    raise NotARegistration("The body is not JSON.")


def _refuse_constant(_name: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


class _Refusal(Response):
    """Sent so that a client with unsent body bytes can still read it."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(status_code=reply.status)
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- as in Response
        await replies.send_early(self._reply, receive, send)


def _success(data: Mapping[str, object]) -> Response:
    """`data` in the envelope of Kling's own API."""
    envelope = {"code": 0, "message": "ok", "request_id": str(uuid.uuid4())}
    return Response(json.dumps({**envelope, "data": data}), media_type="application/json")
